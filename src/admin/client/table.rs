//! Rooms and the deny list as text for people: a table of all of them, or everything about one room.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Map, Value};

use super::Screen;
use crate::admin::denied::Told;
use crate::admin::overview::Overview;
use crate::guard::deny::Origin;
use crate::room::deny::written::Written;
use crate::room::policy::quoted;

/// What a cell is to look like, where colours are welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Plain,
    Bold,
    Notable,
    Alarming,
}

/// A cell, and how it looks.
type Cell = (String, Look);

const HEADS: [&str; 9] =
    ["ROOM", "STATE", "WAITING", "CALLED", "INSIDE", "GIVEN/S", "CALLED/S", "OLDEST", "NOTES"];
/// Numbers stand to the right.
const RIGHT: [bool; 9] = [false, false, true, true, true, true, true, true, false];

/// Writes rooms as a table, a line each.
pub(super) fn rooms(rooms: &[Overview], screen: Screen, out: &mut (dyn Write + Send)) -> io::Result<()> {
    for line in lines(rooms, screen.colour, usize::MAX) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The lines of the table, the first of them the heads; none is wider than `columns`.
pub(super) fn lines<'r>(
    rooms: impl IntoIterator<Item = &'r Overview>,
    colour: bool,
    columns: usize,
) -> Vec<String> {
    under(&HEADS, rooms.into_iter().map(cells), &RIGHT, colour, columns)
}

/// Rows below their heads, each column as wide as it has to be; which of them stand to the right.
fn under(
    heads: &[&str],
    rows: impl Iterator<Item = Vec<Cell>>,
    right: &[bool],
    colour: bool,
    columns: usize,
) -> Vec<String> {
    let heads: Vec<Cell> = heads.iter().map(|head| ((*head).to_owned(), Look::Bold)).collect();
    let count = heads.len();
    let rows: Vec<Vec<Cell>> = std::iter::once(heads).chain(rows).collect();
    let widths: Vec<usize> = (0..count)
        .map(|column| rows.iter().map(|row| row[column].0.chars().count()).max().unwrap_or(0))
        .collect();
    rows.iter().map(|row| aligned(row, &widths, right, colour, columns)).collect()
}

/// Writes entries of the deny list as a table, a line each.
pub(super) fn entries(entries: &[Told], screen: Screen, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let rows = entries.iter().map(|told| {
        let plain = |text: String| (text, Look::Plain);
        let source = match told.source {
            Origin::File => "file",
            Origin::Operators => "operators",
        };
        let until = told.entry.until.clone().unwrap_or_else(|| "for good".to_owned());
        vec![
            plain(whom(&told.entry)),
            plain(if told.over { format!("{until} (over)") } else { until }),
            plain(source.to_owned()),
            plain(told.hits.to_string()),
            plain(told.entry.note.as_deref().map(quoted).unwrap_or_default()),
        ]
    });
    let heads = ["REFUSED", "UNTIL", "SOURCE", "HITS", "NOTE"];
    for line in under(&heads, rows, &[false, false, false, true, false], screen.colour, usize::MAX) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Whom an entry means, in words.
pub(super) fn whom(entry: &Written) -> String {
    let understood = entry.clone().entry();
    understood.map_or_else(|_| "what a newer version knows".to_owned(), |entry| entry.whom.to_string())
}

fn aligned(row: &[Cell], widths: &[usize], right: &[bool], colour: bool, columns: usize) -> String {
    let mut line = String::new();
    let mut left = columns;
    for (((text, look), width), right) in row.iter().zip(widths).zip(right.iter().copied()) {
        if left == 0 {
            break;
        }
        let padding = " ".repeat(width.saturating_sub(text.chars().count()).min(left));
        // Cut here, where no colour's code can be cut in two.
        let text: String =
            text.chars().take(left.saturating_sub(if right { padding.len() } else { 0 })).collect();
        left = left.saturating_sub(width + 2);
        let code = match look {
            _ if !colour => None,
            Look::Plain => None,
            Look::Bold => Some(1),
            Look::Notable => Some(33),
            Look::Alarming => Some(31),
        };
        let shown = code.map_or_else(|| text.clone(), |code| format!("\x1b[{code}m{text}\x1b[0m"));
        let cell = if right { padding + &shown } else { shown + &padding };
        line.push_str(&cell);
        line.push_str("  ");
    }
    line.trim_end().to_owned()
}

fn cells(room: &Overview) -> Vec<Cell> {
    let counts = &room.counts;
    let inside = match (counts.inside, &room.policy.in_force["capacity"]) {
        (Some(inside), capacity) => format!("{inside}/{capacity}"),
        (None, _) => "-".to_owned(),
    };
    let oldest = room.oldest_waiting.as_ref().map_or_else(
        || "-".to_owned(),
        |oldest| format!("{}{}", if oldest.at_least { ">" } else { "" }, age(oldest.seconds)),
    );
    let plain = |text: String| (text, Look::Plain);
    vec![
        plain(room.room.clone()),
        state(room),
        plain(counts.waiting.to_string()),
        plain(counts.called.to_string()),
        plain(inside),
        plain(rate(room.rates.given_per_second)),
        plain(rate(room.rates.called_per_second)),
        plain(oldest),
        notes(room),
    ]
}

fn state(room: &Overview) -> Cell {
    match () {
        () if room.snapshot.cut_off => ("cut off".to_owned(), Look::Alarming),
        () if room.policy.in_force["mode"] == "off" => ("off".to_owned(), Look::Notable),
        () if room.paused => ("paused".to_owned(), Look::Notable),
        () => ("running".to_owned(), Look::Plain),
    }
}

/// What is out of the ordinary.
fn notes(room: &Overview) -> Cell {
    let mut notes = Vec::new();
    let mut look = Look::Plain;
    if room.policy.operator.is_some() {
        (notes, look) = (vec!["operator's limits".to_owned()], Look::Notable);
    }
    if room.last_loss.as_ref().is_some_and(|loss| loss.healing && !loss.made_from_nothing) {
        notes.push("healing".to_owned());
        look = Look::Alarming;
    }
    if room.divergence.elsewhere.is_some() || !room.divergence.here.is_empty() {
        notes.push("limits diverge".to_owned());
        look = Look::Alarming;
    }
    // Where it is asked for it is renewed, so an old one could not be.
    if room.snapshot.age_seconds > 5.0 {
        notes.push(format!("{} old", age(room.snapshot.age_seconds)));
        look = Look::Alarming;
    }
    (notes.join(", "), look)
}

/// Writes everything about one room.
pub(super) fn room(room: &Overview, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let mut line = |key: &str, value: &str| writeln!(out, "{key:<12} {value}");
    line("room", &room.room)?;
    let (state, _) = state(room);
    line("state", &state)?;
    let counts = &room.counts;
    let inside = counts.inside.map_or_else(|| "not counted".to_owned(), |inside| inside.to_string());
    line("waiting", &counts.waiting.to_string())?;
    line("called", &counts.called.to_string())?;
    line("inside", &inside)?;
    line("given", &format!("{} numbers in generation {}", counts.given, room.generation))?;
    if let Some(oldest) = &room.oldest_waiting {
        let least = if oldest.at_least { " at least: they came before this replica looked" } else { "" };
        line("oldest", &format!("waits for {}{least}", age(oldest.seconds)))?;
    }
    let rates = &room.rates;
    let limit =
        rates.limit_per_second.map_or_else(|| "no limit".to_owned(), |limit| format!("limit {limit}/s"));
    line(
        "rates",
        &format!(
            "given {}/s, called {}/s ({limit})",
            rate(rates.given_per_second),
            rate(rates.called_per_second)
        ),
    )?;
    line("in force", &limits(&room.policy.in_force))?;
    line("stated", &format!("{} (by {})", limits(&room.policy.stated), room.policy.source))?;
    let own = room.policy.operator.as_ref().map(|own| serde_json::json!(own));
    let own = own.as_ref().and_then(Value::as_object).map_or_else(|| "none".to_owned(), limits);
    line("operator", &own)?;
    if let Some(loss) = &room.last_loss {
        let what = if loss.made_from_nothing { "made from nothing" } else { "part of the past was lost" };
        let healing = if loss.healing { "; old tickets are still honoured" } else { "" };
        line("last loss", &format!("{}, {} ago: {what}{healing}", loss.at, age(loss.seconds_ago)))?;
    }
    for other in &room.divergence.here {
        line("diverges", &format!("here: {}", limits(other)))?;
    }
    if let Some(other) = &room.divergence.elsewhere {
        line("diverges", &format!("elsewhere: {}", limits(other)))?;
    }
    line("snapshot", &format!("{}, {} old", room.snapshot.at, age(room.snapshot.age_seconds)))
}

/// What is set of some limits, as `key=value`.
fn limits(limits: &Map<String, Value>) -> String {
    let set = limits.iter().filter(|(_, value)| !value.is_null());
    let words = set.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(&value.to_string())));
    words.collect::<Vec<_>>().join(" ")
}

fn rate(per_second: Option<f64>) -> String {
    per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

/// Whole seconds, or a tenth below ten.
fn age(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    let whole =
        Duration::try_from_secs_f64(seconds).map_or(Duration::MAX, |age| Duration::from_secs(age.as_secs()));
    humantime::format_duration(whole).to_string()
}
