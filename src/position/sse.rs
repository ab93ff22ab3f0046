//! Server-sent events: a visitor's stream as text.

use std::convert::Infallible;
use std::fmt::Write as _;

use axum::body::{Body, Bytes};
use futures_util::stream;

use super::watching::{Watching, Word, reconnect_after_ms};
use crate::room::standing::{Standing, Status};

/// The stream as an answer's body.
pub fn body(watching: Watching) -> Body {
    let events = stream::unfold((watching, 0u64), |(mut watching, id)| async move {
        let word = watching.next().await?;
        let id = id + 1;
        Some((Ok::<_, Infallible>(text(&word, id)), (watching, id)))
    });
    Body::from_stream(events)
}

/// A word as an event. The first one also says when to come back after a broken connection.
fn text(word: &Word, id: u64) -> Bytes {
    let mut text = String::with_capacity(256);
    if id == 1 || *word == Word::Draining {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "retry: {}", reconnect_after_ms());
    }
    match word {
        Word::Standing(standing) => {
            // Numbers and a checked name: always JSON.
            let data = serde_json::to_string(standing).unwrap_or_default();
            let _ = writeln!(text, "id: {id}\nevent: {}\ndata: {data}", event(standing));
        }
        Word::Heartbeat => text.push_str(": still here\n"),
        Word::Draining => text.push_str(": moving to another server\n"),
    }
    text.push('\n');
    text.into()
}

/// `admitted` means: enter now (called), or already inside.
fn event(standing: &Standing) -> &'static str {
    match standing.status {
        Status::Waiting => "position",
        Status::Called | Status::Admitted => "admitted",
        Status::Gone => "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::name::RoomName;

    #[test]
    fn events_are_named_and_numbered() {
        let standing = Standing {
            status: Status::Waiting,
            room: RoomName::parse("shop").unwrap(),
            number: 17,
            position: 3,
            waiting: 10,
            eta: None,
            poll_after: 5,
        };
        let event = |status, id| {
            let standing = Standing { status, ..standing.clone() };
            String::from_utf8(text(&Word::Standing(standing), id).to_vec()).unwrap()
        };
        let first = event(Status::Waiting, 1);
        assert!(
            first.starts_with("retry: ") && first.contains("\nid: 1\nevent: position\ndata: {"),
            "{first}"
        );
        assert!(first.ends_with("}\n\n"), "{first}");
        assert!(event(Status::Called, 2).starts_with("id: 2\nevent: admitted\n"));
        assert!(event(Status::Gone, 3).contains("event: gone\n"));
        assert_eq!(text(&Word::Heartbeat, 9), ": still here\n\n");
    }
}
