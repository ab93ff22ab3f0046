//! The feed: renews the snapshot of every live room once per tick, and whenever somebody cannot wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::MissedTickBehavior;

use super::{Room, Rooms};
use crate::room::policy::Millis;
use crate::room::snapshot::{LineView, Snapshot};
use crate::room::state::Beats;
use crate::store::StoreError;
use crate::telemetry::metrics::label::StoreOp;

/// How often a quiet room is looked at that an operator controls, in milliseconds: well within the time for which a room
/// calls nobody after a loss ([`crate::room::state::HOLD_MS`]).
const WATCHED_MS: Millis = 1_000;
/// For how long after an operator's last doing, so that every process has heard of it.
const LATELY_MS: Millis = 60_000;

/// Where a room's feed stands.
#[derive(Default)]
pub(super) struct Pace {
    /// Renewals asked for, and those done: whoever asks while one runs shares the next.
    asked: AtomicU64,
    done: AtomicU64,
    /// Held by whoever renews; says whether the last renewal went well.
    turn: tokio::sync::Mutex<bool>,
    /// A tick of this room is under way.
    ticking: AtomicBool,
    /// Asked for in the middle of a tick, which may have come too early for it: one more at once.
    again: AtomicBool,
    /// The room's activity when it was last found quiet; 0: it was not.
    quiet_at: AtomicU64,
    /// When it was last renewed, by this process's clock.
    renewed_at: AtomicU64,
}

impl Pace {
    /// How long ago the room was renewed, in milliseconds.
    pub(super) fn age(&self, now: Millis) -> Millis {
        now.saturating_sub(self.renewed_at.load(Ordering::Relaxed))
    }
}

impl Rooms {
    /// Ticks the rooms until `stop` resolves. A quiet room is left alone until something happens in it; one that an
    /// operator controls is looked at each second all the same.
    pub async fn feed(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut ticks = tokio::time::interval(self.options.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // One call per room at most is under way, so that a room on a dead shard holds up no other.
        let mut under_way = FuturesUnordered::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                // New limits count at once: whoever they call hears of it before the next tick.
                () = async { tokio::select! { _ = ticks.tick() => {}, () = self.hurry.notified() => {} } } => {
                    let now = self.now();
                    self.metrics.set_users_kept(self.users.taken());
                    let rooms = self.all();
                    self.compare_clocks(&rooms, now);
                    for room in rooms {
                        room.users.sweep(now);
                        room.restated.update(Ordering::Relaxed, Ordering::Relaxed, |ticks| ticks.saturating_sub(1));
                        if (room.is_live() || room.is_watched(now)) && !room.feed.ticking.swap(true, Ordering::AcqRel) {
                            under_way.push(self.tick(room));
                        }
                    }
                }
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
            }
        }
    }

    async fn tick(&self, room: Arc<Room>) {
        loop {
            room.feed.again.store(false, Ordering::Release);
            self.pass_words_on(&room).await;
            self.hear_users(&room);
            // A failure is logged and counted where the store is called; the next tick tries again.
            if let Ok(snapshot) = self.refresh(&room).await {
                self.keep_users(&room, &snapshot).await;
            }
            if !room.feed.again.load(Ordering::Acquire) {
                break;
            }
        }
        room.feed.ticking.store(false, Ordering::Release);
    }

    /// Renews a room's snapshot now; it holds everything that happened before this call.
    pub async fn refresh(&self, room: &Room) -> Result<Arc<Snapshot>, StoreError> {
        let pace = &room.feed;
        let mine = pace.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut went_well = pace.turn.lock().await;
        if pace.done.load(Ordering::Acquire) >= mine {
            let failed = || StoreError::Unavailable("the tick asked for just now failed".to_owned());
            return room.snapshot().filter(|_| *went_well).ok_or_else(failed);
        }
        let covered = pace.asked.load(Ordering::Acquire);
        let activity = room.activity.load(Ordering::Relaxed);
        let result = self.observe(room).await;
        *went_well = result.is_ok();
        pace.done.store(covered, Ordering::Release);
        let snapshot = Arc::new(result?);
        pace.quiet_at.store(if snapshot.quiet { activity } else { 0 }, Ordering::Relaxed);
        pace.renewed_at.store(self.now(), Ordering::Relaxed);
        let before = room.snapshot();
        self.note_divergence(room, before.as_deref(), &snapshot);
        self.note_step(room, before.as_deref(), &snapshot);
        room.marks.lock().note(&snapshot);
        room.forecasts.lock().look(&snapshot).into_iter().for_each(|ratio| room.metrics.eta_proved(ratio));
        room.publish(&snapshot);
        Ok(snapshot)
    }

    async fn observe(&self, room: &Room) -> Result<Snapshot, StoreError> {
        let said = room.says_at_a_tick();
        let mut heard = Heard::take(room);
        let observe = |call| self.store.observe(&room.name, call, &heard.beats, None);
        // In any case: this is how a room hears that its store is back.
        let asked = self.now();
        let snapshot = self.tried(room, StoreOp::Observe, &said, observe).await?;
        room.store_clock.read(asked, snapshot.at, self.now());
        heard.beats.clear();
        // A store that has lost part of the line, or what an operator did, gets it back from whoever still knows it.
        match room.snapshot().filter(|known| knows_better(known, &snapshot)) {
            Some(known) => {
                let nobody = Beats::new();
                let observe = |call| self.store.observe(&room.name, call, &nobody, Some(&known));
                let healed = self.tried(room, StoreOp::Observe, &said, observe).await?;
                if known.has_newer_controls_than(&snapshot) {
                    tracing::warn!(
                        room = %room.name, paused = healed.paused, limits = ?healed.limits,
                        "the store had lost what an operator did here: it has been brought back"
                    );
                }
                Ok(healed)
            }
            None => Ok(snapshot),
        }
    }
}

impl Room {
    /// The tick that comes next, or one after that under way, is wanted.
    pub(super) fn wants_tick(&self) {
        self.feed.again.store(true, Ordering::Release);
    }

    fn is_live(&self) -> bool {
        self.activity.load(Ordering::Relaxed) != self.feed.quiet_at.load(Ordering::Relaxed)
    }

    /// Whether a quiet room is to be looked at: what an operator has done is lost with the store's memory, and must be
    /// brought back before the first who come are called; and who knows of a pause must hear that it was taken back.
    fn is_watched(&self, now: Millis) -> bool {
        self.feed.age(now) >= WATCHED_MS
            && self.snapshot.load().as_ref().is_some_and(|known| known.is_controlled(LATELY_MS))
    }

    fn publish(&self, snapshot: &Arc<Snapshot>) {
        self.metrics.observed(snapshot.waiting, snapshot.called, snapshot.sessions);
        self.metrics.set_limits(&snapshot.policy, snapshot.paused);
        let before = self.snapshot.swap(Some(snapshot.clone()));
        // After the snapshot: between the two, a fresh place must not be unknown to both.
        self.fresh.lock().settle(snapshot);
        self.watchers.wake(snapshot);
        self.speak_up(before.as_deref(), snapshot);
        if snapshot.quiet {
            self.words.lock().clear();
        }
    }
}

/// Beats on their way to the store: put back when they are dropped, unless it has taken them in. So a call that
/// fails loses none, nor does one that is dropped because a visitor hung up.
struct Heard<'a> {
    room: &'a Room,
    beats: Beats,
}

impl<'a> Heard<'a> {
    fn take(room: &'a Room) -> Self {
        Self { room, beats: std::mem::take(&mut *room.beats.lock()) }
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        let mut kept = self.room.beats.lock();
        for (generation, bits) in &self.beats {
            super::beats_of(&mut kept, *generation).union_range(bits, 0, u64::MAX);
        }
    }
}

fn knows_better(known: &Snapshot, told: &Snapshot) -> bool {
    let sure = |line: &&LineView| !line.in_doubt;
    let knows_line = told
        .lines
        .iter()
        .filter(|line| line.in_doubt)
        .any(|line| known.lines.iter().filter(sure).any(|other| other.generation == line.generation));
    knows_line || known.has_newer_controls_than(told)
}
