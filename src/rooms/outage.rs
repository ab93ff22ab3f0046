//! Whether the store is out: one log line when it goes and one when it is back, however often calls fail between.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::room::policy::Millis;
use crate::store::StoreError;

/// How long no call may have failed before the store counts as back, in milliseconds.
///
/// Some calls may go well while others fail: a full disk refuses arrivals but answers ticks, and a cluster has
/// shards. That must not become two lines for each arrival.
const CALM_MS: Millis = 5_000;

/// When a call last failed; 0 while the store is not out.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failed_at: AtomicU64,
}

impl Outage {
    /// A call was not answered.
    pub(super) fn failed(&self, error: &StoreError, now: Millis) {
        if self.failed_at.swap(now.max(1), Ordering::Relaxed) == 0 {
            tracing::error!(%error, "the store is out");
        }
    }

    /// A call was answered.
    pub(super) fn answered(&self, now: Millis) {
        let failed_at = self.failed_at.load(Ordering::Relaxed);
        let calm = failed_at > 0 && now.saturating_sub(failed_at) >= CALM_MS;
        let relaxed = Ordering::Relaxed;
        if calm && self.failed_at.compare_exchange(failed_at, 0, relaxed, relaxed).is_ok() {
            tracing::info!("the store is back");
        }
    }
}
