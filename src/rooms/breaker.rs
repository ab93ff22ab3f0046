//! Whether a room's store calls are worth making: after some failures in a row they are refused at once.
//!
//! Without it, every newcomer during an outage would wait out the whole budget, and they would pile up. For each
//! room by itself, because rooms live on different shards.

use std::sync::atomic::{AtomicU32, Ordering};

/// So many calls in a row must fail: one lost answer is no outage.
const FAILURES: u32 = 3;

/// How many calls of a room have failed in a row. The feed's tick asks the store in any case, one call of a room at
/// a time, and so finds out when it is back.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: AtomicU32,
}

impl Breaker {
    /// Whether calls are refused.
    pub(super) fn is_open(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES
    }

    /// A call was not answered; `true` if calls are refused from now on.
    pub(super) fn failed(&self) -> bool {
        let count = |failures: u32| failures.checked_add(1);
        self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) == Ok(FAILURES - 1)
    }

    /// A call was answered; `true` if calls were refused until now.
    pub(super) fn answered(&self) -> bool {
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
        for _ in 0..10 {
            assert!(!breaker.failed() && !breaker.failed() && !breaker.answered());
        }
        assert!(!breaker.is_open(), "never three in a row");
        assert_eq!([breaker.failed(), breaker.failed(), breaker.failed()], [false, false, true]);
        assert!(breaker.is_open() && !breaker.failed(), "told once");
        assert!(breaker.answered() && !breaker.is_open() && !breaker.answered());
    }
}
