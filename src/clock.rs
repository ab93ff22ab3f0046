//! What time it is: milliseconds since the epoch that never run backwards within a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A clock: wall time when it was made, plus the monotonic time that has passed since.
///
/// A step of the wall clock (NTP, an operator) therefore never makes time jump or run backwards; in
/// exchange such a correction is seen only after a restart. It follows tokio's time, so that tests that
/// pause that drive this one too. Copies of a clock agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start_ms: u64,
    start: Instant,
}

impl Clock {
    /// A clock that begins at the machine's wall time; at 0 should that lie before 1970.
    pub fn system() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// A clock that shows `ms` milliseconds since the epoch now and goes on from there.
    pub fn starting_at(ms: u64) -> Self {
        Self { start_ms: ms, start: Instant::now() }
    }

    /// Microseconds since the epoch; it begins with a whole millisecond.
    pub fn now_us(&self) -> u64 {
        let passed = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.start_ms.saturating_mul(1_000).saturating_add(passed)
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.start_ms.saturating_add(passed)
    }
}

/// A clock that stands still until it is set: for stores under test. Copies are the same clock.
#[derive(Clone, Debug)]
pub struct HandClock(Arc<AtomicU64>);

impl HandClock {
    /// A clock that shows `ms` milliseconds since the epoch.
    pub fn at(ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(ms)))
    }

    /// Sets it, forward or back.
    pub fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::Release);
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_follows_tokios_time_and_copies_agree() {
        let clock = Clock::starting_at(1_000);
        let copy = clock;
        assert_eq!(clock.now_ms(), 1_000);
        tokio::time::advance(Duration::from_millis(2_500)).await;
        assert_eq!((clock.now_ms(), copy.now_ms(), copy.now_us()), (3_500, 3_500, 3_500_000));
    }

    #[test]
    fn the_system_clock_shows_wall_time() {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let shown = u128::from(Clock::system().now_ms());
        assert!(shown.abs_diff(wall) < 5_000, "{shown} against {wall}");
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        assert_eq!(Clock::starting_at(u64::MAX).now_ms(), u64::MAX);
    }
}
