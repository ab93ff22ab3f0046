//! How this process reaches the ledger: within the budget, and not at all where the last calls have failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::room::gcra::{Decision, Quota};
use crate::room::policy::Millis;
use crate::room::rate::{Period, Rate};
use crate::store::StoreError;
use crate::store::breaker::Breaker;
use crate::store::ledger::{BUCKETS, Claimed, Holder, Key, Ledger};
use crate::store::timed::{Timed, Words};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::counting::CountingMetrics;
use crate::telemetry::metrics::label::{StoreFault, StoreOp};

/// What is said of the ledger.
const OUTAGE: Words = Words {
    out: "the shared counters are out: each replica allows its share of the limits",
    back: "the shared counters are back: limits are counted together again",
};
/// How often it is tried whether a bucket's server is back, in milliseconds.
const TRIAL_MS: Millis = 250;

/// The way to the ledger.
pub(super) struct Reach {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Clock,
    pub(super) metrics: CountingMetrics,
    pub(super) timed: Timed,
    /// Replicas that answer Checks, as far as is known.
    pub(super) replicas: AtomicU32,
    store_metrics: Arc<Metrics>,
    buckets: Box<[Bucket]>,
    tasks: TaskTracker,
}

/// A bucket of the ledger: one server has it.
#[derive(Debug, Default)]
struct Bucket {
    breaker: Breaker,
    /// When it was last tried whether it is back.
    tried_at: AtomicU64,
}

impl Reach {
    pub(super) fn new(
        budget: Duration,
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        store_metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            ledger,
            clock,
            metrics: store_metrics.counting(),
            timed: Timed::new(budget, clock, store_metrics.clone(), OUTAGE),
            replicas: AtomicU32::new(1),
            store_metrics,
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            tasks: TaskTracker::new(),
        }
    }

    pub(super) async fn spend(self: &Arc<Self>, key: Key, quota: Quota) -> Result<Decision, StoreError> {
        self.asked(StoreOp::Spend, key, self.ledger.spend(key, quota)).await
    }

    pub(super) async fn claim(
        self: &Arc<Self>,
        key: Key,
        holder: Holder,
        ttl: Millis,
    ) -> Result<Claimed, StoreError> {
        self.asked(StoreOp::Claim, key, self.ledger.claim(key, holder, ttl)).await
    }

    /// Ends the calls under way.
    pub(super) async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Makes a call; refused at once while those of the key's bucket fail.
    async fn asked<T>(
        self: &Arc<Self>,
        operation: StoreOp,
        key: Key,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if self.buckets[usize::from(key.bucket())].breaker.is_open() {
            self.try_again(key);
            self.store_metrics.store_call_failed(operation, StoreFault::NotTried);
            return Err(StoreError::Unavailable(
                "not tried: the bucket's last calls have all failed".to_owned(),
            ));
        }
        self.tried(operation, key, call).await
    }

    async fn tried<T>(
        &self,
        operation: StoreOp,
        key: Key,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = self.clock.now_ms();
        let result = self.timed.call(operation, call).await;
        let breaker = &self.buckets[usize::from(key.bucket())].breaker;
        match &result {
            Ok(_) => breaker.answered(),
            Err(_) => breaker.failed(begun, self.clock.now_ms()),
        };
        result
    }

    /// Finds out now and then whether a bucket is back, while nobody waits for it.
    fn try_again(self: &Arc<Self>, key: Key) {
        let now = self.clock.now_ms();
        let bucket = &self.buckets[usize::from(key.bucket())];
        let last = bucket.tried_at.load(Ordering::Relaxed);
        if now < last.saturating_add(TRIAL_MS) || self.tasks.is_closed() {
            return;
        }
        let relaxed = Ordering::Relaxed;
        if bucket.tried_at.compare_exchange(last, now, relaxed, relaxed).is_err() {
            return;
        }
        // A key that nobody else has, in the same bucket.
        let mut trial = Key([0; 16]);
        trial.0[0] = key.bucket();
        let once_a_second = Quota::new(Rate { count: 1, period: Period::Second }, None);
        let (Some(quota), reach) = (once_a_second, self.clone()) else { return };
        self.tasks.spawn(async move {
            // How it went is in the breaker, the metrics and the log.
            let _ = reach.tried(StoreOp::Spend, trial, reach.ledger.spend(trial, quota)).await;
        });
    }
}
