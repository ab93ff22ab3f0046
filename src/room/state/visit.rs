//! What one visitor's call does: taking a place, showing it, prolonging a session, giving it up.

use super::{Newcomer, Outcome, State};
use crate::room::line::Seat;
use crate::room::policy::Millis;
use crate::room::standing::Place;

impl State {
    /// The place a newcomer already holds, or a new one.
    pub(super) fn place_for(&mut self, newcomer: &Newcomer) -> Place {
        if let Some(subject) = newcomer.subject
            && let Some(place) = self.subjects.get(&subject).copied()
            && self.is_held(place)
        {
            if !newcomer.anew || self.sessions.until(place).is_some() {
                return place;
            }
            self.remove_from_line(place);
        }
        let line = self.current_mut();
        let place = Place { generation: line.generation(), number: line.give() };
        if let Some(subject) = newcomer.subject {
            self.subjects.insert(subject, place);
        }
        place
    }

    /// Whether a place is in line, called or inside.
    pub(super) fn is_held(&self, place: Place) -> bool {
        self.is_in_line(place) || self.sessions.until(place).is_some()
    }

    /// Where a place stands now, entering it if it was called.
    pub(super) fn present(&mut self, place: Place, now: Millis) -> Outcome {
        if place.generation < self.floor || self.revoked.until(place).is_some() {
            return Outcome::Gone(place);
        }
        if let Some(until) = self.sessions.until(place) {
            return Outcome::Admitted(place, until);
        }
        self.away.hear(place);
        let Some(line) = self.line_mut(place.generation) else { return Outcome::Gone(place) };
        line.hear(place.number);
        match line.seat(place.number) {
            Seat::Absent => Outcome::Gone(place),
            Seat::Waiting => Outcome::Waiting(place, self.position(place)),
            Seat::Called => {
                let until = now + self.in_force.session_ttl;
                if self.in_force.capacity.is_some() {
                    self.remove_from_line(place);
                    self.sessions.hold(place, until);
                }
                Outcome::Admitted(place, until)
            }
        }
    }

    /// Prolongs a session; `None` if it is over.
    pub(super) fn touch_one(&mut self, place: Place, pass_until: Millis, now: Millis) -> Option<Millis> {
        if place.generation < self.floor || self.revoked.until(place).is_some() {
            return None;
        }
        let until = now + self.in_force.session_ttl;
        let limited = self.in_force.capacity.is_some();
        let known = self.sessions.until(place).is_some();
        if known || (limited && pass_until > now && self.recover_pass(place, now)) {
            return Some(self.sessions.hold(place, until));
        }
        (!limited).then_some(until)
    }

    /// Gives up a place in line by its ticket, or a session as well by its pass; whether that freed anything.
    pub(super) fn leave_one(&mut self, place: Place, pass_until: Option<Millis>, now: Millis) -> bool {
        // Whoever throws their ticket away once inside stays inside.
        let held = pass_until.and_then(|_| self.sessions.release(place));
        let seat = self.remove_from_line(place);
        if let Some(line) = self.line_mut(place.generation) {
            let was_in_doubt = line.in_doubt();
            line.close(place.number);
            if line.in_doubt() && !was_in_doubt {
                // A token for a number that was not given yet proves that the line has lost something.
                self.begin_healing(now);
            }
        }
        // Whoever keeps a copy of the pass must not get in with it: the slot is somebody else's now.
        // Nor with a newer one, where no slot tells how long that runs: at most for `session_ttl` from now.
        let newest = now + self.in_force.session_ttl;
        // A pass ends later than its slot where the clock was set back between the two.
        let until = pass_until.map(|until| until.max(held.unwrap_or(newest)));
        if let Some(until) = until.filter(|until| *until > now)
            && place.generation >= self.floor
        {
            self.revoked.hold(place, until);
            self.revoked_view = None;
        }
        held.is_some() || seat != Seat::Absent
    }
}
