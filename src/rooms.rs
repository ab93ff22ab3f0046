//! The rooms of this process: the limits and the snapshot of each, and what visitors do in them.
//!
//! Stands between the handlers and the store, so that `ext_authz`, polls, streams and gRPC all follow the same
//! way; the rules themselves are in `room`.

mod answer;
mod away;
mod calls;
pub mod check;
mod clocks;
pub mod control;
mod enter;
pub mod feed;
mod fresh;
mod lookup;
pub mod marks;
pub mod passes;
pub mod poll;
mod rejoin;
mod replaced;
mod users;
pub mod visit;
pub mod watch;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};

use crate::clock::Clock;
use crate::room::binding::{Bearer, Bind, Bound};
use crate::room::bits::Bits;
use crate::room::decision::Limited;
use crate::room::forecast::Forecasts;
use crate::room::name::RoomName;
use crate::room::policy::{Millis, Policy, Source};
use crate::room::snapshot::Snapshot;
use crate::room::state::{Beats, Hints};
use crate::room::token::{Claims, KeyRing, Kind, TokenError};
use crate::store::breaker::Breaker;
use crate::store::timed::{Timed, Words};
use crate::store::{Store, StoreError};
use crate::telemetry::logs::OncePer;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::label::VerdictLabel;
use crate::telemetry::metrics::room::RoomMetrics;
use clocks::{Clocks, StoreClock};
use fresh::Fresh;
use lookup::Lookups;
use marks::Marks;
use passes::Passes;
use replaced::Replaced;
use users::{Quota, Users};
use visit::Shown;
use watch::Watchers;

/// What the rooms need to know from the settings.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often snapshots are renewed.
    pub tick: Duration,
    /// The longest a store call may take.
    pub store_budget: Duration,
    /// How long a ticket lives.
    pub ticket_ttl: Millis,
    /// The most rooms kept; one more is an error.
    pub max_rooms: usize,
    /// The most streams open at once.
    pub max_streams: usize,
}

/// For how many ticks after a Check its limits go along with store calls: a second, as ticks are by default.
const RESTATED: u8 = 5;

/// What is said of the store.
const OUTAGE: Words = Words { out: "the store is out", back: "the store is back" };

/// What a new place costs: asked before each is given, with the address from where it is wanted.
pub type Toll = Box<dyn Fn(Option<IpAddr>) -> BoxFuture<'static, Result<(), Limited>> + Send + Sync>;

/// The rooms of this process.
pub struct Rooms {
    options: Options,
    toll: Option<Toll>,
    store: Arc<dyn Store>,
    keys: KeyRing,
    passes: Passes,
    clock: Clock,
    metrics: Arc<Metrics>,
    known: RwLock<HashMap<RoomName, Arc<Room>>>,
    streams: Arc<tokio::sync::Semaphore>,
    timed: Timed,
    lookups: Lookups,
    /// Wakes the feed before its time.
    hurry: tokio::sync::Notify,
    /// How many users are known by name, in all rooms.
    users: Arc<Quota>,
    /// Limits that took turns, each pair of them logged once.
    conflicts: OncePer,
    clocks: Clocks,
}

/// One room, as this process knows it.
pub struct Room {
    name: RoomName,
    /// As Envoy or the rooms file last stated it; `None`: only the store knows.
    stated: ArcSwapOption<Stated>,
    /// Limits stated before those, for as long as their coming back is a conflict.
    replaced: Mutex<Replaced>,
    /// What another process has stated against that, and when.
    elsewhere: Mutex<Option<(Arc<Policy>, Millis)>>,
    snapshot: ArcSwapOption<Snapshot>,
    /// For how many ticks more the limits stated here go along with store calls.
    restated: AtomicU8,
    /// Numbers given here that the snapshot does not hold yet.
    fresh: Mutex<Fresh>,
    /// When numbers were given.
    marks: Mutex<Marks>,
    /// What the last in line were told, until their turn comes.
    forecasts: Mutex<Forecasts>,
    /// Who was heard of since the last tick.
    beats: Mutex<Beats>,
    watchers: Watchers,
    /// Pages that said that they are going away.
    words: Mutex<away::Words>,
    /// Who polls by name.
    users: Users,
    /// Whether its store calls are worth making.
    breaker: Breaker,
    metrics: Arc<RoomMetrics>,
    /// Counts what happened in the room: a quiet one is ticked only after something did.
    activity: AtomicU64,
    feed: feed::Pace,
    store_clock: StoreClock,
}

/// Limits, and what stated them.
struct Stated {
    policy: Arc<Policy>,
    source: Source,
}

impl Rooms {
    /// Rooms over a store.
    pub fn new(
        options: Options,
        store: Arc<dyn Store>,
        keys: KeyRing,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            timed: Timed::new(options.store_budget, clock, metrics.clone(), OUTAGE),
            options,
            toll: None,
            store,
            keys,
            passes: Passes::default(),
            clock,
            metrics,
            known: RwLock::default(),
            streams: Arc::new(tokio::sync::Semaphore::new(options.max_streams)),
            lookups: Lookups::default(),
            hurry: tokio::sync::Notify::new(),
            users: Arc::default(),
            conflicts: OncePer::new(),
            clocks: Clocks::default(),
        }
    }

    /// The same, where whoever the toll refuses is given no new place.
    #[must_use]
    pub fn with_toll(self, toll: Toll) -> Self {
        Self { toll: Some(toll), ..self }
    }

    /// Now, in milliseconds since the epoch.
    pub fn now(&self) -> Millis {
        self.clock.now_ms()
    }

    /// The keys tokens are signed with.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The room that `policy` belongs to, with these limits from now on, as `source` states them.
    ///
    /// Limits that come back soon after others took their place are a conflict: two routes, or two Envoys, state
    /// different limits for one room. The last word counts; each time is counted, and logged once for each pair.
    pub fn room_with(&self, policy: &Arc<Policy>, source: Source) -> Result<Arc<Room>, StoreError> {
        let room = self.open(&policy.room)?;
        if let Some(stated) = &*room.stated.load()
            && stated.source == source
            && (Arc::ptr_eq(&stated.policy, policy) || stated.policy == *policy)
        {
            room.restate();
            return Ok(room);
        }
        let stated = room.stated.swap(Some(Arc::new(Stated { policy: policy.clone(), source })));
        let stated = stated.map(|stated| stated.policy.clone());
        room.restate();
        // A quiet room, too, has to hear of it.
        room.stirs();
        if let Some(stated) = stated.filter(|stated| stated != policy) {
            let takes_turns = room.replaced.lock().change(&stated, policy, self.now());
            if takes_turns {
                room.metrics.policy_conflicted();
                if self.conflicts.is_news((room.name.as_str(), format!("{stated:?}{policy:?}"))) {
                    tracing::warn!(
                        room = %room.name, one = ?stated, other = ?policy,
                        "two sources state different limits for this room, and take turns: give all its routes the same"
                    );
                }
            } else {
                tracing::info!(room = %room.name, from = ?stated, to = ?policy, "the limits have changed");
                room.wants_tick();
                self.hurry.notify_one();
            }
        }
        Ok(room)
    }

    /// Opens rooms that the store has kept from before, so that they are ticked, and told to operators, from the start.
    /// Answers how many there was no room for; these are opened when somebody comes.
    pub fn open_kept(&self, names: &[RoomName]) -> usize {
        names.iter().filter(|name| self.open(name).is_err()).count()
    }

    /// All rooms known here.
    pub fn all(&self) -> Vec<Arc<Room>> {
        self.known.read().values().cloned().collect()
    }

    /// The room of this name, if it is open.
    pub fn known(&self, name: &RoomName) -> Option<Arc<Room>> {
        self.known.read().get(name).cloned()
    }

    fn open(&self, name: &RoomName) -> Result<Arc<Room>, StoreError> {
        if let Some(room) = self.known(name) {
            return Ok(room);
        }
        let mut rooms = self.known.write();
        let max = self.options.max_rooms;
        if rooms.len() >= max && !rooms.contains_key(name) {
            return Err(StoreError::TooManyRooms { room: name.clone(), max });
        }
        let room = rooms.entry(name.clone()).or_insert_with(|| {
            Arc::new(Room {
                name: name.clone(),
                stated: ArcSwapOption::empty(),
                restated: AtomicU8::new(0),
                replaced: Mutex::default(),
                elsewhere: Mutex::default(),
                snapshot: ArcSwapOption::empty(),
                fresh: Mutex::default(),
                marks: Mutex::default(),
                forecasts: Mutex::default(),
                beats: Mutex::default(),
                watchers: Watchers::default(),
                words: Mutex::default(),
                users: Users::new(self.users.clone()),
                breaker: Breaker::default(),
                metrics: self.metrics.room(name),
                activity: AtomicU64::new(1),
                feed: feed::Pace::default(),
                store_clock: StoreClock::default(),
            })
        });
        Ok(room.clone())
    }

    /// The tokens of a kind that hold: only the first where that was stated and is among them.
    fn each_held(&self, kind: Kind, room: &Room, shown: &Shown) -> Vec<Claims> {
        let (tokens, first_stated) = match kind {
            Kind::Ticket => (&shown.tickets, shown.ticket_stated),
            Kind::Pass => (&shown.passes, shown.pass_stated),
        };
        let mut held = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            held.extend(self.verify(kind, room, token, shown));
            if at == 0 && first_stated && !held.is_empty() {
                break;
            }
        }
        held
    }

    /// What a token says that holds for whoever shows it; one that does not is counted.
    fn verify(&self, kind: Kind, room: &Room, token: &str, shown: &Shown) -> Option<Claims> {
        let now = self.now();
        let verified = match kind {
            Kind::Ticket => self.keys.verify(kind, &room.name, token, now),
            Kind::Pass => self.verify_pass(room, token, now),
        };
        let theirs = verified.and_then(|claims| {
            let is_theirs = room.accepts(claims.bound.as_ref(), &shown.bearer());
            if is_theirs { Ok(claims) } else { Err(TokenError::Foreign) }
        });
        theirs.inspect_err(|error| self.metrics.token_refused(kind.into(), (*error).into())).ok()
    }
}

impl Room {
    /// The room's name.
    pub fn name(&self) -> &RoomName {
        &self.name
    }

    /// The newest snapshot; `None` before the first tick.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// A Check was answered.
    pub fn checked(&self, verdict: VerdictLabel) {
        self.metrics.checked(verdict);
    }

    /// Whether a token counts for whoever shows it. As long as the room's limits are not known, its binding does.
    fn accepts(&self, bound: Option<&Bound>, bearer: &Bearer<'_>) -> bool {
        let bound = bound.map(|bound| (bound, self.policy().map_or(Bind::Ip, |policy| policy.bind)));
        bound.is_none_or(|(bound, bind)| bind.accepts(Some(bound), bearer))
    }

    /// The limits as last stated here.
    fn stated_policy(&self) -> Option<Arc<Policy>> {
        self.stated.load().as_ref().map(|stated| stated.policy.clone())
    }

    /// Limits were stated: they go along with store calls for the next ticks.
    fn restate(&self) {
        // Nearly every Check comes here: it should not write to what all cores read.
        if self.restated.load(Ordering::Relaxed) != RESTATED {
            self.restated.store(RESTATED, Ordering::Relaxed);
        }
    }

    /// The limits that go along with a store call: those stated lately. Else a process that gets no Checks just now
    /// would hold on to limits that are long changed, and state them against the others' at every tick.
    fn policy_to_state(&self) -> Option<Arc<Policy>> {
        let is_late = self.restated.load(Ordering::Relaxed) == 0 && self.snapshot.load().is_some();
        self.stated_policy().filter(|_| !is_late)
    }

    /// Something happened here: the room is not to be taken for a quiet one.
    fn stirs(&self) {
        self.activity.fetch_add(1, Ordering::Relaxed);
    }

    fn hints(&self) -> Hints {
        let snapshot = self.snapshot.load();
        let Some((snapshot, line)) = snapshot.as_ref().and_then(|s| Some((s, s.lines.last()?))) else {
            return Hints::default();
        };
        let given = self.fresh.lock().next();
        Hints {
            generation: line.generation,
            next: line.next.max(given.filter(|(g, _)| *g == line.generation).map_or(0, |(_, next)| next)),
            head: line.head,
            floor: snapshot.floor,
        }
    }
}

/// The beats of one generation.
fn beats_of(beats: &mut Beats, generation: u64) -> &mut Bits {
    let known = beats.iter().position(|(other, _)| *other == generation);
    let at = known.unwrap_or(beats.len());
    if known.is_none() {
        beats.push((generation, Bits::default()));
    }
    &mut beats[at].1
}
