//! Whether the store is out: when that begins and ends, for one log line each, however often calls fail between.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::room::policy::Millis;

/// How long no call may have failed before the store counts as back, in milliseconds.
///
/// Some calls may go well while others fail: a full disk refuses arrivals but answers ticks, and a cluster has
/// shards. That must not become two lines for each arrival.
const CALM_MS: Millis = 5_000;

/// When a call last failed; 0 while the store is not out.
#[derive(Debug, Default)]
pub struct Outage {
    failed_at: AtomicU64,
    /// A store that has never answered is not out: it is not there yet, which readiness tells.
    has_answered: AtomicBool,
}

impl Outage {
    /// A call was not answered; `true` if the outage begins with it.
    pub fn failed(&self, now: Millis) -> bool {
        let relaxed = Ordering::Relaxed;
        self.has_answered.load(relaxed) && self.failed_at.swap(now.max(1), relaxed) == 0
    }

    /// A call was answered; `true` if an outage ends with it.
    pub fn answered(&self, now: Millis) -> bool {
        if !self.has_answered.load(Ordering::Relaxed) {
            self.has_answered.store(true, Ordering::Relaxed);
        }
        let failed_at = self.failed_at.load(Ordering::Relaxed);
        let calm = failed_at > 0 && now.saturating_sub(failed_at) >= CALM_MS;
        let relaxed = Ordering::Relaxed;
        calm && self.failed_at.compare_exchange(failed_at, 0, relaxed, relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_answers_some_calls_and_not_others_is_one_outage() {
        let outage = Outage::default();
        assert!(!outage.failed(500), "not there yet");
        assert!(!outage.answered(1_000), "there was none");
        let turns = (0..100).map(|step| (outage.failed(2_000 + step), outage.answered(2_000 + step)));
        assert_eq!(turns.filter(|turn| *turn == (true, false)).count(), 1);
        assert!(!outage.failed(3_000) && !outage.answered(3_000 + CALM_MS - 1));
        assert!(outage.answered(3_000 + CALM_MS) && !outage.answered(3_000 + CALM_MS));
        assert!(outage.failed(20_000), "the next one is another");
    }
}
