//! What may be done once: a request with an idempotency key, a nonce.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::reach::Reach;
use crate::room::gcra::Micros;
use crate::room::policy::Millis;
use crate::store::StoreError;
use crate::store::expiring::Expiring;
use crate::store::ledger::{Claimed, Holder, Key};
use crate::telemetry::metrics::label::Label as _;
use crate::telemetry::metrics::label::counting::{KeyTable, OnceOutcome, OnceScope};

/// The most keys remembered as done. The one that would first be free again makes room: it costs a call more.
const MAX_DONE: usize = 65_536;

/// What is done once, for all replicas.
pub struct Once {
    reach: Arc<Reach>,
    /// By whom and until when.
    done: Expiring<(Holder, Micros)>,
}

/// Something that may be done once.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// What kind of thing.
    pub scope: OnceScope,
    /// What tells it apart, in parts: whose it is, for what, and the key or nonce itself.
    pub key: &'a [&'a [u8]],
    /// The request that wants to do it. The one that did it may ask again: its answer may have been lost.
    pub holder: Holder,
    /// How long it counts as done.
    pub ttl: Duration,
    /// Until when an answer is of use; `None`: as long as the ledger may take.
    pub deadline: Option<Instant>,
}

impl Once {
    pub(super) fn new(reach: Arc<Reach>) -> Self {
        Self { reach, done: Expiring::new(MAX_DONE) }
    }

    /// Whether nobody else has done this within the last `ttl`; then it counts as done from now on.
    ///
    /// An error: the ledger is out or was not asked in time, and nobody knows; it may count as done.
    pub async fn first(&self, deed: Deed<'_>) -> Result<bool, StoreError> {
        let outcome = self.tried(&deed).await;
        self.reach.metrics.tried_once(deed.scope, *outcome.as_ref().unwrap_or(&OnceOutcome::Unknown));
        Ok(matches!(outcome?, OnceOutcome::First | OnceOutcome::Again))
    }

    async fn tried(&self, deed: &Deed<'_>) -> Result<OnceOutcome, StoreError> {
        let Deed { scope, key, holder, ttl, deadline } = *deed;
        let now = self.reach.clock.now_us();
        let key = Key::of(&[&[b"once", scope.as_str().as_bytes()], key].concat());
        if let Some((by, _)) = self.done.get(key, now) {
            return Ok(if by.is(holder) { OnceOutcome::Again } else { OnceOutcome::Remembered });
        }
        let ttl = Millis::try_from(ttl.as_millis()).unwrap_or(Millis::MAX).max(1);
        let claim = self.reach.claim(key, holder, ttl);
        let claimed = match deadline {
            None => claim.await?,
            // A question that is already too late would use the key up for nothing.
            Some(deadline) if deadline <= Instant::now() => return Err(late()),
            Some(deadline) => timeout_at(deadline, claim).await.unwrap_or_else(|_| Err(late()))?,
        };
        let (outcome, by, left) = match claimed {
            Claimed::First => (OnceOutcome::First, holder, ttl),
            Claimed::Taken(by, left) if by.is(holder) => (OnceOutcome::Again, by, left),
            Claimed::Taken(by, left) => (OnceOutcome::Repeated, by, left),
        };
        // From before the question: here it is free again no later than in the ledger.
        let until = now.saturating_add(left.saturating_mul(1_000));
        let ((), evicted) = self.done.update(key, now, |_| (Some((until, (by, until))), ()));
        self.reach.metrics.evicted(KeyTable::Done, evicted);
        Ok(outcome)
    }

    pub(super) fn sweep(&self) {
        self.done.sweep(self.reach.clock.now_us());
        self.reach.metrics.set_keys(KeyTable::Done, self.done.len());
    }
}

fn late() -> StoreError {
    StoreError::Unavailable("the request has to be answered before the ledger could".to_owned())
}
