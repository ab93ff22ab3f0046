//! Rooms that only the store may know: few look-ups at a time, and those that came to nothing remembered a moment.
//!
//! A visitor can make up a name for every request; that must not become a store call for every request.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{Room, Rooms};
use crate::room::name::RoomName;
use crate::room::policy::Millis;
use crate::room::state::{Beats, Call};
use crate::store::StoreError;
use crate::telemetry::metrics::label::{StoreFault, StoreOp};

/// The most names looked up at once; whoever asks for a name that is being looked up shares the answer.
const MAX_UNDER_WAY: usize = 16;
/// How long a name is known to be nobody's, in milliseconds: a room that has just been made is found soon.
const UNKNOWN_MS: Millis = 1_000;
/// The most such names remembered, of at most 64 bytes each; the oldest go first.
const MAX_UNKNOWN: usize = 1_024;

type Found = OnceCell<Result<Arc<Room>, StoreError>>;

/// The look-ups under way, and the names that nobody knows.
#[derive(Default)]
pub(super) struct Lookups {
    under_way: Mutex<HashMap<RoomName, Arc<Found>>>,
    unknown: Mutex<Unknown>,
}

impl Lookups {
    /// Joins the look-up of this name, or begins one; `None`: there are enough.
    fn share(&self, name: &RoomName) -> Option<Shared<'_>> {
        let mut under_way = self.under_way.lock();
        if under_way.len() >= MAX_UNDER_WAY && !under_way.contains_key(name) {
            return None;
        }
        let found = under_way.entry(name.clone()).or_default().clone();
        Some(Shared { lookups: self, name: name.clone(), found })
    }
}

/// A part in a look-up; it is over when the last one is dropped, also if all of them hung up.
struct Shared<'a> {
    lookups: &'a Lookups,
    name: RoomName,
    found: Arc<Found>,
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let mut under_way = self.lookups.under_way.lock();
        // The map's and this one; others are only made and dropped under the lock.
        if Arc::strong_count(&self.found) == 2 {
            under_way.remove(&self.name);
        }
    }
}

/// Names that the store did not know a moment ago.
#[derive(Debug, Default)]
struct Unknown {
    names: HashSet<RoomName>,
    order: VecDeque<(RoomName, Millis)>,
}

impl Unknown {
    fn has(&mut self, name: &RoomName, now: Millis) -> bool {
        while self.order.front().is_some_and(|(_, at)| now.saturating_sub(*at) >= UNKNOWN_MS) {
            self.forget_oldest();
        }
        self.names.contains(name)
    }

    fn note(&mut self, name: &RoomName, now: Millis) {
        if self.names.insert(name.clone()) {
            self.order.push_back((name.clone(), now));
        }
        if self.order.len() > MAX_UNKNOWN {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((name, _)) = self.order.pop_front() {
            self.names.remove(&name);
        }
    }
}

impl Rooms {
    /// The room of that name, if its limits are known here or in the store.
    ///
    /// At most 16 names are looked up in the store at once; for others it is unavailable then.
    pub async fn room_named(&self, name: &RoomName) -> Result<Arc<Room>, StoreError> {
        if let Some(room) = self.known.read().get(name) {
            return Ok(room.clone());
        }
        if self.lookups.unknown.lock().has(name, self.now()) {
            return Err(StoreError::NoRoom(name.clone()));
        }
        let Some(shared) = self.lookups.share(name) else {
            self.metrics.store_call_failed(StoreOp::Observe, StoreFault::NotTried);
            let why = "not tried: too many names of rooms are being looked up";
            return Err(StoreError::Unavailable(why.to_owned()));
        };
        shared.found.get_or_init(|| self.look_up(name)).await.clone()
    }

    async fn look_up(&self, name: &RoomName) -> Result<Arc<Room>, StoreError> {
        // Only rooms that exist are kept: a visitor's word alone opens none.
        let (call, nobody) = (Call::default(), Beats::new());
        let observe = self.store.observe(name, &call, &nobody, None);
        let known = self.timed.call(StoreOp::Observe, observe).await;
        if let Err(StoreError::NoRoom(_)) = &known {
            self.lookups.unknown.lock().note(name, self.now());
        }
        known?;
        let room = self.open(name)?;
        self.refresh(&room).await?;
        Ok(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_remembered_for_a_moment_and_not_without_bound() {
        let name = |number: usize| RoomName::parse(&format!("r{number}")).unwrap();
        let mut unknown = Unknown::default();
        for number in 0..MAX_UNKNOWN * 3 {
            unknown.note(&name(number), 5);
            unknown.note(&name(number), 900);
        }
        assert_eq!((unknown.names.len(), unknown.order.len()), (MAX_UNKNOWN, MAX_UNKNOWN));
        assert!(!unknown.has(&name(0), 6) && unknown.has(&name(MAX_UNKNOWN * 3 - 1), 4 + UNKNOWN_MS));
        assert!(!unknown.has(&name(MAX_UNKNOWN * 3 - 1), 5 + UNKNOWN_MS), "from when it was first told");
        assert!(unknown.names.is_empty() && unknown.order.is_empty());
    }
}
