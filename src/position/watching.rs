//! One visitor's stream: when to look, what is worth telling, when it is over. SSE and gRPC both speak from it.

use std::pin::Pin;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{Cadence, Desk};
use crate::room::standing::{Standing, Status};
use crate::rooms::watch::Watch;
use crate::telemetry::metrics::Open;
use crate::telemetry::metrics::label::StreamKind;

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

/// A stream that watches one place.
pub struct Watching {
    desk: Desk,
    watch: Watch,
    told: Option<Standing>,
    told_at: Instant,
    /// Anything said at all, heartbeats included.
    spoke_at: Instant,
    look_at: Instant,
    closing: Pin<Box<dyn Future<Output = ()> + Send>>,
    over: bool,
    _permit: OwnedSemaphorePermit,
    _open: Open,
}

impl Watching {
    /// Begins to watch; its first word comes at once.
    pub fn new(desk: Desk, kind: StreamKind, watch: Watch, permit: OwnedSemaphorePermit) -> Self {
        let now = Instant::now();
        Self {
            closing: Box::pin(desk.shutdown.closing()),
            _open: desk.rooms.metrics().stream_opened(kind),
            _permit: permit,
            desk,
            watch,
            told: None,
            told_at: now,
            spoke_at: now,
            look_at: now,
            over: false,
        }
    }

    /// What was told last.
    pub fn told(&self) -> Option<&Standing> {
        self.told.as_ref()
    }

    /// The next word; `None` after the last.
    pub async fn next(&mut self) -> Option<Word> {
        while !self.over {
            let silence_ends = self.spoke_at + self.desk.cadence.heartbeat;
            tokio::select! {
                biased;
                () = &mut self.closing => {
                    self.over = true;
                    return Some(Word::Draining);
                }
                () = self.watch.changed() => {}
                () = tokio::time::sleep_until(self.look_at) => {}
                () = tokio::time::sleep_until(silence_ends) => {
                    self.spoke_at = Instant::now();
                    return Some(Word::Heartbeat);
                }
            }
            if let Some(standing) = self.look().await {
                return Some(Word::Standing(standing));
            }
        }
        None
    }

    /// Looks where the place stands; `Some` if that is worth telling.
    async fn look(&mut self) -> Option<Standing> {
        let now = Instant::now();
        // A store that is out is no news: the place is kept, and the last position stays true enough.
        let Ok(standing) = self.desk.rooms.watched(&self.watch).await else {
            self.look_at = now + jittered(self.desk.cadence.interval.min(Duration::from_secs(2)));
            return None;
        };
        self.look_at = now + jittered(until_next_look(&standing, self.desk.cadence, self.patience()));
        let changed = self.told.as_ref().is_none_or(|told| told.position != standing.position);
        // A tenth sooner, as the looks are: else it would be told at every other one only.
        let stale = now.duration_since(self.told_at) >= self.desk.cadence.interval.mul_f64(LEAST);
        self.over = standing.status != Status::Waiting;
        if !(changed || stale || self.over) {
            return None;
        }
        self.told_at = now;
        self.spoke_at = now;
        self.told = Some(standing.clone());
        Some(standing)
    }

    fn patience(&self) -> Duration {
        let patience = self.watch.room().policy().map_or(u64::MAX, |policy| policy.patience);
        Duration::from_millis(patience)
    }
}

/// Near the front it is worth looking often; far back the cadence is enough. Every look also tells the line that
/// the visitor is alive, so there are at least three within `patience`.
fn until_next_look(standing: &Standing, cadence: Cadence, patience: Duration) -> Duration {
    let by_place = match standing.position {
        0..=20 => Duration::from_secs(1),
        21..=200 => Duration::from_secs(3),
        _ => cadence.interval,
    };
    by_place.min(cadence.interval).min(patience / 3)
}

/// The least part of a time that [`jittered`] leaves.
const LEAST: f64 = 0.9;

/// A tenth off at random, so that streams opened together do not look together for ever.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::rng().random_range(LEAST..=1.0))
}

/// How long a client should wait before it comes back after a drain, in milliseconds: 1 to 5 s, at random, so
/// that those of one process do not all come at once.
pub fn reconnect_after_ms() -> u64 {
    rand::rng().random_range(1_000..=5_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::name::RoomName;

    #[test]
    fn the_front_is_looked_at_often_and_nobody_falls_asleep() {
        let cadence = Cadence { interval: Duration::from_secs(10), heartbeat: Duration::from_secs(30) };
        let at = |position, patience| {
            let room = RoomName::parse("shop").unwrap();
            let standing = Standing {
                status: Status::Waiting,
                room,
                number: 1,
                position,
                waiting: position,
                eta: None,
                poll_after: 5,
            };
            until_next_look(&standing, cadence, Duration::from_secs(patience))
        };
        assert_eq!(at(1, 180), Duration::from_secs(1));
        assert_eq!(at(100, 180), Duration::from_secs(3));
        assert_eq!(at(100_000, 180), Duration::from_secs(10));
        assert_eq!(at(100_000, 6), Duration::from_secs(2));
    }
}
