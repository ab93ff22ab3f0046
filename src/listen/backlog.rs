//! HTTP/2 streams that were taken in and have had no turn yet: while there are many of them, no more is read of their
//! connection. Else whoever opens and resets streams faster than they are run piles up tasks, and the lists of the
//! connection grow with them, which never shrink while it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// How many may wait for their turn while more is read. What had been read by then, some thousands, comes on top.
const MOST: usize = 1_000;

/// Those of one connection.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: AtomicUsize,
    reader: AtomicWaker,
}

impl Backlog {
    /// One more waits, until what this returns is dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(self.clone())
    }

    /// Ready when more may be read.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let room = || self.waiting.load(Ordering::Acquire) < MOST;
        if room() {
            return Poll::Ready(());
        }
        self.reader.register(cx.waker());
        // The last to make room may have missed the waker.
        if room() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A stream that waits for its first turn.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Backlog>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::AcqRel) == MOST {
            self.0.reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::{ArcWake, waker};

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl ArcWake for Wakes {
        fn wake_by_ref(wakes: &Arc<Self>) {
            wakes.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn reading_pauses_while_many_wait_and_goes_on_when_one_has_had_its_turn() {
        let backlog = Arc::new(Backlog::default());
        let wakes = Arc::new(Wakes::default());
        let waker = waker(wakes.clone());
        let cx = Context::from_waker(&waker);
        let mut waiting: Vec<_> = (1..MOST).map(|_| backlog.wait()).collect();
        assert!(backlog.poll_room(&cx).is_ready());
        waiting.extend([backlog.wait(), backlog.wait()]);
        assert!(backlog.poll_room(&cx).is_pending());
        waiting.pop();
        assert!(backlog.poll_room(&cx).is_pending());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0, "as many as there may be");
        waiting.pop();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(backlog.poll_room(&cx).is_ready());
    }
}
