//! Server-sent events: a visitor's stream as text.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use futures_util::Stream as _;
use http_body::{Body, Frame};

use super::watching::{Watching, Word};
use crate::listen::Progress;
use crate::room::standing::{Standing, Status};

/// The stream as an answer's body.
pub struct Events {
    watching: Watching,
    /// Whether anything was said.
    begun: bool,
    progress: Progress,
}

impl Events {
    /// The events of a stream. Made while its request is served, so that the connection knows whose progress it is.
    pub fn new(watching: Watching) -> Self {
        let progress = Progress::of_this_stream(watching.stall());
        Self { watching, begun: false, progress }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.watching).poll_next(cx);
        self.progress.made_until(self.watching.wants_to_speak_at());
        let Some(word) = ready!(polled) else { return Poll::Ready(None) };
        // The first word also says when to come back after a broken connection.
        let retry = !self.begun || word == Word::Draining;
        let retry = retry.then(|| self.watching.reconnect_after_ms());
        self.begun = true;
        Poll::Ready(Some(Ok(Frame::data(text(&word, retry)))))
    }
}

/// A word as an event. Its id is the position told: a client that comes back shows it as `Last-Event-ID`.
fn text(word: &Word, retry: Option<u128>) -> Bytes {
    let mut text = String::with_capacity(256);
    // Writing to a string cannot fail.
    if let Some(retry) = retry {
        let _ = writeln!(text, "retry: {retry}");
    }
    match word {
        Word::Standing(standing) => {
            // Numbers and a checked name: always JSON.
            let data = serde_json::to_string(standing).unwrap_or_default();
            let _ = writeln!(text, "id: {}\nevent: {}\ndata: {data}", standing.position, event(standing));
        }
        Word::Heartbeat => text.push_str(": still here\n"),
        Word::Draining => text.push_str(": moving to another server\n"),
    }
    text.push('\n');
    text.into()
}

/// The position told last to a client that comes back, by its `Last-Event-ID`; `None` if that is nothing of ours.
/// It is taken at its word: it only ever lowers what its own sender is told once.
pub fn told_before(last_event_id: Option<&str>) -> Option<u64> {
    last_event_id?.parse().ok().filter(|position| *position > 0)
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
    fn events_are_named_and_carry_the_position_as_id() {
        let standing = Standing {
            status: Status::Waiting,
            room: RoomName::parse("shop").unwrap(),
            number: 17,
            position: 3,
            waiting: 10,
            eta: None,
            poll_after: 5,
        };
        let event = |status, retry| {
            let standing = Standing { status, ..standing.clone() };
            String::from_utf8(text(&Word::Standing(standing), retry).to_vec()).unwrap()
        };
        let first = event(Status::Waiting, Some(1_500));
        assert!(first.starts_with("retry: 1500\nid: 3\nevent: position\ndata: {"), "{first}");
        assert!(first.ends_with("}\n\n"), "{first}");
        assert!(event(Status::Called, None).starts_with("id: 3\nevent: admitted\n"));
        assert!(event(Status::Gone, None).contains("event: gone\n"));
        assert_eq!(text(&Word::Heartbeat, None), ": still here\n\n");
        assert_eq!(text(&Word::Draining, Some(9)), "retry: 9\n: moving to another server\n\n");
    }

    #[test]
    fn a_client_that_comes_back_says_what_it_was_told() {
        assert_eq!(told_before(Some("17")), Some(17));
        for nothing in [None, Some(""), Some("0"), Some("-1"), Some("x"), Some("99999999999999999999")] {
            assert_eq!(told_before(nothing), None, "{nothing:?}");
        }
    }
}
