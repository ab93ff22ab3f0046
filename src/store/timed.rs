//! Calls of a store by those who use it: within the budget, measured, and an outage told once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StoreError;
use super::outage::Outage;
use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::label::StoreOp;

/// What is logged when a store is out, and when it is back.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// An error, with why.
    pub out: &'static str,
    /// When calls have gone well again for a while.
    pub back: &'static str,
}

/// How calls are made.
pub struct Timed {
    budget: Duration,
    clock: Clock,
    metrics: Arc<Metrics>,
    outage: Outage,
    words: Words,
}

impl Timed {
    /// Calls that take no longer than `budget`.
    pub fn new(budget: Duration, clock: Clock, metrics: Arc<Metrics>, words: Words) -> Self {
        Self { budget, clock, metrics, outage: Outage::default(), words }
    }

    /// Makes a call.
    pub async fn call<T>(
        &self,
        operation: StoreOp,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let budget = self.budget;
        let result = match tokio::time::timeout(budget, call).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {budget:?}"))),
        };
        self.metrics.store_call_took(operation, begun.elapsed());
        let now = self.clock.now_ms();
        match &result {
            Ok(_) if self.outage.answered(now) => tracing::info!("{}", self.words.back),
            Err(error) => {
                self.metrics.store_call_failed(operation, error.into());
                if matches!(error, StoreError::Unavailable(_)) && self.outage.failed(now) {
                    tracing::error!(%error, "{}", self.words.out);
                }
            }
            Ok(_) => {}
        }
        result
    }
}
