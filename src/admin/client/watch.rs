//! Rooms as they change: a table drawn anew on a terminal, else lines one below the other.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::http::Client;
use super::{Failure, Screen, all, one, table};
use crate::admin::overview::Overview;
use crate::drain::signals;
use crate::room::name::RoomName;

/// Shows a room or all of them every so often, until SIGINT or SIGTERM. What fails at the first look is an error; later
/// on it is shown in place of the rooms, and asked for again.
pub(super) async fn watch(
    client: &Client,
    room: Option<&RoomName>,
    every: Duration,
    json: bool,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let mut stops = signals()?;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let size = screen.terminal.filter(|_| !json);
    let mut resizes = size.map(|_| signal(SignalKind::window_change())).transpose()?;
    let head = |at: &str| {
        format!(
            "{}   {at}   every {}, Ctrl-C ends",
            client.target().written(),
            humantime::format_duration(every)
        )
    };
    let mut last: Option<Look> = None;
    loop {
        let resized = tokio::select! {
            biased;
            _ = stops.next() => return Ok(()),
            () = resized(&mut resizes) => true,
            _ = ticks.tick() => false,
        };
        let first = last.is_none();
        let look = if let Some(seen) = last.take().filter(|_| resized) {
            seen
        } else {
            let rooms = tokio::select! {
                biased;
                _ = stops.next() => return Ok(()),
                looked = look(client, room) => looked,
            };
            Look { at: now(), rooms }
        };
        if first && let Err(failure) = look.rooms {
            return Err(failure);
        }
        match size {
            Some(size) => {
                // A new size may have left pieces of the old picture anywhere.
                let clear = if first || resized { "\x1b[2J" } else { "" };
                write!(out, "{clear}{}", picture(&head(&look.at), &look.rooms, size(), screen.colour))?;
            }
            None if json => write_object(&look, out)?,
            None => write_lines(&look, first, out)?,
        }
        out.flush()?;
        last = Some(look);
    }
}

/// What was seen, and when.
struct Look {
    at: String,
    rooms: Result<Vec<Overview>, Failure>,
}

async fn look(client: &Client, room: Option<&RoomName>) -> Result<Vec<Overview>, Failure> {
    match room {
        Some(room) => Ok(vec![one(client, room).await?]),
        None => Ok(all(client).await?.rooms),
    }
}

/// Waits for the terminal to change its size; for ever where there is none.
async fn resized(resizes: &mut Option<Signal>) {
    let told = match resizes {
        Some(resizes) => resizes.recv().await,
        None => None,
    };
    if told.is_none() {
        std::future::pending::<()>().await;
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

fn write_object(look: &Look, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let object = match &look.rooms {
        Ok(rooms) => json!({"at": look.at, "rooms": rooms}),
        Err(failure) => json!({"at": look.at, "error": failure.to_string()}),
    };
    writeln!(out, "{object}")
}

fn write_lines(look: &Look, first: bool, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let at = &look.at;
    match &look.rooms {
        Ok(rooms) => {
            let lines = table::lines(rooms, false, usize::MAX);
            for line in lines.iter().skip(usize::from(!first)).filter(|line| !line.is_empty()) {
                writeln!(out, "{at}  {line}")?;
            }
            Ok(())
        }
        Err(failure) => writeln!(out, "{at}  {failure}"),
    }
}

/// What is drawn on a terminal of so many rows and columns; the last row is the cursor's. Those with the longest lines
/// come first, and how many have no room is said.
fn picture(
    head: &str,
    looked: &Result<Vec<Overview>, Failure>,
    (rows, columns): (u16, u16),
    colour: bool,
) -> String {
    let (rows, columns) = (usize::from(rows.saturating_sub(1)).max(1), usize::from(columns));
    let cut = |line: &str| line.chars().take(columns).collect::<String>();
    // What is to be seen comes first: where there is little space, the table's heads stay away, then the head, and before
    // them the empty line between.
    let needed = looked.as_ref().map_or(1, |rooms| rooms.len().min(2));
    let spare = rows.saturating_sub(needed);
    let has_heads = looked.is_ok() && spare > 0;
    let around = spare.saturating_sub(usize::from(has_heads)).min(2);
    let mut lines: Vec<String> = [cut(head), String::new()].into_iter().take(around).collect();
    match looked {
        Ok(rooms) => {
            let mut rooms: Vec<&Overview> = rooms.iter().collect();
            rooms.sort_by_key(|room| Reverse(room.counts.waiting));
            let space = rows - around - usize::from(has_heads);
            let drawn = if rooms.len() > space { (space - 1).max(1) } else { rooms.len() };
            let hidden = rooms.len() - drawn;
            rooms.truncate(drawn);
            lines.extend(table::lines(rooms, colour, columns).into_iter().skip(usize::from(!has_heads)));
            if hidden > 0 && space > 1 {
                lines.push(cut(&format!("… and {hidden} more")));
            }
        }
        Err(failure) => lines.push(failure.to_string()),
    }
    // To the upper left, each line to its end, and what is below: nothing flickers.
    let mut picture = "\x1b[H".to_owned();
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(picture, "{line}\x1b[K");
    }
    picture.push_str("\x1b[J");
    picture
}
