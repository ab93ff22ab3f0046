//! What may be done once: a request with an idempotency key, a nonce.

use std::sync::Arc;
use std::time::Duration;

use super::reach::Reach;
use crate::room::gcra::Micros;
use crate::room::policy::Millis;
use crate::store::StoreError;
use crate::store::expiring::Expiring;
use crate::store::ledger::{Claimed, Key};
use crate::telemetry::metrics::label::Label as _;
use crate::telemetry::metrics::label::counting::{KeyTable, OnceOutcome, OnceScope};

/// The most keys remembered as done. The one that would first be free again makes room: it costs a call more.
const MAX_DONE: usize = 65_536;

/// What is done once, for all replicas.
pub struct Once {
    reach: Arc<Reach>,
    /// Until when.
    done: Expiring<Micros>,
}

impl Once {
    pub(super) fn new(reach: Arc<Reach>) -> Self {
        Self { reach, done: Expiring::new(MAX_DONE) }
    }

    /// Whether nobody has done this within the last `ttl`; then it counts as done from now on. `key` is what tells it
    /// apart, in parts: whose it is, for what, and the key or nonce itself.
    ///
    /// An error: the ledger is out, and nobody knows; it may count as done.
    pub async fn first(&self, scope: OnceScope, key: &[&[u8]], ttl: Duration) -> Result<bool, StoreError> {
        let now = self.reach.clock.now_us();
        let key = Key::of(&[&[b"once", scope.as_str().as_bytes()], key].concat());
        if self.done.get(key, now).is_some() {
            self.reach.metrics.tried_once(scope, OnceOutcome::Remembered);
            return Ok(false);
        }
        let ttl = Millis::try_from(ttl.as_millis()).unwrap_or(Millis::MAX).max(1);
        let (first, left) = match self.reach.claim(key, ttl).await {
            Ok(Claimed::First) => (true, ttl),
            Ok(Claimed::Taken(left)) => (false, left),
            Err(error) => {
                self.reach.metrics.tried_once(scope, OnceOutcome::Unknown);
                return Err(error);
            }
        };
        let outcome = if first { OnceOutcome::First } else { OnceOutcome::Repeated };
        self.reach.metrics.tried_once(scope, outcome);
        // From before the question: here it is free again no later than in the ledger.
        let until = now.saturating_add(left.saturating_mul(1_000));
        let ((), evicted) = self.done.update(key, now, |_| (Some((until, until)), ()));
        self.reach.metrics.evicted(KeyTable::Done, evicted);
        Ok(first)
    }

    pub(super) fn sweep(&self) {
        self.done.sweep(self.reach.clock.now_us());
        self.reach.metrics.set_keys(KeyTable::Done, self.done.len());
    }
}
