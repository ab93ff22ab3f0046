//! A store that is watched, and that fails or hangs when told to.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anteroom::clock::Clock;
use anteroom::room::name::RoomName;
use anteroom::room::policy::Millis;
use anteroom::room::snapshot::Snapshot;
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Control, Hints, Newcomer, Outcome};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{Store, StoreError};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::policies::under;

/// How the store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    Fails,
    Hangs,
    /// A full disk: arrivals fail, the rest goes well.
    Full,
    /// What operators ask for is done, and the answer is lost.
    Unheard,
}

/// An embedded store behind a counter and a switch.
pub(crate) struct Probe {
    clock: Clock,
    store: ArcSwap<MemoryStore>,
    mood: Mutex<Mood>,
    observed: AtomicU64,
    others: AtomicU64,
    /// Who was reported as heard of, by the last tick that went well.
    beats: Mutex<Vec<u64>>,
    hints: Mutex<Hints>,
}

impl Probe {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            store: ArcSwap::from_pointee(MemoryStore::new(clock, 100_000)),
            mood: Mutex::new(Mood::Well),
            observed: AtomicU64::new(0),
            others: AtomicU64::new(0),
            beats: Mutex::default(),
            hints: Mutex::default(),
        })
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    /// Loses every room.
    pub(crate) fn forget(&self) {
        self.store.store(Arc::new(MemoryStore::new(self.clock, 100_000)));
    }

    /// Makes a room as another process would: unseen by the counters.
    pub(crate) async fn make(&self, words: &str) {
        let call = under(words);
        let room = &call.policy.as_ref().expect("stated").room;
        self.store
            .load_full()
            .observe(room, &call, &Beats::new(), None)
            .await
            .expect("the embedded store answers");
    }

    /// Ticks so far.
    pub(crate) fn observed(&self) -> u64 {
        self.observed.load(Ordering::SeqCst)
    }

    /// Calls so far, ticks left out.
    pub(crate) fn others(&self) -> u64 {
        self.others.load(Ordering::SeqCst)
    }

    /// The numbers up to 1,000 that the last tick reported as heard of.
    pub(crate) fn beats(&self) -> Vec<u64> {
        self.beats.lock().clone()
    }

    /// The hints of the last call.
    pub(crate) fn hints(&self) -> Hints {
        *self.hints.lock()
    }

    async fn called(&self, counter: &AtomicU64, call: &Call, arrival: bool) -> Result<(), StoreError> {
        counter.fetch_add(1, Ordering::SeqCst);
        *self.hints.lock() = call.hints;
        let mood = *self.mood.lock();
        match mood {
            Mood::Full if !arrival => Ok(()),
            Mood::Well | Mood::Unheard => Ok(()),
            Mood::Fails | Mood::Full => Err(StoreError::Unavailable("secret-host: refused".to_owned())),
            Mood::Hangs => pending().await,
        }
    }
}

#[async_trait]
impl Store for Probe {
    async fn arrive(
        &self,
        room: &RoomName,
        call: &Call,
        newcomers: &[Newcomer],
    ) -> Result<Vec<Outcome>, StoreError> {
        self.called(&self.others, call, true).await?;
        self.store.load_full().arrive(room, call, newcomers).await
    }

    async fn observe(
        &self,
        room: &RoomName,
        call: &Call,
        beats: &Beats,
        known: Option<&Snapshot>,
    ) -> Result<Snapshot, StoreError> {
        self.called(&self.observed, call, false).await?;
        let numbers = beats.iter().flat_map(|(_, bits)| (1..1_000).filter(|number| bits.contains(*number)));
        *self.beats.lock() = numbers.collect();
        self.store.load_full().observe(room, call, beats, known).await
    }

    async fn enter(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[Place],
    ) -> Result<Vec<Outcome>, StoreError> {
        self.called(&self.others, call, false).await?;
        self.store.load_full().enter(room, call, places).await
    }

    async fn touch(
        &self,
        room: &RoomName,
        call: &Call,
        passes: &[(Place, Millis)],
    ) -> Result<Vec<Option<Millis>>, StoreError> {
        self.called(&self.others, call, false).await?;
        self.store.load_full().touch(room, call, passes).await
    }

    async fn leave(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[(Place, Option<Millis>)],
    ) -> Result<Vec<bool>, StoreError> {
        self.called(&self.others, call, false).await?;
        self.store.load_full().leave(room, call, places).await
    }

    async fn away(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[(Place, Millis)],
    ) -> Result<Vec<bool>, StoreError> {
        self.called(&self.others, call, false).await?;
        self.store.load_full().away(room, call, places).await
    }

    async fn control(&self, room: &RoomName, call: &Call, control: Control) -> Result<(), StoreError> {
        self.called(&self.others, call, false).await?;
        self.store.load_full().control(room, call, control).await?;
        match *self.mood.lock() {
            Mood::Unheard => Err(StoreError::Unavailable("the answer was lost".to_owned())),
            _ => Ok(()),
        }
    }
}
