//! Time as this process has it: on a machine that gives nobody a turn, it stands still for the listeners as well as
//! for the service, and nobody is blamed for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

/// How long a beat is, at least.
const BEAT: Duration = Duration::from_millis(50);

/// Counts beats until it is dropped.
pub(super) struct Beat {
    count: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Beat {
    pub(super) fn start() -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { count, task }
    }

    /// The count, to be read by others.
    pub(super) fn count(&self) -> Arc<AtomicU64> {
        self.count.clone()
    }

    /// How many beats have passed.
    pub(super) fn now(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many beats a time has.
    pub(super) fn beats(time: Duration) -> u64 {
        u64::try_from(time.as_millis() / BEAT.as_millis()).unwrap()
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.task.abort();
    }
}
