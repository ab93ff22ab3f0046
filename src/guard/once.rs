//! What may be done once: a request with an idempotency key, a nonce.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

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

/// How long another's deed is believed to be done without another question, in milliseconds: short against a visitor's
/// next try, long against a flood.
const BELIEVED_MS: Millis = 1_000;
/// The most deeds that are taken back at a time; more than are refused in the moment in which a server is lost.
const MAX_TAKEN_BACK: usize = 16_384;
/// How often and how many times that is tried: for half a minute, in which a shard changes its master.
const TRIED_EVERY: Duration = Duration::from_millis(250);
const TRIES: u32 = 120;
/// How long the end of the process waits for it.
const CLOSES_WITHIN: Duration = Duration::from_secs(1);

/// What is done once, for all replicas.
pub struct Once {
    reach: Arc<Reach>,
    /// By whom and until when.
    done: Expiring<(Holder, Micros)>,
    /// How many more may be taken back at a time.
    taken_back: Arc<Semaphore>,
    tasks: TaskTracker,
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
        let taken_back = Arc::new(Semaphore::new(MAX_TAKEN_BACK));
        Self { reach, done: Expiring::new(MAX_DONE), taken_back, tasks: TaskTracker::new() }
    }

    /// Whether nobody else has done this within the last `ttl`; then it counts as done from now on.
    ///
    /// An error: the ledger is out or was not asked in time, and nobody knows; it may count as done. Whoever does not do it
    /// then [takes it back](Self::take_back).
    pub async fn first(&self, deed: Deed<'_>) -> Result<bool, StoreError> {
        // A client that hangs up, and Envoy when it waits no longer, end this where it stands; the order has not passed.
        let mut unheard = Unheard { once: self, deed: Some(deed) };
        let outcome = self.tried(&deed).await;
        unheard.deed = None;
        self.reach.metrics.tried_once(deed.scope, *outcome.as_ref().unwrap_or(&OnceOutcome::Unknown));
        Ok(matches!(outcome?, OnceOutcome::First | OnceOutcome::Again))
    }

    /// Whether another request has done this by now. It does not count as done for being asked about; it is counted as a
    /// try if it was done.
    ///
    /// An error: the ledger is out or was not asked in time, and nobody knows.
    pub async fn is_done(&self, deed: Deed<'_>) -> Result<bool, StoreError> {
        let (now, key) = (self.reach.clock.now_us(), key_of(&deed));
        let outcome = match self.remembered(key, deed.holder, now) {
            Some(outcome) => outcome,
            None => match in_time(deed.deadline, self.reach.look(key)).await? {
                Claimed::First => return Ok(false),
                Claimed::Taken(by, left) => self.taken(key, deed.holder, now, by, left),
            },
        };
        let is_done = outcome != OnceOutcome::Again;
        if is_done {
            self.reach.metrics.tried_once(deed.scope, outcome);
        }
        Ok(is_done)
    }

    /// Sees to it that a deed of which nobody knew, and which was not done, does not count as done: its answer may have been
    /// lost on the way back. In the background, as soon as the ledger answers; whoever tries again before that is told that
    /// it is done.
    pub fn take_back(&self, deed: Deed<'_>) {
        let Deed { scope, holder, .. } = deed;
        let (key, now, reach) = (key_of(&deed), self.reach.clock.now_us(), self.reach.clone());
        // What is over by now is forgotten.
        self.done.update(key, now, |known| (known.filter(|(by, _)| *by == holder).map(|own| (now, own)), ()));
        let runtime = Handle::try_current().ok();
        let Some((runtime, permit)) = runtime.zip(self.taken_back.clone().try_acquire_owned().ok()) else {
            self.reach.metrics.tried_once(scope, OnceOutcome::Stuck);
            return;
        };
        let release = async move {
            let _permit = permit;
            for _ in 0..TRIES {
                if reach.release(key, holder).await.is_ok() {
                    return reach.metrics.tried_once(scope, OnceOutcome::TakenBack);
                }
                tokio::time::sleep(TRIED_EVERY).await;
            }
            reach.metrics.tried_once(scope, OnceOutcome::Stuck);
        };
        self.tasks.spawn_on(release, &runtime);
    }

    async fn tried(&self, deed: &Deed<'_>) -> Result<OnceOutcome, StoreError> {
        let Deed { holder, ttl, deadline, .. } = *deed;
        let (now, key) = (self.reach.clock.now_us(), key_of(deed));
        if let Some(outcome) = self.remembered(key, holder, now) {
            return Ok(outcome);
        }
        let ttl = Millis::try_from(ttl.as_millis()).unwrap_or(Millis::MAX).max(1);
        match in_time(deadline, self.reach.claim(key, holder, ttl)).await? {
            Claimed::First => {
                self.remember(key, holder, now, ttl);
                Ok(OnceOutcome::First)
            }
            Claimed::Taken(by, left) => Ok(self.taken(key, holder, now, by, left)),
        }
    }

    /// What a try comes to by what is remembered here.
    fn remembered(&self, key: Key, holder: Holder, now: Micros) -> Option<OnceOutcome> {
        let (by, _) = self.done.get(key, now)?;
        Some(if by.is_of_one_request(holder) { OnceOutcome::Again } else { OnceOutcome::Remembered })
    }

    /// What a try comes to by what the ledger says: it is done.
    fn taken(&self, key: Key, holder: Holder, now: Micros, by: Holder, left: Millis) -> OnceOutcome {
        if by.is_of_one_request(holder) {
            self.remember(key, holder, now, left);
            return OnceOutcome::Again;
        }
        // It may be taken back yet.
        self.remember(key, by, now, left.min(BELIEVED_MS));
        OnceOutcome::Repeated
    }

    /// Remembers from before the question, `now`: here it is free again no later than in the ledger.
    fn remember(&self, key: Key, by: Holder, now: Micros, left: Millis) {
        let until = now.saturating_add(left.saturating_mul(1_000));
        let ((), evicted) = self.done.update(key, now, |_| (Some((until, (by, until))), ()));
        self.reach.metrics.evicted(KeyTable::Done, evicted);
    }

    /// Waits for what is being taken back, a second at most: what is left then counts as done for its time.
    pub(super) async fn close(&self) {
        self.tasks.close();
        if timeout(CLOSES_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                count = self.tasks.len(),
                "requests that were refused while the shared counters were out could not be forgotten; whoever repeats one \
                 within 5 minutes is told that it has passed"
            );
        }
    }

    pub(super) fn sweep(&self) {
        self.done.sweep(self.reach.clock.now_us());
        self.reach.metrics.set_keys(KeyTable::Done, self.done.len());
    }
}

/// A question whose asker may go before it is answered.
struct Unheard<'a> {
    once: &'a Once,
    deed: Option<Deed<'a>>,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some(deed) = self.deed.take() {
            self.once.take_back(deed);
        }
    }
}

fn key_of(deed: &Deed<'_>) -> Key {
    Key::of(&[&[b"once", deed.scope.as_str().as_bytes()], deed.key].concat())
}

/// Asks the ledger, but not when that is already too late: it would use a key up for nothing.
async fn in_time<T>(
    deadline: Option<Instant>,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match deadline {
        None => asked.await,
        Some(deadline) if deadline <= Instant::now() => Err(late()),
        Some(deadline) => timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(late())),
    }
}

fn late() -> StoreError {
    StoreError::Unavailable("the request has to be answered before the ledger could".to_owned())
}

#[cfg(test)]
mod tests;
