//! One visitor's stream: when to look, what is worth telling, when it is over. SSE and gRPC both speak from it.
//!
//! Polled rather than awaited, with one timer each: at a hundred thousand of them each byte of state counts. What is
//! kept for one is some 200 bytes here, and ten times that in the HTTP/2 connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use rand::RngExt as _;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Streaming;
use super::cadence::{Cadence, LEAST, first_look, jittered, reconnect_after_ms, until_next_look};
use crate::drain::Phase;
use crate::room::standing::{Standing, Status};
use crate::rooms::visit::VisitError;
use crate::rooms::watch::Watch;
use crate::telemetry::metrics::Open;
use crate::telemetry::metrics::label::StreamKind;

/// When to look again where the store is out.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// What a stream says next.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// Where the visitor stands; any status but `waiting` is the last word.
    Standing(Standing),
    /// Still there.
    Heartbeat,
    /// This process is going away: come back to another, after a random moment. The last word.
    Draining,
}

/// A stream that watches one place. Its first word comes at once.
pub struct Watching {
    streaming: Arc<Streaming>,
    watch: Watch,
    /// The position told last; `None` before the first word.
    told: Option<u64>,
    told_at: Instant,
    /// Whether the next look is told whatever it finds: the one after the first word, from where the cadence counts.
    tell_next: bool,
    /// When anything was said, heartbeats included.
    said_at: Instant,
    look_at: Instant,
    /// The longest time between two positions told.
    interval: Duration,
    /// Runs until the next look or the end of the silence.
    timer: Pin<Box<Sleep>>,
    /// An answer of the store under way.
    asking: Option<Asking>,
    /// What a client that comes back was told last: a replica that lags behind must not tell it more.
    at_most: Option<u64>,
    stage: Stage,
    _open: Open,
}

type Asking = Pin<Box<dyn Future<Output = Result<Standing, VisitError>> + Send>>;

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Watching,
    /// The process ends, and this stream at that time: not all at once.
    Ending(Instant),
    Over,
}

impl Watching {
    /// Begins to watch. `at_most`: the position its client was told last by another stream, if any.
    pub fn new(streaming: Arc<Streaming>, kind: StreamKind, watch: Watch, at_most: Option<u64>) -> Self {
        let now = Instant::now();
        let Cadence { interval, heartbeat, .. } = streaming.cadence;
        // gRPC has no comments: a position told again is its heartbeat.
        let interval = if kind == StreamKind::Grpc { interval.min(heartbeat) } else { interval };
        Self {
            _open: streaming.rooms.metrics().stream_opened(kind),
            streaming,
            watch,
            told: None,
            told_at: now,
            tell_next: true,
            said_at: now,
            look_at: now,
            interval,
            timer: Box::pin(sleep_until(now)),
            asking: None,
            at_most,
            stage: Stage::Watching,
        }
    }

    /// When its client should come back if the connection breaks now, in milliseconds; at random, so that those of one
    /// process do not all come at once.
    pub fn reconnect_after_ms(&self) -> u128 {
        reconnect_after_ms(self.told.unwrap_or(0), self.streaming.rooms.open_streams())
    }

    /// How long it may find its client not reading before it is cut off.
    pub fn stall(&self) -> Duration {
        self.streaming.cadence.stall
    }

    /// When this stream wants to be polled again, unless it is woken before: a connection that does not let it speak
    /// by then is one that its client does not read.
    pub fn wants_to_speak_at(&self) -> Instant {
        self.timer.deadline()
    }

    /// Looks where the place stands, as far as the snapshot tells; tells it if that is worth it.
    fn look(&mut self, now: Instant) -> Option<Word> {
        if let Some(standing) = self.streaming.rooms.watched(&self.watch) {
            return self.take(standing, now);
        }
        let (rooms, room) = (self.streaming.rooms.clone(), self.watch.room().clone());
        let place = self.watch.place();
        self.asking = Some(Box::pin(async move { rooms.watched_in_store(&room, place).await }));
        None
    }

    fn take(&mut self, mut standing: Standing, now: Instant) -> Option<Word> {
        if let Some(at_most) = self.at_most.take().filter(|_| standing.status == Status::Waiting) {
            standing.position = standing.position.min(at_most);
        }
        let pause = until_next_look(&standing, &self.streaming.cadence, self.patience()).min(self.interval);
        let is_first = self.told.is_none();
        self.look_at = now + if is_first { first_look(pause) } else { jittered(pause) };
        let changed = self.told != Some(standing.position);
        // A tenth sooner, as the looks are: else it would be told at every other one only.
        let stale = self.tell_next || now.duration_since(self.told_at) >= self.interval.mul_f64(LEAST);
        if standing.status != Status::Waiting {
            self.stage = Stage::Over;
        } else if !(changed || stale) {
            return None;
        }
        self.tell_next = is_first;
        self.told = Some(standing.position);
        self.told_at = now;
        self.said_at = now;
        Some(Word::Standing(standing))
    }

    fn patience(&self) -> Duration {
        let patience = self.watch.room().policy().map_or(u64::MAX, |policy| policy.patience);
        Duration::from_millis(patience)
    }

    /// When there is something to do, if nobody wakes us.
    fn next_time(&self) -> Instant {
        let silence_ends = self.said_at + self.streaming.cadence.heartbeat;
        // While the store is asked, its answer is what is waited for.
        let next = if self.asking.is_some() { silence_ends } else { silence_ends.min(self.look_at) };
        match self.stage {
            Stage::Ending(at) => at.min(next),
            Stage::Watching | Stage::Over => next,
        }
    }

    /// Whether it is time to send the client elsewhere.
    fn ends(&mut self, now: Instant) -> bool {
        if self.stage == Stage::Watching && self.streaming.shutdown.phase() >= Phase::Closing {
            let spread = self.streaming.cadence.drain_spread;
            self.stage = Stage::Ending(now + spread.mul_f64(rand::rng().random_range(0.0..=1.0)));
        }
        matches!(self.stage, Stage::Ending(at) if now >= at)
    }

    /// What there is to say now.
    fn speak(&mut self, cx: &mut Context<'_>, woken: bool) -> Option<Word> {
        let now = Instant::now();
        if self.ends(now) {
            self.stage = Stage::Over;
            return Some(Word::Draining);
        }
        if self.asking.is_none()
            && (woken || now >= self.look_at)
            && let Some(word) = self.look(now)
        {
            return Some(word);
        }
        if let Some(asking) = &mut self.asking
            && let Poll::Ready(answer) = asking.as_mut().poll(cx)
        {
            self.asking = None;
            match answer {
                Ok(standing) => {
                    if let Some(word) = self.take(standing, now) {
                        return Some(word);
                    }
                }
                // A store that is out is no news: the place is kept, and the last position stays true enough.
                Err(_) => self.look_at = now + jittered(self.interval.min(STORE_RETRY)),
            }
        }
        if now >= self.said_at + self.streaming.cadence.heartbeat {
            self.said_at = now;
            return Some(Word::Heartbeat);
        }
        None
    }
}

impl Stream for Watching {
    type Item = Word;

    /// The next word; `None` after the last.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Word>> {
        loop {
            if self.stage == Stage::Over {
                return Poll::Ready(None);
            }
            let woken = self.watch.poll_changed(cx).is_ready();
            if let Some(word) = self.speak(cx, woken) {
                return Poll::Ready(Some(word));
            }
            let next = self.next_time();
            if self.timer.deadline() != next {
                self.timer.as_mut().reset(next);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}
