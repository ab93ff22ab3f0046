//! The auditor's book of passes: who is inside, until when, and what became of the passes of a lost past.

use std::collections::{HashMap, HashSet};

use anteroom::room::policy::{Millis, Policy};
use anteroom::room::standing::Place;

use crate::auditor::{Audit, ensure};

/// Every pass that is out.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    /// Those that hold a slot.
    sessions: HashMap<Place, Millis>,
    /// Those given out by a room without a capacity, or before a loss: the room need not know them.
    slotless: HashMap<Place, Millis>,
    /// Over or given back: a room that lost that, or whose clock was set back, may know them still.
    ended: HashMap<Place, Millis>,
    returned: HashSet<Place>,
    /// Shown again in this step and taken back in.
    recovered: HashSet<Place>,
}

impl Passes {
    /// How many hold a slot.
    pub(crate) fn sessions(&self) -> u64 {
        self.sessions.len() as u64
    }

    pub(crate) fn is_inside(&self, place: Place) -> bool {
        self.sessions.contains_key(&place)
    }

    pub(crate) fn is_returned(&self, place: Place) -> bool {
        self.returned.contains(&place)
    }

    /// How many slots came to light in this step.
    pub(crate) fn recovered(&self) -> u64 {
        self.recovered.len() as u64
    }

    pub(crate) fn was_recovered(&self, place: Place) -> bool {
        self.recovered.contains(&place)
    }

    /// The end of the pass as its holder knows it.
    pub(crate) fn until(&self, place: Place) -> Option<Millis> {
        self.sessions.get(&place).or_else(|| self.slotless.get(&place)).copied()
    }

    /// A pass that its holder can still show, given back or not.
    pub(crate) fn shown(&self, place: Place, now: Millis) -> Option<Millis> {
        let returned = self.ended.get(&place).copied().filter(|until| *until > now);
        self.until(place).or(returned)
    }

    pub(crate) fn expire(&mut self, now: Millis) {
        self.recovered.clear();
        for passes in [&mut self.sessions, &mut self.slotless] {
            keep_latest(&mut self.ended, passes.extract_if(|_, until| *until <= now));
        }
    }

    /// A visitor was let in.
    pub(crate) fn admit(&mut self, place: Place, until: Millis, now: Millis, policy: &Policy) -> Audit {
        ensure!(!self.returned.contains(&place), "{place:?} was given back, and let in");
        if let Some(session) = self.sessions.get(&place) {
            ensure!(until == *session, "5: {place:?} is inside until {session}, and again until {until}");
            return Ok(());
        }
        // A room that kept a session through a loss answers with it, as it last knew it.
        let slotless = self.slotless.remove(&place);
        let fresh = until == now + policy.session_ttl;
        let kept = slotless.is_some_and(|kept| until <= kept);
        ensure!(fresh || kept, "{place:?} is let in until {until} at {now}");
        if policy.capacity.is_some() && (!fresh || slotless == Some(until)) {
            self.recovered.insert(place);
        }
        // The pass of a session that the room lost is still out.
        keep_latest(&mut self.ended, slotless.map(|kept| (place, kept)));
        let book = if policy.capacity.is_some() { &mut self.sessions } else { &mut self.slotless };
        book.insert(place, until);
        Ok(())
    }

    /// A pass was shown to be prolonged.
    pub(crate) fn touch(
        &mut self,
        place: Place,
        answer: Option<Millis>,
        now: Millis,
        policy: &Policy,
    ) -> Audit {
        let Some(until) = answer else {
            ensure!(!self.sessions.contains_key(&place), "the session of {place:?} is lost");
            return Ok(());
        };
        ensure!(!self.returned.contains(&place), "{place:?} was given back, and prolonged");
        ensure!(until >= now + policy.session_ttl, "{place:?} is prolonged to {until} only");
        if policy.capacity.is_none() {
            let book = if self.is_inside(place) { &mut self.sessions } else { &mut self.slotless };
            book.entry(place).and_modify(|end| *end = until.max(*end));
            return Ok(());
        }
        self.slotless.remove(&place);
        if self.sessions.insert(place, until).is_none() {
            self.recovered.insert(place);
        }
        Ok(())
    }

    /// A pass was given back.
    pub(crate) fn give_back(&mut self, place: Place) {
        let pass = self.sessions.remove(&place).or_else(|| self.slotless.remove(&place));
        if let Some(until) = pass {
            keep_latest(&mut self.ended, [(place, until)]);
            self.returned.insert(place);
        }
    }

    /// All passes are void.
    pub(crate) fn void(&mut self) {
        self.sessions.clear();
        self.slotless.clear();
    }

    /// The room lost its past: it may or may not know these, and it has forgotten what was given back.
    pub(crate) fn lose(&mut self, now: Millis) {
        keep_latest(&mut self.slotless, self.sessions.drain());
        keep_latest(&mut self.slotless, self.ended.extract_if(|_, until| *until > now));
        self.returned.clear();
    }
}

/// A place may have been inside more than once, where the first time was lost.
fn keep_latest(book: &mut HashMap<Place, Millis>, passes: impl IntoIterator<Item = (Place, Millis)>) {
    for (place, until) in passes {
        let end = book.entry(place).or_insert(until);
        *end = until.max(*end);
    }
}
