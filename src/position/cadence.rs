//! How often a stream looks and speaks, and when its client should come back: plain functions.

use std::time::Duration;

use rand::RngExt as _;

use crate::room::standing::Standing;

/// How streams are paced.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    /// The time between two looks at a place among the first [`NEAR`].
    pub near: Duration,
    /// The longest time between two looks, and two positions told, to somebody far back.
    pub interval: Duration,
    /// The longest silence of a stream.
    pub heartbeat: Duration,
    /// How long a stream may find its client not reading before it is cut off.
    pub stall: Duration,
    /// Over what time the streams of a process that ends are ended.
    pub drain_spread: Duration,
}

impl Default for Cadence {
    /// The program's own defaults.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            near: seconds(1),
            interval: seconds(10),
            heartbeat: seconds(30),
            stall: seconds(60),
            drain_spread: seconds(4),
        }
    }
}

/// How many places at the front are looked at most often.
const NEAR: u64 = 20;

/// How many streams one process takes back per second without being slow for others; a cautious half of what
/// `make bench-streams` shows for one core.
const REOPENED_PER_SECOND: u64 = 5_000;

/// The least part of a time that [`jittered`] leaves.
pub(super) const LEAST: f64 = 0.9;

/// The time until the next look: [`Cadence::near`] at the front, and further back in proportion to the place, up to
/// the interval. Every look also tells the line that the visitor is alive, so there are at least three within
/// `patience`.
pub(super) fn until_next_look(standing: &Standing, cadence: &Cadence, patience: Duration) -> Duration {
    let steps = u32::try_from(standing.position.div_ceil(NEAR).max(1)).unwrap_or(u32::MAX);
    cadence.near.saturating_mul(steps).min(cadence.interval).min(patience / 3)
}

/// A tenth off at random, so that streams opened together do not look together for ever.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(LEAST..=1.0))
}

/// The time between the first word and the second look: anything up to the pause, so that thousands that were opened
/// in one moment are spread evenly from then on.
pub(super) fn first_look(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.1..=1.0))
}

/// The longest a client should wait before it comes back after its connection broke: 3 s for those near the front,
/// who may be called meanwhile; for the others 5 s, or as long as it takes to take back as many as are open here at
/// a rate that hurts nobody, at most 30 s.
pub(super) fn reconnect_within(position: u64, open_streams: usize) -> Duration {
    if position <= 10 * NEAR {
        return Duration::from_secs(3);
    }
    let seconds = 1 + (open_streams as u64) / REOPENED_PER_SECOND;
    Duration::from_secs(seconds.clamp(5, 30))
}

/// A random moment for it, between 1 s and [`reconnect_within`], in milliseconds.
pub(super) fn reconnect_after_ms(position: u64, open_streams: usize) -> u128 {
    let within = reconnect_within(position, open_streams).as_millis();
    rand::rng().random_range(1_000..=within.max(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::name::RoomName;
    use crate::room::standing::Status;

    #[test]
    fn the_front_is_looked_at_often_and_nobody_falls_asleep() {
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
            until_next_look(&standing, &Cadence::default(), Duration::from_secs(patience)).as_secs()
        };
        assert_eq!([at(0, 180), at(1, 180), at(20, 180), at(21, 180)], [1, 1, 1, 2]);
        assert_eq!([at(100, 180), at(200, 180), at(100_000, 180), at(u64::MAX, 180)], [5, 10, 10, 10]);
        assert_eq!(at(100_000, 6), 2);
    }

    #[test]
    fn those_who_come_back_do_not_come_at_once() {
        let within = |position, open| reconnect_within(position, open).as_secs();
        assert_eq!([within(1, 1_000_000), within(200, 1_000_000)], [3, 3]);
        assert_eq!([within(201, 10), within(201, 100_000), within(201, 1_000_000)], [5, 21, 30]);
        for _ in 0..100 {
            let after = reconnect_after_ms(1_000, 100_000);
            assert!((1_000..=21_000).contains(&after), "{after}");
            let pause = first_look(Duration::from_secs(10));
            assert!((Duration::from_secs(1)..=Duration::from_secs(10)).contains(&pause), "{pause:?}");
        }
    }
}
