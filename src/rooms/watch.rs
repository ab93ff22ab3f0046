//! Who watches their place: streams register their number, and those whose turn comes are found by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Room;
use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;

/// The most streams of one place: tabs, and connections whose end was not noticed yet.
const MAX_PER_PLACE: usize = 16;

/// The streams of a room, by place. Waking those who were called costs in proportion to their number, not to
/// that of all who watch.
#[derive(Default)]
pub(super) struct Watchers {
    by_place: Mutex<BTreeMap<(Place, u64), Arc<Notify>>>,
    last: AtomicU64,
}

impl Watchers {
    /// Whether somebody watches this place.
    pub(super) fn has(&self, place: Place) -> bool {
        self.by_place.lock().range((place, 0)..=(place, u64::MAX)).next().is_some()
    }

    /// Wakes everybody in front of the heads: they were called, or are gone.
    pub(super) fn wake(&self, snapshot: &Snapshot) {
        let by_place = self.by_place.lock();
        for line in &snapshot.lines {
            let first = (Place { generation: line.generation, number: 0 }, 0);
            let head = (Place { generation: line.generation, number: line.head }, 0);
            by_place.range(first..head).for_each(|(_, notify)| notify.notify_one());
        }
        let void = (Place { generation: snapshot.floor, number: 0 }, 0);
        by_place.range(..void).for_each(|(_, notify)| notify.notify_one());
    }
}

/// A place being watched, until it is dropped.
pub struct Watch {
    room: Arc<Room>,
    key: (Place, u64),
    is_inside: bool,
    notify: Arc<Notify>,
}

impl Watch {
    /// Begins to watch a place; `is_inside`: its visitor has shown a pass for it. `None`: it has 16 streams already.
    pub fn new(room: Arc<Room>, place: Place, is_inside: bool) -> Option<Self> {
        let key = (place, room.watchers.last.fetch_add(1, Ordering::Relaxed));
        let notify = Arc::new(Notify::new());
        {
            let mut by_place = room.watchers.by_place.lock();
            if by_place.range((place, 0)..=(place, u64::MAX)).count() >= MAX_PER_PLACE {
                return None;
            }
            by_place.insert(key, notify.clone());
        }
        Some(Self { room, key, is_inside, notify })
    }

    /// Which place.
    pub fn place(&self) -> Place {
        self.key.0
    }

    /// Whether its visitor has entered already.
    pub fn is_inside(&self) -> bool {
        self.is_inside
    }

    /// Which room.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Resolves when something may have happened to the place; it may wake for nothing.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.room.watchers.by_place.lock().remove(&self.key);
    }
}
