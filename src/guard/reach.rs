//! How this process reaches the ledger: within the budget, and not at all where the last calls have failed.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use futures_util::future::join_all;

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

/// The way to the ledger.
pub(super) struct Reach {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Clock,
    pub(super) metrics: CountingMetrics,
    pub(super) timed: Timed,
    /// Replicas that answer Checks, as far as is known. Those that only serve clients are not among them: the limits of
    /// Checks must not shrink for them, and while the ledger is out hardly anybody is given a place.
    pub(super) replicas: AtomicU32,
    store_metrics: Arc<Metrics>,
    /// For each bucket of the ledger: one server has it.
    buckets: Box<[Breaker]>,
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
            buckets: (0..BUCKETS).map(|_| Breaker::default()).collect(),
        }
    }

    pub(super) async fn spend(&self, key: Key, quota: Quota) -> Result<Decision, StoreError> {
        self.asked(StoreOp::Spend, key, self.ledger.spend(key, quota)).await
    }

    pub(super) async fn claim(&self, key: Key, holder: Holder, ttl: Millis) -> Result<Claimed, StoreError> {
        self.asked(StoreOp::Claim, key, self.ledger.claim(key, holder, ttl)).await
    }

    pub(super) async fn look(&self, key: Key) -> Result<Claimed, StoreError> {
        self.asked(StoreOp::Claim, key, self.ledger.look(key)).await
    }

    pub(super) async fn release(&self, key: Key, holder: Holder) -> Result<(), StoreError> {
        self.asked(StoreOp::Claim, key, self.ledger.release(key, holder)).await
    }

    /// Makes a call; refused at once while those of the key's bucket fail.
    async fn asked<T>(
        &self,
        operation: StoreOp,
        key: Key,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if self.buckets[usize::from(key.bucket())].is_open() {
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
        let breaker = &self.buckets[usize::from(key.bucket())];
        match &result {
            Ok(_) => breaker.answered(),
            Err(_) => breaker.failed(begun, self.clock.now_ms()),
        };
        result
    }

    /// Finds out which buckets that were out are back, so that nobody who comes has to: a bucket nobody has asked for long
    /// would still be out for the first who does, and that may be an order. Takes as long as the slowest answer, the budget
    /// at most.
    pub(super) async fn try_again(&self) {
        let once_a_second = Quota::new(Rate { count: 1, period: Period::Second }, None);
        let Some(quota) = once_a_second else { return };
        let out = (0..=u8::MAX).filter(|bucket| self.buckets[usize::from(*bucket)].is_open());
        let trials = out.map(|bucket| {
            // A key that nobody else has, in the same bucket.
            let mut trial = Key([0; 16]);
            trial.0[0] = bucket;
            self.tried(StoreOp::Spend, trial, self.ledger.spend(trial, quota))
        });
        // How they went is in the breakers, the metrics and the log.
        join_all(trials).await;
    }
}
