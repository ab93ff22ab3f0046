//! The ledger of one process: the rules behind locks.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::room::gcra::{self, Decision, Micros, Quota, Tat};
use crate::room::policy::Millis;
use crate::store::StoreError;
use crate::store::expiring::Expiring;
use crate::store::ledger::{Claimed, Document, Holder, Key, Ledger, Muster, Offer, Presence};
use crate::telemetry::metrics::counting::CountingMetrics;
use crate::telemetry::metrics::label::counting::KeyTable;

/// The most keys that have spent, at some 140 bytes each. The one that would soonest have spent nothing makes room.
const MAX_SPENT: usize = 262_144;
/// The most keys that are claimed, at some 120 bytes each. The one that would soonest be free makes room.
const MAX_CLAIMED: usize = 524_288;
/// How often those whose time is over are let go of, in milliseconds.
const SWEEP_MS: Millis = 10_000;

/// The ledger of a process that is alone.
pub struct MemoryLedger {
    clock: Clock,
    metrics: CountingMetrics,
    spent: Expiring<Tat>,
    /// By whom and until when, in microseconds.
    claimed: Expiring<(Holder, Micros)>,
    swept_at: AtomicU64,
    document: Mutex<Option<Document>>,
}

impl MemoryLedger {
    /// An empty one.
    pub fn new(clock: Clock, metrics: CountingMetrics) -> Self {
        Self {
            clock,
            metrics,
            spent: Expiring::new(MAX_SPENT),
            claimed: Expiring::new(MAX_CLAIMED),
            swept_at: AtomicU64::new(0),
            document: Mutex::default(),
        }
    }

    /// Lets go of keys whose time is over, now and then.
    fn sweep(&self, now: Millis) {
        if now < self.swept_at.load(Ordering::Relaxed) + SWEEP_MS {
            return;
        }
        self.swept_at.store(now, Ordering::Relaxed);
        self.spent.sweep(self.clock.now_us());
        self.claimed.sweep(self.clock.now_us());
        self.metrics.set_keys(KeyTable::Spent, self.spent.len());
        self.metrics.set_keys(KeyTable::Claimed, self.claimed.len());
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn spend(&self, key: Key, quota: Quota) -> Result<Decision, StoreError> {
        let now = self.clock.now_us();
        let (decision, evicted) = self.spent.update(key, now, |tat| {
            let (decision, tat) = gcra::spend(tat, &quota, now);
            (Some((now + decision.reset, tat)), decision)
        });
        self.metrics.evicted(KeyTable::Spent, evicted);
        Ok(decision)
    }

    async fn claim(&self, key: Key, holder: Holder, ttl: Millis) -> Result<Claimed, StoreError> {
        let now = self.clock.now_us();
        let until = now.saturating_add(ttl.max(1).saturating_mul(1_000));
        let (claimed, evicted) = self.claimed.update(key, now, |taken| match taken {
            None => (Some((until, (holder, until))), Claimed::First),
            Some((by, until)) => {
                let both = by.is_of_one_request(holder).then_some((until, (by.of_several(), until)));
                (both, Claimed::Taken(by, (until - now).div_ceil(1_000)))
            }
        });
        self.metrics.evicted(KeyTable::Claimed, evicted);
        Ok(claimed)
    }

    async fn look(&self, key: Key) -> Result<Claimed, StoreError> {
        let now = self.clock.now_us();
        let taken = self.claimed.get(key, now);
        Ok(taken.map_or(Claimed::First, |(by, until)| Claimed::Taken(by, (until - now).div_ceil(1_000))))
    }

    async fn release(&self, key: Key, holder: Holder) -> Result<(), StoreError> {
        let now = self.clock.now_us();
        // What is over by now is free.
        self.claimed
            .update(key, now, |taken| (taken.filter(|(by, _)| *by == holder).map(|own| (now, own)), ()));
        Ok(())
    }

    async fn sync(&self, _: &Presence, known: u64, offer: Offer<'_>) -> Result<Muster, StoreError> {
        let now = self.clock.now_ms();
        self.sweep(now);
        let mut kept = self.document.lock();
        let mut version = kept.as_ref().map_or(0, Document::version);
        let given = match offer {
            Offer::Nothing => None,
            Offer::New(document) => Some((document, now.max(known + 1))),
            Offer::Lost(document) => Some((document, known)),
        };
        let mut known = known;
        if let Some((document, given)) = given.filter(|_| version <= known) {
            (version, known) = (given, given);
            *kept = Some(document.clone().given(given));
        }
        let document = kept.clone().filter(|_| version > known);
        Ok(Muster { checking: 1, others: 0, version, document })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ledger() -> MemoryLedger {
        MemoryLedger::new(Clock::starting_at(1_700_000_000_000), CountingMetrics::unregistered())
    }

    fn presence() -> Presence {
        Presence { id: uuid::Uuid::nil(), checks: true }
    }

    #[tokio::test(start_paused = true)]
    async fn limits_and_claims_are_kept_and_forgotten() {
        let ledger = ledger();
        let (key, quota) = (Key::of(&[b"a"]), "10/s burst 2".parse().unwrap());
        let mut allowed = Vec::new();
        for _ in 0..3 {
            allowed.push(ledger.spend(key, quota).await.unwrap().allowed);
        }
        assert_eq!(allowed, [true, true, false]);
        assert!(ledger.spend(Key::of(&[b"b"]), quota).await.unwrap().allowed, "another key");
        let first = Holder::of("a");
        assert_eq!(ledger.claim(key, first, 300).await.unwrap(), Claimed::First);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(ledger.spend(key, quota).await.unwrap().allowed);
        let taken = ledger.claim(key, Holder::of("b"), 300).await.unwrap();
        assert_eq!(taken, Claimed::Taken(first, 200));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(ledger.claim(key, Holder::of("a"), 300).await.unwrap(), Claimed::First);
        tokio::time::advance(Duration::from_secs(1)).await;
        ledger.sync(&presence(), 0, Offer::Nothing).await.unwrap();
        assert!(ledger.spent.is_empty() && ledger.claimed.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_is_told_to_those_who_know_an_older_one() {
        let ledger = ledger();
        let sync = async |known, offer: Offer<'_>| ledger.sync(&presence(), known, offer).await.unwrap();
        let none = sync(0, Offer::Nothing).await;
        assert_eq!((none.checking, none.others, none.version, none.document), (1, 0, 0, None));
        let (one, two) = (Document::new("one").unwrap(), Document::new("two").unwrap());
        let posted = sync(0, Offer::New(&one)).await;
        assert_eq!((posted.version, posted.document), (1_700_000_000_000, None));
        let told = sync(0, Offer::Nothing).await.document.unwrap();
        assert_eq!((told.text(), told.version()), ("one", posted.version));
        assert_eq!(sync(posted.version, Offer::Nothing).await.document, None);
        let outdated = sync(0, Offer::New(&two)).await;
        assert_eq!(outdated.document, Some(told.clone()), "a change of something older");
        let second = sync(posted.version, Offer::New(&two)).await;
        assert_eq!((second.version, second.document), (posted.version + 1, None), "within one millisecond");
        assert_eq!(sync(told.version(), Offer::Lost(&told)).await.document, Some(two.given(second.version)));
        assert!(Document::new(&"x".repeat(Document::MAX_LEN + 1)).is_err());
    }
}
