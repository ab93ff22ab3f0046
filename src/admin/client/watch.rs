//! Rooms as they change: a table drawn anew on a terminal, else lines one below the other.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::http::Client;
use super::{Failure, Screen, all, one, table};
use crate::admin::overview::Overview;
use crate::drain::signals;
use crate::room::name::RoomName;

/// The most rooms drawn on a terminal, those with the longest lines first.
const MAX_DRAWN: usize = 30;

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
    let mut first = true;
    loop {
        tokio::select! {
            biased;
            _ = stops.next() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let looked = tokio::select! {
            biased;
            _ = stops.next() => return Ok(()),
            looked = look(client, room) => looked,
        };
        if first && let Err(failure) = looked {
            return Err(failure);
        }
        match json {
            true => write_object(&looked, out)?,
            false if screen.terminal => draw(client, &looked, every, screen, first, out)?,
            false => write_lines(&looked, first, out)?,
        }
        out.flush()?;
        first = false;
    }
}

type Looked = Result<Vec<Overview>, Failure>;

async fn look(client: &Client, room: Option<&RoomName>) -> Looked {
    match room {
        Some(room) => Ok(vec![one(client, room).await?]),
        None => all(client).await,
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

fn write_object(looked: &Looked, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let object = match looked {
        Ok(rooms) => json!({"at": now(), "rooms": rooms}),
        Err(failure) => json!({"at": now(), "error": failure.to_string()}),
    };
    writeln!(out, "{object}")
}

fn write_lines(looked: &Looked, first: bool, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let at = now();
    match looked {
        Ok(rooms) => {
            let lines = table::lines(rooms, false);
            for line in lines.iter().skip(usize::from(!first)).filter(|line| !line.is_empty()) {
                writeln!(out, "{at}  {line}")?;
            }
            Ok(())
        }
        Err(failure) => writeln!(out, "{at}  {failure}"),
    }
}

fn draw(
    client: &Client,
    looked: &Looked,
    every: Duration,
    screen: Screen,
    first: bool,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    // To the upper left, each line to its end, and what is below: nothing flickers.
    write!(out, "{}\x1b[H", if first { "\x1b[2J" } else { "" })?;
    let every = humantime::format_duration(every);
    let head = format!("{}   {}   every {every}, Ctrl-C ends", client.target().written(), now());
    let mut lines = vec![head, String::new()];
    match looked {
        Ok(rooms) => {
            let mut rooms: Vec<&Overview> = rooms.iter().collect();
            rooms.sort_by_key(|room| Reverse(room.counts.waiting));
            let hidden = rooms.len().saturating_sub(MAX_DRAWN);
            rooms.truncate(MAX_DRAWN);
            lines.extend(table::lines(rooms, screen.colour));
            if hidden > 0 {
                lines.push(format!("… and {hidden} more"));
            }
        }
        Err(failure) => lines.push(failure.to_string()),
    }
    for line in lines {
        writeln!(out, "{line}\x1b[K")?;
    }
    write!(out, "\x1b[J")
}
