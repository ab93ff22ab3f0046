//! This process's clock against the store's, and what becomes of passes where the store's was set back.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::{Room, Rooms};
use crate::room::policy::Millis;
use crate::room::snapshot::Snapshot;
use crate::room::state::SMALL_STEP_MS;
use crate::room::token::Claims;

/// Clocks further apart than this are told, in milliseconds.
const APART_MS: u64 = 2_000;
/// They count as together again only this close, so that a difference about the bound is not told time and again.
const TOGETHER_MS: u64 = 1_000;
/// A room's difference says something for so long after its last tick, in milliseconds.
const FRESH_MS: Millis = 5_000;
/// One step of the store's clock is seen in every room of that server: told once in so many milliseconds.
const ONE_STEP_MS: Millis = 60_000;

/// What was told of the clocks.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    apart: AtomicBool,
    step_told_at: AtomicU64,
}

/// A room's store as a clock; with several servers each has its own.
#[derive(Debug, Default)]
pub(super) struct StoreClock {
    /// How far this process's clock was ahead of it when it was last read, in milliseconds.
    ahead: AtomicI64,
    /// When it was last found set back, by this process's clock; 0: never.
    set_back_at: AtomicU64,
}

impl StoreClock {
    /// Reads it from a snapshot that was asked for and answered between two times of this process: for all that is
    /// known, it was taken at the nearest time between them.
    pub(super) fn read(&self, asked: Millis, at: Millis, answered: Millis) {
        let ahead = if at < asked { difference(asked, at) } else { -difference(at, answered) };
        self.ahead.store(ahead, Ordering::Relaxed);
    }
}

impl Room {
    /// Whether a pass should be shown to the store: the session behind it may have been lost, or end earlier than the
    /// pass tells, as the store's clock was set back since.
    pub(super) fn may_have_lost(&self, snapshot: Option<&Snapshot>, pass: &Claims) -> bool {
        let is_of_before = pass.issued_at() <= self.store_clock.set_back_at.load(Ordering::Relaxed);
        is_of_before || snapshot.is_some_and(|s| s.may_have_lost(pass.place(), pass.issued_at()))
    }
}

impl Rooms {
    /// Takes note of a step of the store's clock between two snapshots of a room, whose time goes back in no other way.
    pub(super) fn note_step(&self, room: &Room, before: Option<&Snapshot>, after: &Snapshot) {
        let back = before.map_or(0, |before| before.at.saturating_sub(after.at));
        if back <= SMALL_STEP_MS {
            return;
        }
        let now = self.now();
        room.store_clock.set_back_at.store(now, Ordering::Relaxed);
        // Less than half is left of a session that is to be prolonged, known of or not.
        room.users.end_by(now + after.policy.session_ttl / 2 - 1);
        let told_at = self.clocks.step_told_at.load(Ordering::Relaxed);
        if now.saturating_sub(told_at) >= ONE_STEP_MS {
            self.clocks.step_told_at.store(now, Ordering::Relaxed);
            tracing::warn!(
                room = %room.name, seconds = seconds(back),
                "the store's clock was set back: its rooms go on by the new time, and passes are shown to it once"
            );
        }
    }

    /// Tells how far this process's clock is ahead of the store's: of the server from whose clock it is furthest away.
    pub(super) fn compare_clocks(&self, rooms: &[std::sync::Arc<Room>], now: Millis) {
        let fresh = rooms.iter().filter(|room| room.feed.age(now) < FRESH_MS);
        let read = fresh.map(|room| room.store_clock.ahead.load(Ordering::Relaxed));
        let Some(ahead) = read.max_by_key(|ahead| ahead.unsigned_abs()) else { return };
        self.metrics.set_clock_ahead(ahead);
        let was_apart = self.clocks.apart.load(Ordering::Relaxed);
        let bound = if was_apart { TOGETHER_MS } else { APART_MS };
        let is_apart = ahead.unsigned_abs() > bound;
        self.clocks.apart.store(is_apart, Ordering::Relaxed);
        let seconds = seconds(ahead.unsigned_abs());
        match (was_apart, is_apart) {
            (false, true) => tracing::warn!(
                seconds,
                side = if ahead > 0 { "ahead" } else { "behind" },
                "this process's clock is not the store's: passes and users' tokens end too early or too late by the \
                 difference; correct the machine's clock, or that of Redis, and restart this process if it was its own"
            ),
            (true, false) => tracing::info!(seconds, "this process's clock is the store's again"),
            _ => {}
        }
    }
}

/// How much later one time is than another, 0 if it is earlier.
fn difference(later: Millis, earlier: Millis) -> i64 {
    i64::try_from(later.saturating_sub(earlier)).unwrap_or(i64::MAX)
}

/// Milliseconds as seconds.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_the_answer_took_is_no_difference() {
        let clock = StoreClock::default();
        for (asked, at, answered, ahead) in [
            (5_000, 5_000, 5_000, 0),
            (5_000, 9_000, 65_000, 0),
            (5_000, 4_000, 65_000, 1_000),
            (5_000, 66_000, 65_000, -1_000),
        ] {
            clock.read(asked, at, answered);
            assert_eq!(clock.ahead.load(Ordering::Relaxed), ahead, "{asked}, {at}, {answered}");
        }
    }
}
