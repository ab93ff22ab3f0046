//! The embedded store: the model behind a lock, one lock per room, with an optional checkpoint on disk.

pub mod ledger;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard, RwLock};

use super::checkpoint::{Checkpoint, CheckpointError, Image};
use super::{Store, StoreError};
use crate::clock::Clock;
use crate::room::line::MARGIN;
use crate::room::name::RoomName;
use crate::room::policy::Millis;
use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;
use crate::room::state::{Beats, Call, Control, Newcomer, Outcome, State};

/// How many numbers a checkpoint reserves ahead, so that no number is given twice after a crash.
///
/// Reserving costs one write that is forced to disk, of some milliseconds. Half of it is still left when
/// [`MemoryStore::save`] renews it, so that arrivals wait for the disk only where a room is new, or where more than
/// 32,768 come between two saves.
const RESERVE: u64 = 65_536;

/// How long the last save may take over rooms that have not changed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The embedded store.
pub struct MemoryStore {
    clock: Clock,
    max_rooms: usize,
    rooms: RwLock<HashMap<RoomName, Arc<Cell>>>,
    checkpoint: Option<Checkpoint>,
}

/// One room behind its lock.
struct Cell {
    /// Held while the room's file is written, taken before `inner`: an older image never replaces a newer one.
    writing: Mutex<()>,
    inner: Mutex<Inner>,
    /// Changed since the last checkpoint.
    dirty: AtomicBool,
}

struct Inner {
    state: State,
    /// Numbers below this one are reserved on disk; without a checkpoint it is of no matter.
    ceiling: u64,
}

/// What a file is written for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// It is the room's turn: something has changed.
    InTurn,
    /// Somebody is told that it is kept: it is on disk before.
    AtOnce,
    /// It is the last time of this process.
    Finally,
}

impl Cell {
    fn new(state: State, ceiling: u64) -> Arc<Self> {
        Arc::new(Self {
            writing: Mutex::default(),
            inner: Mutex::new(Inner { state, ceiling }),
            dirty: AtomicBool::new(true),
        })
    }

    /// Writes the room's file; see [`MemoryStore::save`]. Where that fails, it is tried again with the next save.
    fn save(&self, name: &RoomName, checkpoint: &Checkpoint, when: When) -> Result<(), CheckpointError> {
        self.dirty.store(false, Ordering::Release);
        self.write(name, checkpoint, when).inspect_err(|_| self.dirty.store(true, Ordering::Release))
    }

    fn write(&self, name: &RoomName, checkpoint: &Checkpoint, when: When) -> Result<(), CheckpointError> {
        let finally = when == When::Finally;
        let _writing = self.writing.lock();
        // Copied under the room's lock, written outside it.
        let (image, reserves) = {
            let mut inner = self.inner.lock();
            let next = inner.state.next();
            if finally {
                inner.ceiling = next;
            }
            // Only where somebody has arrived: a room woken and left alone should have no wide gap after a crash.
            let left = inner.ceiling.saturating_sub(next);
            let reserves = (1..RESERVE / 2).contains(&left);
            let ceiling = if reserves { next.saturating_add(RESERVE) } else { inner.ceiling };
            // One more than given says that this is no clean stop: sessions begun since may be lost.
            let ceiling = if finally { next } else { ceiling.max(next + 1) };
            (inner.image(ceiling), reserves)
        };
        checkpoint.write(name, &image, when != When::InTurn || reserves)?;
        if reserves {
            let mut inner = self.inner.lock();
            inner.ceiling = inner.ceiling.max(image.ceiling);
        }
        Ok(())
    }

    /// Locks the room, with the numbers of an arrival reserved on disk before the first of them is given.
    ///
    /// The room itself is not locked while the disk is waited for.
    fn lock_reserving(
        &self,
        name: &RoomName,
        call: &Call,
        newcomers: u64,
        checkpoint: &Checkpoint,
    ) -> Result<MutexGuard<'_, Inner>, CheckpointError> {
        let inner = self.inner.lock();
        if inner.end_of(call, newcomers) <= inner.ceiling {
            return Ok(inner);
        }
        drop(inner);
        let _writing = self.writing.lock();
        loop {
            let mut inner = self.inner.lock();
            let end = inner.end_of(call, newcomers);
            if end <= inner.ceiling {
                return Ok(inner);
            }
            let image = inner.image(end.saturating_add(RESERVE));
            drop(inner);
            checkpoint.write(name, &image, true)?;
            inner = self.inner.lock();
            inner.ceiling = inner.ceiling.max(image.ceiling);
        }
    }
}

impl Inner {
    /// The number after the last that an arrival of so many may be given; 0 for nobody.
    fn end_of(&self, call: &Call, newcomers: u64) -> u64 {
        if newcomers == 0 {
            return 0;
        }
        let (known, told) = (self.state.hints(), call.hints);
        let is_news = told.generation > known.generation
            || (told.generation == known.generation && told.next > known.next);
        let next = if is_news { told.next.saturating_add(MARGIN).max(known.next) } else { known.next };
        next.saturating_add(newcomers)
    }

    fn image(&self, ceiling: u64) -> Image {
        Image { ceiling, state: self.state.clone() }
    }
}

impl MemoryStore {
    /// A store that forgets everything when the process ends.
    pub fn new(clock: Clock, max_rooms: usize) -> Self {
        Self { clock, max_rooms, rooms: RwLock::default(), checkpoint: None }
    }

    /// A store that keeps its rooms in a checkpoint directory, beginning with those found there.
    pub fn open(clock: Clock, max_rooms: usize, checkpoint: Checkpoint) -> Result<Self, CheckpointError> {
        let now = clock.now_ms();
        let mut rooms = HashMap::new();
        for (name, image) in checkpoint.load()? {
            let mut state = image.state;
            state.resume(image.ceiling, now);
            let ceiling = state.next();
            rooms.insert(name, Cell::new(state, ceiling));
        }
        tracing::info!(rooms = rooms.len(), "rooms woken from the checkpoint");
        Ok(Self { clock, max_rooms, rooms: RwLock::new(rooms), checkpoint: Some(checkpoint) })
    }

    /// The rooms it has.
    pub fn names(&self) -> Vec<RoomName> {
        self.rooms.read().keys().cloned().collect()
    }

    /// Writes every room that has changed; the first failure is returned after all were tried.
    ///
    /// `finally`: the last one of this process; nothing is reserved beyond the numbers given, and whoever should
    /// still arrive has their number reserved anew. What has not changed is then written as well, for as long as
    /// [`LAST_WORDS`] lasts: it only saves those rooms from healing at the next start.
    pub fn save(&self, finally: bool) -> Result<usize, CheckpointError> {
        let Some(checkpoint) = &self.checkpoint else { return Ok(0) };
        let rooms: Vec<_> =
            self.rooms.read().iter().map(|(name, cell)| (name.clone(), cell.clone())).collect();
        let (mut saved, mut failed) = (0, None);
        let (changed, others): (Vec<_>, Vec<_>) =
            rooms.into_iter().partition(|(_, cell)| cell.dirty.load(Ordering::Acquire));
        let others = if finally { others } else { Vec::new() };
        let (must, begun) = (changed.len(), Instant::now());
        for (index, (name, cell)) in changed.into_iter().chain(others).enumerate() {
            if index >= must && begun.elapsed() > LAST_WORDS {
                break;
            }
            match cell.save(&name, checkpoint, if finally { When::Finally } else { When::InTurn }) {
                Ok(()) => saved += 1,
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(saved), Err)
    }

    fn with<T>(
        &self,
        name: &RoomName,
        call: &Call,
        operation: impl FnOnce(&mut State, Millis) -> T,
    ) -> Result<T, StoreError> {
        self.with_room(name, call, 0, true, operation)
    }

    /// Runs an operation that may give up to `newcomers` numbers; `is_change`: it changes the room whatever it
    /// shows from outside.
    fn with_room<T>(
        &self,
        name: &RoomName,
        call: &Call,
        newcomers: u64,
        is_change: bool,
        operation: impl FnOnce(&mut State, Millis) -> T,
    ) -> Result<T, StoreError> {
        let cell = self.cell(name, call)?;
        let mut inner = match &self.checkpoint {
            None => cell.inner.lock(),
            Some(checkpoint) => cell.lock_reserving(name, call, newcomers, checkpoint).map_err(|error| {
                // The next save tries again, and tells how that went.
                cell.dirty.store(true, Ordering::Release);
                StoreError::Unavailable(error.to_string())
            })?,
        };
        let before = inner.state.shape();
        let answer = operation(&mut inner.state, self.clock.now_ms());
        // Under the lock: a save that comes before the change must not count as one of it.
        if is_change || inner.state.shape() != before {
            cell.dirty.store(true, Ordering::Release);
        }
        Ok(answer)
    }

    fn cell(&self, name: &RoomName, call: &Call) -> Result<Arc<Cell>, StoreError> {
        if let Some(cell) = self.rooms.read().get(name) {
            return Ok(cell.clone());
        }
        let policy = call.policy.clone().ok_or_else(|| StoreError::NoRoom(name.clone()))?;
        let mut rooms = self.rooms.write();
        if !rooms.contains_key(name) && rooms.len() >= self.max_rooms {
            return Err(StoreError::TooManyRooms { room: name.clone(), max: self.max_rooms });
        }
        let cell = rooms
            .entry(name.clone())
            .or_insert_with(|| Cell::new(State::new(policy, self.clock.now_ms()), 0));
        Ok(cell.clone())
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn arrive(
        &self,
        room: &RoomName,
        call: &Call,
        newcomers: &[Newcomer],
    ) -> Result<Vec<Outcome>, StoreError> {
        self.with_room(room, call, newcomers.len() as u64, true, |state, now| {
            state.arrive(call, newcomers, now)
        })
    }

    async fn observe(
        &self,
        room: &RoomName,
        call: &Call,
        beats: &Beats,
        known: Option<&Snapshot>,
    ) -> Result<Snapshot, StoreError> {
        // Most ticks change nothing: the room is not written for them.
        self.with_room(room, call, 0, false, |state, now| state.observe(call, beats, known, now))
    }

    async fn enter(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[Place],
    ) -> Result<Vec<Outcome>, StoreError> {
        self.with(room, call, |state, now| state.enter(call, places, now))
    }

    async fn touch(
        &self,
        room: &RoomName,
        call: &Call,
        passes: &[(Place, Millis)],
    ) -> Result<Vec<Option<Millis>>, StoreError> {
        self.with(room, call, |state, now| state.touch(call, passes, now))
    }

    async fn leave(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[(Place, Option<Millis>)],
    ) -> Result<Vec<bool>, StoreError> {
        self.with(room, call, |state, now| state.leave(call, places, now))
    }

    async fn away(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[(Place, Millis)],
    ) -> Result<Vec<bool>, StoreError> {
        // Who is away is not kept on disk.
        self.with_room(room, call, 0, false, |state, now| state.away(call, places, now))
    }

    async fn control(&self, room: &RoomName, call: &Call, control: Control) -> Result<(), StoreError> {
        self.with(room, call, |state, now| state.control(call, control, now))?;
        // Operators are told that it is done once it is kept: a room paused because its backend burns stays paused.
        if let Some(checkpoint) = &self.checkpoint {
            self.cell(room, call)?
                .save(room, checkpoint, When::AtOnce)
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        }
        Ok(())
    }
}
