//! Whether store calls are worth making: after some failures in a row they are refused at once.
//!
//! Without it, every newcomer during an outage would wait out the whole budget, and they would pile up. For each
//! room and each bucket of the ledger by itself, because they live on different shards.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::room::policy::Millis;

/// So many calls in a row must fail: one lost answer is no outage.
const FAILURES: u32 = 3;

/// How many calls of a room or a bucket have failed in a row. Whoever keeps it asks the store now and then in any case,
/// one call at a time, and so finds out when it is back.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: AtomicU32,
    /// When the last of them failed.
    failed_at: AtomicU64,
}

impl Breaker {
    /// Whether calls are refused.
    pub fn is_open(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES
    }

    /// A call that was begun at `begun` was not answered; `true` if calls are refused from now on.
    pub fn failed(&self, begun: Millis, now: Millis) -> bool {
        if begun < self.failed_at.load(Ordering::Relaxed) {
            // It was under way when another one failed: hundreds of visitors may share a call, and an outage.
            return false;
        }
        self.failed_at.store(now, Ordering::Relaxed);
        let count = |failures: u32| failures.checked_add(1);
        self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) == Ok(FAILURES - 1)
    }

    /// A call was answered; `true` if calls were refused until now.
    pub fn answered(&self) -> bool {
        // Read first: in good times this is every call, and none of them needs to write.
        self.failures.load(Ordering::Relaxed) > 0 && self.failures.swap(0, Ordering::Relaxed) >= FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_with_the_first_answer() {
        let breaker = Breaker::default();
        let mut now = 0;
        let mut failed = || {
            now += 20;
            breaker.failed(now - 20, now)
        };
        for _ in 0..10 {
            assert!(!failed() && !failed() && !breaker.answered());
        }
        assert!(!breaker.is_open(), "never three in a row");
        assert_eq!([failed(), failed(), failed()], [false, false, true]);
        assert!(breaker.is_open() && !failed(), "told once");
        assert!(breaker.answered() && !breaker.is_open() && !breaker.answered());
    }

    #[test]
    fn visitors_who_waited_together_are_one_failure() {
        let breaker = Breaker::default();
        assert!((0..500).all(|_| !breaker.failed(0, 20)) && !breaker.is_open());
        assert!((0..500).all(|begun| !breaker.failed(20 + begun % 20, 40)) && !breaker.is_open());
        assert!(breaker.failed(40, 60) && breaker.is_open());
    }
}
