//! The auditor: sees calls and answers only, keeps its own simple model, and says where a rule was broken.
//!
//! What a loss excuses is written out in [`Auditor::begin_anew`]; nothing else is ever switched off.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anteroom::room::policy::{Millis, Policy};
use anteroom::room::snapshot::{Known, Snapshot};
use anteroom::room::standing::Place;
use anteroom::room::state::{Newcomer, Outcome, Subject};

use crate::passes::Passes;
use crate::visitor::{Seat, Visitor, seat};

/// Fails the audit unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(crate) use ensure;

/// What an audit comes to: the rule that was broken, if one was.
pub(crate) type Audit = Result<(), String>;

/// One credit, in the auditor's own unit: a rate of 1/h makes one unit a millisecond.
const CREDIT: u128 = 3_600_000;

/// Watches one room over its whole life, losses included.
#[derive(Debug)]
pub(crate) struct Auditor {
    pub(crate) visitors: BTreeMap<Place, Visitor>,
    given: HashSet<Place>,
    owners: HashMap<Subject, Vec<Place>>,
    pub(crate) passes: Passes,
    pub(crate) policy: Arc<Policy>,
    /// The bucket that bounds the calls, refilled by the auditor's own sums.
    units: u128,
    pub(crate) now: Millis,
    /// The last snapshot: when the room was last known to be as it was.
    seen_at: Millis,
    held: u64,
    /// Positions told in answers, to be borne out by the snapshot of the same instant.
    pub(crate) told: Vec<(Place, u64)>,
    /// The last place in line that was ever called.
    farthest: Option<Place>,
    /// A loss has happened: calls may have been set back behind others.
    pub(crate) healed: bool,
    /// The clock was set back over a total loss: generations no longer tell who came first.
    pub(crate) order_lost: bool,
}

impl Auditor {
    pub(crate) fn new(policy: Arc<Policy>, now: Millis) -> Self {
        let units = u128::from(policy.burst) * CREDIT;
        Self {
            visitors: BTreeMap::new(),
            given: HashSet::new(),
            owners: HashMap::new(),
            passes: Passes::default(),
            policy,
            units,
            now,
            seen_at: now,
            held: 0,
            told: Vec::new(),
            farthest: None,
            healed: false,
            order_lost: false,
        }
    }

    /// Time has come to `now` under the limits so far; from here on `policy` is in force.
    pub(crate) fn advance(&mut self, now: Millis, policy: &Arc<Policy>) {
        self.refill(now);
        // Rates are judged by what was in force while the time passed; the rest by what is in force now.
        self.policy = policy.clone();
        self.units = self.units.min(u128::from(self.policy.burst) * CREDIT);
        let gap = now.saturating_sub(self.now) > self.policy.patience.div_ceil(2);
        for visitor in self.visitors.values_mut() {
            let patience = self.policy.patience;
            visitor.patience = (visitor.patience.0.min(patience), visitor.patience.1.max(patience));
            visitor.claim = visitor.claim.min(self.policy.claim_ttl);
            if gap {
                visitor.heard = now;
            }
        }
        self.forget_away_after_gap(now);
        self.now = now;
        self.passes.expire(now);
    }

    fn refill(&mut self, now: Millis) {
        let full = u128::from(self.policy.burst) * CREDIT;
        self.units = match self.policy.rate {
            // Without a rate nothing is spent; the bucket may be full when one comes.
            None => full,
            Some(rate) => {
                let gain = u128::from(rate.count) * CREDIT / u128::from(rate.period.millis());
                (self.units + gain * u128::from(now.saturating_sub(self.now))).min(full)
            }
        };
    }

    /// Newcomers were answered.
    pub(crate) fn arrived(&mut self, newcomers: &[Newcomer], outcomes: &[Outcome]) -> Audit {
        ensure!(newcomers.len() == outcomes.len(), "{} answers", outcomes.len());
        let mut batch = HashSet::new();
        for (index, (newcomer, outcome)) in newcomers.iter().zip(outcomes).enumerate() {
            // Whoever joins anew in the same batch gives up what was given a moment before.
            let superseded = |later: &Newcomer| later.anew && later.subject == newcomer.subject;
            let kept = newcomer.subject.is_none() || !newcomers[index + 1..].iter().any(superseded);
            let place = place_of(*outcome);
            let owned = newcomer.subject.and_then(|subject| self.owners.get(&subject));
            if owned.is_some_and(|places| places.contains(&place)) {
                // After a loss the room may or may not know a pass.
                let inside =
                    self.passes.is_inside(place) || self.healed && self.passes.until(place).is_some();
                let fresh = batch.contains(&place);
                ensure!(!newcomer.anew || inside || fresh, "{place:?} was to be given up");
            } else {
                ensure!(self.given.insert(place), "1: {place:?} was given twice");
                if let Some(subject) = newcomer.subject {
                    let owned = self.owners.entry(subject).or_default();
                    for old in owned.iter().filter(|_| newcomer.anew) {
                        if let Some(visitor) = self.visitors.get_mut(old) {
                            visitor.quit |= visitor.seat != Seat::Inside;
                        }
                    }
                    owned.push(place);
                }
                batch.insert(place);
                let last = self.visitors.last_key_value().map(|(last, _)| *last);
                ensure!(
                    self.order_lost || last.is_none_or(|last| last < place),
                    "{place:?} given after {last:?}"
                );
                self.meet(place);
            }
            ensure!(!kept || !matches!(outcome, Outcome::Gone(_)), "{place:?} given, but gone");
            if !kept && let Some(visitor) = self.visitors.get_mut(&place) {
                visitor.quit = true;
            }
            self.answered(place, *outcome)?;
        }
        Ok(())
    }

    /// A ticket that nobody was seen to get turned up: it proves that part of the room's past was lost.
    pub(crate) fn meet_unseen(&mut self, place: Place) {
        self.healed = true;
        self.meet(place);
    }

    fn meet(&mut self, place: Place) {
        self.given.insert(place);
        let arrival = self.visitors.len();
        let patience = self.policy.patience;
        self.visitors.entry(place).or_insert(Visitor {
            arrival,
            seat: Seat::Unknown,
            heard: self.now,
            patience: (patience, patience),
            called: self.now,
            renewed: self.now,
            claim: self.policy.claim_ttl,
            told: u64::MAX,
            quit: false,
            away: None,
            due: 0,
            owed_until: 0,
        });
    }

    /// A ticket was shown, or a number given, and answered.
    pub(crate) fn answered(&mut self, place: Place, outcome: Outcome) -> Audit {
        ensure!(place_of(outcome) == place, "{place:?} was answered for {outcome:?}");
        let (now, patience) = (self.now, self.policy.patience);
        let Some(visitor) = self.visitors.get_mut(&place) else { return Ok(()) };
        let owed = now < visitor.owed_until && !visitor.quit && !self.passes.is_returned(place);
        match outcome {
            Outcome::Admitted(_, until) => self.passes.admit(place, until, now, &self.policy)?,
            Outcome::Waiting(_, position) => self.told.push((place, position)),
            Outcome::Gone(_) => ensure!(!owed, "8: {place:?} lost its place with the room's past"),
        }
        if !matches!(outcome, Outcome::Gone(_)) {
            visitor.heard = now;
            visitor.away = None;
            visitor.patience = (patience, patience);
        }
        visitor.owed_until = 0;
        Ok(())
    }

    /// These were heard of, as far as they wait.
    pub(crate) fn heard(&mut self, places: &[Place]) {
        let patience = self.policy.patience;
        for place in places {
            if let Some(visitor) = self.visitors.get_mut(place) {
                visitor.heard = self.now;
                visitor.away = None;
                visitor.patience = (patience, patience);
            }
        }
    }

    /// A pass was shown to be prolonged, and answered.
    pub(crate) fn touched(&mut self, place: Place, answer: Option<Millis>) -> Audit {
        if let Some(visitor) = self.visitors.get_mut(&place).filter(|_| answer.is_some()) {
            // Whoever has shown a pass was inside: no place in line is owed to them any more.
            visitor.owed_until = 0;
        }
        self.passes.touch(place, answer, self.now, &self.policy)
    }

    /// A place or pass was given up.
    pub(crate) fn left(&mut self, place: Place, pass_shown: bool) {
        if pass_shown {
            self.passes.give_back(place);
        }
        if let Some(visitor) = self.visitors.get_mut(&place) {
            // By a ticket alone nobody leaves who is inside already.
            visitor.quit |= pass_shown || visitor.seat != Seat::Inside;
        }
        if self.healed && self.farthest > Some(place) {
            // They may have been called in the moment before they left, unseen.
            self.visitors.values_mut().for_each(|visitor| visitor.renewed = self.now);
        }
    }

    pub(crate) fn knows_generation(&self, generation: u64) -> bool {
        self.visitors.keys().any(|place| place.generation == generation)
    }

    /// The room was reset: all so far is void, and that is what was asked for.
    pub(crate) fn reset(&mut self) {
        self.visitors.values_mut().for_each(|visitor| visitor.quit = true);
        self.passes.void();
        self.held = 0;
    }

    /// The room's past was lost in part or whole, and this is what it knows now. The exceptions, all of them:
    ///
    /// - positions may have risen, and rise again when somebody before them comes back ([`Auditor::come_back`]);
    /// - whoever was in line and is not known any more is owed their place for two `patience`;
    /// -  whoever waits or is called counts as heard of or called now;
    /// - passes of before hold slots unknown to the room until they are shown;
    /// - a bucket made anew (`full`: nobody told of the room before) holds one burst more.
    pub(crate) fn begin_anew(&mut self, snapshot: &Snapshot, full: bool) {
        let before = self.seen_at;
        let (now, patience, claim) = (snapshot.at, self.policy.patience, self.policy.claim_ttl);
        self.now = now;
        self.seen_at = now;
        self.healed = true;
        if full {
            self.units = u128::from(self.policy.burst) * CREDIT;
        }
        self.passes.lose(now);
        for (place, visitor) in &mut self.visitors {
            let held = matches!(visitor.seat, Seat::Waiting | Seat::Called) || visitor.owed_until > before;
            let owed = held && !visitor.quit && place.generation >= snapshot.floor;
            visitor.owed_until = if owed { now + 2 * patience } else { 0 };
            visitor.seat = seat(snapshot.know(*place), false);
            if matches!(visitor.seat, Seat::Waiting | Seat::Called) {
                visitor.owed_until = 0;
            }
            visitor.heard = now;
            visitor.away = None;
            visitor.patience = (patience, patience);
            (visitor.called, visitor.renewed, visitor.claim) = (now, now, claim);
            visitor.told = u64::MAX;
        }
        self.held = self.passes.sessions() + self.count(Seat::Called);
    }

    /// Holds everything that must hold after a step against the room's snapshot.
    pub(crate) fn check(&mut self, snapshot: &Snapshot) -> Audit {
        let now = self.now;
        ensure!(snapshot.at == now, "the snapshot is of {}, not of {now}", snapshot.at);
        self.seen_at = now;
        self.come_back(snapshot);
        let mut waiting = Vec::new();
        let mut fresh_calls = Vec::new();
        let (mut overtaken, mut some_left) = (false, false);
        let farthest = self.farthest;
        for (place, visitor) in &mut self.visitors {
            let known = snapshot.know(*place);
            let after = seat(known, self.passes.is_inside(*place));
            if let Known::Waiting(position) = known {
                waiting.push((*place, visitor.arrival, position));
                ensure!(position <= visitor.told, "6: {place:?} rose from {} to {position}", visitor.told);
                visitor.told = position;
            }
            let was_in = matches!(visitor.seat, Seat::Called | Seat::Inside);
            let is_in = matches!(after, Seat::Called | Seat::Inside);
            if is_in && !was_in && !self.passes.was_recovered(*place) {
                fresh_calls.push(*place);
                overtaken |= farthest.is_some_and(|farthest| farthest > *place);
                self.farthest = self.farthest.max(Some(*place));
                (visitor.called, visitor.renewed, visitor.claim) = (now, now, self.policy.claim_ttl);
            }
            visitor.check_gone(*place, after, now)?;
            some_left |= visitor.is_due(now) && visitor.seat != after;
            visitor.seat = after;
        }
        self.check_told(snapshot, some_left)?;
        ensure!(!snapshot.paused || fresh_calls.is_empty(), "{fresh_calls:?} called in a paused room");
        self.check_calls(&fresh_calls, &waiting)?;
        self.check_positions(&waiting, snapshot)?;
        if self.healed && overtaken {
            // Somebody came back before those called already: calls that run out as ranges begin anew, and so
            // none runs out early.
            self.visitors.values_mut().for_each(|visitor| visitor.renewed = now);
        }
        for (place, visitor) in &self.visitors {
            let overdue = now >= visitor.renewed + self.policy.claim_ttl;
            ensure!(visitor.seat != Seat::Called || !overdue, "{place:?} is called for too long");
            let silent = now - visitor.heard > 3 * visitor.patience.1;
            ensure!(visitor.seat != Seat::Waiting || !silent, "{place:?} waits though silent for too long");
        }
        self.check_away()?;
        self.check_capacity(snapshot)
    }

    /// After a loss: positions behind somebody who comes back rise.
    fn come_back(&mut self, snapshot: &Snapshot) {
        let back = self.visitors.iter().find(|(place, visitor)| {
            visitor.seat != Seat::Waiting && matches!(snapshot.know(**place), Known::Waiting(_))
        });
        if let Some((first, _)) = back.filter(|_| self.healed) {
            let first = *first;
            self.visitors.range_mut(first..).for_each(|(_, visitor)| visitor.told = u64::MAX);
        }
    }

    fn check_calls(&mut self, calls: &[Place], waiting: &[(Place, usize, u64)]) -> Audit {
        if let (Some(last), Some((first, ..))) = (calls.last(), waiting.first()) {
            ensure!(last < first, "2: {last:?} was called before {first:?}");
        }
        if self.policy.rate.is_some() {
            let spent = calls.len() as u128 * CREDIT;
            ensure!(spent <= self.units, "4: {} calls, credit for {}", calls.len(), self.units / CREDIT);
            self.units -= spent;
        }
        Ok(())
    }

    /// Positions are 1, 2, 3, … in the order of arrival.
    fn check_positions(&self, waiting: &[(Place, usize, u64)], snapshot: &Snapshot) -> Audit {
        ensure!(snapshot.waiting == waiting.len() as u64, "{} wait, not {}", waiting.len(), snapshot.waiting);
        for (rank, (place, arrival, position)) in (1u64..).zip(waiting) {
            ensure!(*position == rank, "{place:?} is told {position}, but {rank} is right");
            let next = usize::try_from(rank).ok().and_then(|next| waiting.get(next));
            if let Some((behind, later, _)) = next {
                ensure!(self.order_lost || arrival < later, "{place:?} stands before {behind:?}");
            }
        }
        let eta = snapshot.speed.eta(snapshot.waiting.max(1));
        let open = |eta: anteroom::room::standing::Eta| eta.low <= eta.seconds && eta.seconds <= eta.high;
        ensure!(eta.is_none_or(open), "{eta:?}");
        let shut = self.policy.capacity == Some(0) || self.policy.rate.is_some_and(|rate| rate.count == 0);
        ensure!(!(snapshot.paused || shut) || eta.is_none(), "{eta:?} though nobody is let in");
        Ok(())
    }

    /// Slots held and promised stay within the capacity. What was held already when the capacity was lowered, and
    /// passes shown again after a loss, may stay beyond it; nobody is called on top of them.
    fn check_capacity(&mut self, snapshot: &Snapshot) -> Audit {
        let called = self.count(Seat::Called);
        ensure!(snapshot.called == called, "{called} are called, not {}", snapshot.called);
        let held = self.passes.sessions() + called;
        if let Some(capacity) = self.policy.capacity {
            let most = u64::from(capacity).max(self.held) + self.passes.recovered();
            ensure!(held <= most, "3: {held} slots held of {capacity}, {} before", self.held);
            if !self.healed {
                let sessions = self.passes.sessions();
                ensure!(snapshot.sessions == sessions, "{sessions} inside, not {}", snapshot.sessions);
            }
        }
        self.held = held;
        Ok(())
    }

    fn count(&self, seat: Seat) -> u64 {
        self.visitors.values().filter(|visitor| visitor.seat == seat).count() as u64
    }
}

/// Whose answer it is.
pub(crate) fn place_of(outcome: Outcome) -> Place {
    match outcome {
        Outcome::Admitted(place, _) | Outcome::Waiting(place, _) | Outcome::Gone(place) => place,
    }
}
