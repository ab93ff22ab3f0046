//! What operators do to rooms, and what they are told of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::marks::Waited;
use super::{Room, Rooms};
use crate::room::policy::{Millis, Policy, Source};
use crate::room::snapshot::Snapshot;
use crate::room::state::Control;
use crate::store::StoreError;
use crate::telemetry::metrics::label::StoreOp;

/// How many rooms are looked up at once for one list.
const LOOKS_AT_ONCE: usize = 16;
/// How long a list may take; what has not been looked up by then is told as it was last known.
const LIST_TIME: Duration = Duration::from_secs(1);
/// How long another process's limits count as its present ones, in milliseconds. A process whose limits differ states its
/// own at each tick, as long as its room is live.
const LATELY_MS: Millis = 60_000;

/// What a process knows of one of its rooms.
pub struct Known {
    /// The newest snapshot.
    pub snapshot: Arc<Snapshot>,
    /// How old it is by this process's clock, in milliseconds.
    pub age: Millis,
    /// What was stated here last, and by what; `None`: nothing was, other processes know the room.
    pub stated: Option<(Arc<Policy>, Source)>,
    /// How long the first in line has waited; `None`: nobody waits.
    pub oldest: Option<Waited>,
    /// Numbers given of late, by all processes, and in how many milliseconds.
    pub given: Option<(u64, Millis)>,
    /// Limits that take turns with those stated here; none: there is one word.
    pub conflicting: Vec<Arc<Policy>>,
    /// Limits that another process has stated against ours, and how many milliseconds ago.
    pub elsewhere: Option<(Arc<Policy>, Millis)>,
    /// Whether store calls of the room are refused, as the last ones all failed.
    pub cut_off: bool,
}

impl Rooms {
    /// Does what an operator asks, whatever other processes know of the room, and renews the snapshot: what it shows then,
    /// or `None` where it was done but could not be looked at.
    ///
    /// The room is renewed before as well: a store that has lost an operator's earlier doing gets that back first, so that
    /// this one counts as the later of the two. The store is asked even where its last calls for the room have failed.
    /// Without an answer the control may have taken effect or not.
    pub async fn control(&self, room: &Room, control: Control) -> Result<Option<Arc<Snapshot>>, StoreError> {
        // A failure is counted and logged where the store is called, and this one is tried all the same.
        drop(self.refresh(room).await);
        let control = |call| self.store.control(&room.name, call, control.clone());
        self.tried(room, StoreOp::Control, &room.says(), control).await?;
        // A failure is counted and logged where the store is called.
        Ok(self.refresh(room).await.ok())
    }

    /// Renews the snapshots of those of these rooms that no tick keeps fresh: nobody is there, or their store is out.
    pub async fn look_at(&self, rooms: &[Arc<Room>]) {
        let stale = rooms.iter().filter(|room| self.is_stale(room));
        // Failures are counted and logged where the store is called.
        let looks = futures_util::stream::iter(stale)
            .for_each_concurrent(LOOKS_AT_ONCE, async |room| drop(self.refresh(room).await));
        // What could not be looked at in time tells its age.
        let _ = tokio::time::timeout(LIST_TIME, looks).await;
    }

    fn is_stale(&self, room: &Room) -> bool {
        let tick = u64::try_from(self.options.tick.as_millis()).unwrap_or(u64::MAX);
        room.snapshot().is_none() || room.feed.age(self.now()) > tick.saturating_mul(2)
    }

    /// What is known of a room; `None` before its first snapshot.
    pub fn knows(&self, room: &Room) -> Option<Known> {
        let now = self.now();
        let snapshot = room.snapshot()?;
        let marks = room.marks.lock();
        let ago = |(policy, at): &(Arc<Policy>, Millis)| (policy.clone(), now.saturating_sub(*at));
        Some(Known {
            age: room.feed.age(now),
            stated: room.stated.load().as_ref().map(|stated| (stated.policy.clone(), stated.source)),
            oldest: marks.oldest(&snapshot),
            given: marks.given(&snapshot),
            conflicting: room.replaced.lock().taking_turns(now),
            elsewhere: room.elsewhere.lock().as_ref().map(ago).filter(|(_, ago)| *ago < LATELY_MS),
            cut_off: room.breaker.is_open(),
            snapshot,
        })
    }

    /// Takes note where another process has put its own limits in the place of ours since our last tick.
    pub(super) fn note_divergence(&self, room: &Room, before: Option<&Snapshot>, snapshot: &Snapshot) {
        let Some(ousted) = &snapshot.ousted else { return };
        let ours_before = before.is_some_and(|before| before.stated == snapshot.stated);
        let now = self.now();
        // What was stated here a moment ago may be on its way out everywhere: a rollout is no divergence.
        if !ours_before || room.replaced.lock().was_stated(ousted, now) {
            return;
        }
        *room.elsewhere.lock() = Some((ousted.clone(), now));
        room.metrics.policy_conflicted();
        if self.conflicts.is_news((room.name.as_str(), format!("elsewhere {ousted:?}"))) {
            tracing::warn!(
                room = %room.name, here = ?snapshot.stated, elsewhere = ?ousted,
                "another process states different limits for this room: give all Envoys and rooms files the same"
            );
        }
    }
}
