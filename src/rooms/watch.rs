//! Who watches their place: streams register their number, and those whose turn comes are found by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::visit::{Shown, VisitError};
use super::{Room, Rooms};
use crate::room::snapshot::{Known, Snapshot};
use crate::room::standing::{Place, Standing, Status};
use crate::room::state::Outcome;

/// The most streams of one place: tabs, and connections whose end was not noticed yet.
const MAX_PER_PLACE: usize = 16;

/// The streams of a room, by place. Waking those who were called costs in proportion to their number, not to
/// that of all who watch.
#[derive(Default)]
pub(super) struct Watchers {
    by_place: Mutex<BTreeMap<(Place, u64), Arc<Bell>>>,
    last: AtomicU64,
}

/// Wakes one stream. In a hundred thousand of them, a `tokio::sync::Notify` and its future were 150 bytes more.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.waker.wake();
    }
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
            by_place.range(first..head).for_each(|(_, bell)| bell.ring());
        }
        let void = (Place { generation: snapshot.floor, number: 0 }, 0);
        by_place.range(..void).for_each(|(_, bell)| bell.ring());
    }

    /// Wakes everybody.
    pub(super) fn wake_all(&self) {
        self.by_place.lock().values().for_each(|bell| bell.ring());
    }
}

impl Rooms {
    /// Watches a visitor's place. It counts as one of `--max-streams` until it is dropped.
    pub async fn watch(&self, room: &Arc<Room>, shown: &Shown) -> Result<Watch, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let (place, is_inside) = if let Some((pass, _)) = self.valid_pass(room, Some(&snapshot), shown) {
            (pass.place(), true)
        } else {
            (self.held(room, Some(&snapshot), shown).ok_or(VisitError::NoToken)?.place(), false)
        };
        let permit = self.streams.clone().try_acquire_owned().ok();
        let watch = permit.and_then(|permit| Watch::new(room.clone(), place, is_inside, permit));
        watch.ok_or_else(|| {
            self.metrics.stream_refused();
            VisitError::TooManyStreams
        })
    }

    /// Where a watched place stands now, as far as the snapshot knows; notes that its visitor is alive. `None`: only
    /// [`Rooms::watched_in_store`] can tell.
    pub fn watched(&self, watch: &Watch) -> Option<Standing> {
        let room = watch.room();
        let snapshot = room.snapshot()?;
        let place = watch.place();
        if watch.is_inside() {
            return Some(snapshot.not_waiting(place, Status::Admitted));
        }
        match room.know(&snapshot, place) {
            Known::Waiting(position) => {
                room.hear(place);
                Some(snapshot.waiting_at(place, position))
            }
            Known::Called => {
                room.hear(place);
                Some(snapshot.not_waiting(place, Status::Called))
            }
            Known::Gone | Known::Unknown => None,
        }
    }

    /// Where a place of the room stands, as the store has it: for one that the snapshot does not know any more.
    pub async fn watched_in_store(&self, room: &Room, place: Place) -> Result<Standing, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        Ok(match self.present(room, place).await? {
            Outcome::Waiting(place, position) => snapshot.waiting_at(place, position),
            // Inside, or let in just now; but the pass is still to be had with a nonce.
            Outcome::Admitted(place, _) if room.wants_nonce() => snapshot.not_waiting(place, Status::Called),
            Outcome::Admitted(place, _) => snapshot.not_waiting(place, Status::Admitted),
            Outcome::Gone(place) => snapshot.not_waiting(place, Status::Gone),
        })
    }

    /// Wakes every stream: they look, and see whether they are to end.
    pub fn wake_all_streams(&self) {
        self.all().iter().for_each(|room| room.watchers.wake_all());
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        self.options.max_streams.saturating_sub(self.streams.available_permits())
    }
}

/// A place being watched, until it is dropped.
pub struct Watch {
    room: Arc<Room>,
    key: (Place, u64),
    is_inside: bool,
    bell: Arc<Bell>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// Begins to watch a place; `is_inside`: its visitor has shown a pass for it. `None`: it has 16 streams already.
    fn new(room: Arc<Room>, place: Place, is_inside: bool, permit: OwnedSemaphorePermit) -> Option<Self> {
        let key = (place, room.watchers.last.fetch_add(1, Ordering::Relaxed));
        let bell = Arc::new(Bell::default());
        {
            let mut by_place = room.watchers.by_place.lock();
            if by_place.range((place, 0)..=(place, u64::MAX)).count() >= MAX_PER_PLACE {
                return None;
            }
            by_place.insert(key, bell.clone());
        }
        Some(Self { room, key, is_inside, bell, _permit: permit })
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

    /// Ready when something may have happened to the place since it last was; it may be so for nothing. Else the task
    /// is woken when it is.
    pub fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.bell.waker.register(cx.waker());
        if self.bell.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.room.watchers.by_place.lock().remove(&self.key);
    }
}
