//! The model of a room: every operation as a pure function of state, arguments and now.
//!
//! The embedded store is this model behind a lock; the Lua scripts are its twin.

mod away;
mod control;
mod heal;
mod pairs;
mod subject;
mod tick;
mod visit;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::admission::Credits;
use super::away::Away;
use super::bits::Bits;
use super::eta::{History, Speed};
use super::line::{Line, Seat};
use super::policy::{Millis, Policy};
use super::sessions::Expiring;
use super::snapshot::Snapshot;
use super::standing::Place;
use super::token::MAX_EXACT;

pub use control::{Control, Limits};
pub use heal::{HOLD_MS, SMALL_STEP_MS};

/// The digest of a user's name: what a place belongs to where there is one for each user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject(pub [u8; 16]);

/// What a replica says with every call.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The limits as the replica last heard them; `None`: those in force stay.
    pub policy: Option<Arc<Policy>>,
    /// The highest the replica has seen, so that a store that lost its last writes is never behind.
    pub hints: Hints,
}

/// The highest values a replica has seen of a room; zeros: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Newest generation.
    pub generation: u64,
    /// Next number of that generation.
    pub next: u64,
    /// Head of that generation.
    pub head: u64,
    /// Oldest generation not void.
    pub floor: u64,
}

impl Hints {
    /// The higher of both: of the newer generation, where they differ.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let floor = self.floor.max(other.floor);
        let (older, newer) = if self.generation <= other.generation { (self, other) } else { (other, self) };
        if older.generation < newer.generation {
            return Self { floor, ..newer };
        }
        Self {
            generation: newer.generation,
            next: older.next.max(newer.next),
            head: older.head.max(newer.head),
            floor,
        }
    }
}

/// Somebody who wants a number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Newcomer {
    /// In rooms with `identity: subject`: who they are.
    pub subject: Option<Subject>,
    /// Give up a place held by the same subject and go to the back (`rejoin: back`).
    pub anew: bool,
}

/// What a visitor's call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Inside until this time.
    Admitted(Place, Millis),
    /// In line at this position (1 is the next).
    Waiting(Place, u64),
    /// Not in line any more.
    Gone(Place),
}

/// Who was heard of, by generation.
pub type Beats = Vec<(u64, Bits)>;

/// A room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Oldest generation first; the last is the current one. Only after a loss there is more than one.
    lines: Vec<Line>,
    floor: u64,
    /// As the replicas state it.
    policy: Arc<Policy>,
    limits: Limits,
    /// When an operator set or cleared them last; 0: never.
    #[serde(default)]
    limits_at: Millis,
    /// The policy with the limits above it.
    in_force: Arc<Policy>,
    paused: bool,
    /// When an operator paused or resumed the room last; 0: never.
    #[serde(default)]
    paused_at: Millis,
    credits: Credits,
    sessions: Expiring,
    /// Passes given back before their time, until they would have ended.
    revoked: Expiring,
    /// Not kept over a restart: whoever was away is simply silent then.
    #[serde(skip)]
    away: Away,
    history: History,
    #[serde(with = "pairs")]
    subjects: HashMap<Subject, Place>,
    /// The last tick; time runs backwards behind it only where the clock was set back by more than a moment.
    clock: Millis,
    rotated_at: Millis,
    /// Healing: nobody is called before.
    hold_until: Millis,
    /// When the last loss was noticed; a room made from nothing may have lost everything.
    lost_at: Millis,
    /// Tickets from a lost past are honoured until.
    doubt_until: Millis,
    /// Passes given out while the room had no capacity hold no slot; the last of them ends then.
    slotless_until: Millis,
    /// The set of `revoked` as snapshots share it; made anew only after a change.
    #[serde(skip)]
    revoked_view: Option<Arc<HashSet<Place>>>,
}

impl State {
    /// A room nobody knows of yet.
    ///
    /// Its generation is the time in milliseconds, so that a room made anew after a total loss cannot be taken for
    /// the lost one; tickets of older generations are honoured for two `patience`, as their holders would have
    /// lost their place by then anyway.
    pub fn new(policy: Arc<Policy>, now: Millis) -> Self {
        Self {
            lines: vec![Line::new(now.max(1))],
            floor: 0,
            limits: Limits::default(),
            limits_at: 0,
            in_force: policy.clone(),
            paused: false,
            paused_at: 0,
            credits: Credits::full(&policy, now),
            sessions: Expiring::default(),
            revoked: Expiring::default(),
            away: Away::default(),
            history: History::default(),
            subjects: HashMap::new(),
            clock: now,
            rotated_at: now,
            hold_until: 0,
            lost_at: now,
            doubt_until: now + 2 * policy.patience,
            slotless_until: 0,
            revoked_view: None,
            policy,
        }
    }

    /// Gives each newcomer a number, then ticks; those whose turn is here already are let in.
    ///
    /// A known subject gets its old place instead.
    pub fn arrive(&mut self, call: &Call, newcomers: &[Newcomer], now: Millis) -> Vec<Outcome> {
        let now = self.begin(call, now);
        // First, so that the time before they came does not count as time in which they waited.
        self.tick(now);
        let places: Vec<Place> = newcomers.iter().map(|newcomer| self.place_for(newcomer)).collect();
        self.call(now);
        places.into_iter().map(|place| self.present(place, now)).collect()
    }

    /// Takes in who was heard of (and, while healing, what a replica last knew), ticks, and freezes the room.
    pub fn observe(&mut self, call: &Call, beats: &Beats, known: Option<&Snapshot>, now: Millis) -> Snapshot {
        let ousted =
            call.policy.as_ref().filter(|stated| **stated != self.policy).map(|_| self.policy.clone());
        let now = self.begin(call, now);
        if let Some(known) = known {
            self.restore(known, now);
        }
        for (generation, beats) in beats {
            if let Some(line) = self.line_mut(*generation) {
                line.hear_all(beats);
            }
            self.away.hear_all(*generation, beats);
        }
        self.give_up_away(now);
        self.tick(now);
        self.forget_who_is_gone();
        Snapshot { ousted, ..self.snapshot() }
    }

    /// Shows a ticket: a called number becomes a session, a lost one gets its place back.
    ///
    /// Entering twice returns the same session; so does a number of a room without a capacity while its call
    /// has not run out.
    pub fn enter(&mut self, call: &Call, places: &[Place], now: Millis) -> Vec<Outcome> {
        let now = self.begin(call, now);
        for place in places {
            self.recover_ticket(*place, now);
        }
        self.tick(now);
        places.iter().map(|place| self.present(*place, now)).collect()
    }

    /// Prolongs sessions by `session_ttl` from now; `None` where the session is over.
    ///
    /// With each place comes the end of the pass shown: while healing it brings a lost session back.
    pub fn touch(&mut self, call: &Call, passes: &[(Place, Millis)], now: Millis) -> Vec<Option<Millis>> {
        let now = self.begin(call, now);
        self.tick(now);
        passes.iter().map(|(place, until)| self.touch_one(*place, *until, now)).collect()
    }

    /// Gives up places and sessions; with each, the end of its pass, if there is one. Says where that freed
    /// something.
    pub fn leave(&mut self, call: &Call, places: &[(Place, Option<Millis>)], now: Millis) -> Vec<bool> {
        let now = self.begin(call, now);
        self.tick(now);
        let freed =
            places.iter().map(|(place, pass_until)| self.leave_one(*place, *pass_until, now)).collect();
        self.tick(now);
        freed
    }

    /// The number the current generation gives next: what a checkpoint has to reserve beyond.
    pub fn next(&self) -> u64 {
        self.current().next()
    }

    /// What makes a state read from elsewhere one that no room can have; `None`: nothing.
    pub fn flaw(&self) -> Option<&'static str> {
        let generations = self.lines.iter().map(Line::generation);
        match () {
            () if self.lines.is_empty() => Some("a room has a line"),
            () if !generations.is_sorted_by(|a, b| a < b) => {
                Some("lines stand in the order of their generations")
            }
            () if self.current().next() >= MAX_EXACT => Some("the next number is absurd"),
            () if !self.history.is_whole() => Some("the history has a bucket for each 10 s of 15 minutes"),
            () => None,
        }
    }

    /// What a tick may change that is worth keeping: next, head and floor, how many wait, are called and are inside,
    /// when operators paused and limited the room, and the limits.
    pub fn shape(&self) -> (Hints, [u64; 5], Arc<Policy>) {
        let waiting = self.lines.iter().map(|line| line.waiting().count()).sum();
        let counts = [waiting, self.outstanding(), self.sessions.count(), self.paused_at, self.limits_at];
        (self.hints(), counts, self.in_force.clone())
    }

    /// The limits in force.
    pub fn in_force(&self) -> &Arc<Policy> {
        &self.in_force
    }

    /// What is known of the highest values, for hints.
    pub fn hints(&self) -> Hints {
        let line = self.current();
        Hints { generation: line.generation(), next: line.next(), head: line.reached(), floor: self.floor }
    }

    fn begin(&mut self, call: &Call, now: Millis) -> Millis {
        let now = self.follow_clock(now);
        if let Some(policy) = &call.policy
            && self.policy != *policy
        {
            self.policy = policy.clone();
            self.apply_limits(now);
        }
        self.forget_away_after_gap(now);
        self.take_hints(call.hints, now);
        now
    }

    fn position(&self, place: Place) -> u64 {
        let older = self.lines.iter().take_while(|line| line.generation() < place.generation);
        let before: u64 = older.map(|line| line.waiting().count()).sum();
        before + self.line(place.generation).map_or(0, |line| line.ahead_of(place.number)) + 1
    }

    fn snapshot(&mut self) -> Snapshot {
        let revoked = &self.revoked;
        let view = self.revoked_view.get_or_insert_with(|| Arc::new(revoked.places().collect())).clone();
        let waiting = self.lines.iter().map(|line| line.waiting().count()).sum();
        let speed = Speed::of(&self.history, &self.in_force, self.paused, self.clock);
        let called = self.outstanding();
        Snapshot {
            at: self.clock,
            floor: self.floor,
            lines: self.lines.iter().map(|line| self.view(line)).collect(),
            waiting,
            called,
            sessions: self.sessions.count(),
            speed,
            minute: self.history.minute(self.clock),
            policy: self.in_force.clone(),
            stated: self.policy.clone(),
            limits: self.limits.clone(),
            limits_at: self.limits_at,
            ousted: None,
            paused: self.paused,
            paused_at: self.paused_at,
            last_loss: self.lost_at,
            lost_at: (self.clock < self.doubt_until).then_some(self.lost_at),
            revoked: view,
            quiet: waiting == 0 && called == 0 && self.sessions.count() == 0 && self.revoked.count() == 0,
        }
    }

    fn outstanding(&self) -> u64 {
        self.lines.iter().map(|line| line.called().count()).sum()
    }

    fn remove_from_line(&mut self, place: Place) -> Seat {
        self.line_mut(place.generation).map_or(Seat::Absent, |line| line.remove(place.number))
    }

    fn line(&self, generation: u64) -> Option<&Line> {
        self.lines.iter().find(|line| line.generation() == generation)
    }

    fn line_mut(&mut self, generation: u64) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.generation() == generation)
    }

    #[allow(clippy::expect_used)]
    fn current(&self) -> &Line {
        // Every constructor puts one line in, and the last one is never taken out.
        self.lines.last().expect("a room has a line")
    }

    #[allow(clippy::expect_used)]
    fn current_mut(&mut self) -> &mut Line {
        // As above.
        self.lines.last_mut().expect("a room has a line")
    }
}
