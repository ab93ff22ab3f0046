//! The operators' client, `anteroom rooms` and `anteroom deny`: asks an admin listener, and shows what it answers.

mod deny;
mod http;
mod table;
mod watch;

pub use self::http::Target;

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use ::http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::http::Client;
use super::overview::{List, Overview};
use crate::room::deny::written::Written;
use crate::room::name::RoomName;
use crate::room::state::Limits;

/// Exit status: it was refused, or there is no such room.
const REFUSED: u8 = 1;
/// Exit status: nothing was done, as nobody answered as an admin listener does, or nothing could be shown.
const UNREACHABLE: u8 = 2;
/// Exit status: a control was sent, and what came of it is not known here, or could not be written.
const UNSURE_STATUS: u8 = 3;
/// What is said then.
const UNSURE: &str = "it may have been done or not: look before asking again";

/// What is to be asked of whom.
pub struct Order {
    /// The admin listener.
    pub target: Target,
    /// The operators' token; without one the listener will refuse.
    pub token: Option<String>,
    /// JSON instead of text for people.
    pub json: bool,
    /// What.
    pub what: What,
}

/// What an operator wants.
#[derive(Debug, PartialEq)]
pub enum What {
    /// Every room.
    List,
    /// One room.
    Show(RoomName),
    /// Call nobody.
    Pause(RoomName),
    /// Call again.
    Resume(RoomName),
    /// Put limits above those stated.
    Limits(RoomName, Limits),
    /// Take these away again.
    Clear(RoomName),
    /// Begin anew, with the room's name once more.
    Reset(RoomName, String),
    /// Show one room or all of them, so often.
    Watch(Option<RoomName>, Duration),
    /// Every entry of the deny list.
    Denied,
    /// Refuse somebody.
    Deny(Written),
    /// Refuse them no more.
    Undeny(Written),
}

/// What the answer is written to.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// A terminal, which can be drawn anew: how large it is now, in rows and columns. `None`: something else.
    pub terminal: Option<fn() -> (u16, u16)>,
    /// Colours are welcome.
    pub colour: bool,
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// Refused, with a reason.
    Refused(String),
    /// Nobody answered as an admin listener does.
    Unreachable(String),
    /// A control was sent and may have been done.
    Unsure(String),
    /// The answer could not be written.
    Unwritten(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Unreachable(why) | Self::Unsure(why) => f.write_str(why),
            Self::Unwritten(error) => write!(f, "the answer cannot be written: {error}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unwritten(error)
    }
}

/// Carries out an order and writes what came of it. Answers the exit status: 0 done; 1 refused, or no such room; 2
/// nothing done, as nobody answered; 3 it may have been done; with an error message unless it is 0.
pub async fn run(order: Order, screen: Screen, out: &mut (dyn Write + Send)) -> (u8, Option<String>) {
    let Order { target, token, json, what } = order;
    let client = Client::new(target, token);
    let shown = match what {
        What::Watch(room, every) => watch::watch(&client, room.as_ref(), every, json, screen, out).await,
        what => once(&client, what, json, screen, out).await,
    };
    match shown {
        Ok(()) => (0, None),
        // Whoever read it has seen enough, as `head` does.
        Err(Failure::Unwritten(error)) if error.kind() == io::ErrorKind::BrokenPipe => (0, None),
        Err(failure @ Failure::Refused(_)) => (REFUSED, Some(failure.to_string())),
        Err(failure @ Failure::Unsure(_)) => (UNSURE_STATUS, Some(failure.to_string())),
        Err(failure) => (UNREACHABLE, Some(failure.to_string())),
    }
}

async fn once(
    client: &Client,
    what: What,
    json: bool,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let (method, room, rest, body) = match what {
        What::List | What::Watch(..) => {
            let list = all(client).await?;
            return Ok(if json { write_json(&list, out) } else { table::rooms(&list.rooms, screen, out) }?);
        }
        What::Denied => return deny::list(client, json, screen, out).await,
        What::Deny(entry) => return deny::change(client, Method::POST, &entry, json, out).await,
        What::Undeny(entry) => return deny::change(client, Method::DELETE, &entry, json, out).await,
        What::Show(room) => (Method::GET, room, "", None),
        What::Pause(room) => (Method::POST, room, "/pause", None),
        What::Resume(room) => (Method::POST, room, "/resume", None),
        What::Limits(room, limits) => (Method::POST, room, "/limits", Some(json!(limits))),
        What::Clear(room) => (Method::DELETE, room, "/limits", None),
        What::Reset(room, confirm) => (Method::POST, room, "/reset", Some(json!({ "confirm": confirm }))),
    };
    let is_look = method == Method::GET;
    let answer = client.call(method, &format!("/rooms/{room}{rest}"), body.as_ref(), "room").await?;
    let shown = read(answer)
        .and_then(|room: Overview| Ok(if json { write_json(&room, out) } else { table::room(&room, out) }?));
    if is_look { shown } else { shown.map_err(done_all_the_same) }
}

/// What fails behind a control takes nothing of it back. Whoever closed the pipe has seen enough.
fn done_all_the_same(failure: Failure) -> Failure {
    match failure {
        Failure::Unwritten(error) if error.kind() == io::ErrorKind::BrokenPipe => Failure::Unwritten(error),
        failure => Failure::Unsure(format!("this was done, but {failure}")),
    }
}

/// Every room, page by page, as one page.
async fn all(client: &Client) -> Result<List, Failure> {
    let mut rooms = Vec::new();
    let mut after = String::new();
    loop {
        let answer = client.call(Method::GET, &format!("/rooms?after={after}"), None, "rooms").await?;
        let mut page: List = read(answer)?;
        rooms.append(&mut page.rooms);
        match page.next {
            // A listener that leads in a circle must not lead us on for ever.
            Some(next) if next > after => after = next,
            _ => return Ok(List { rooms, next: None, known: page.known }),
        }
    }
}

async fn one(client: &Client, room: &RoomName) -> Result<Overview, Failure> {
    read(client.call(Method::GET, &format!("/rooms/{room}"), None, "room").await?)
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    let other = |error| Failure::Unreachable(format!("the answer is not one of this version: {error}"));
    serde_json::from_value(answer).map_err(other)
}

fn write_json(told: &impl serde::Serialize, out: &mut (dyn Write + Send)) -> io::Result<()> {
    serde_json::to_writer(&mut *out, told)?;
    writeln!(out)
}
