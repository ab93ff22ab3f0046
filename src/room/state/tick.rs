//! The tick: what time alone does to a room. Running it twice at one instant changes nothing.

use super::State;
use crate::room::admission::quota;
use crate::room::line::{Line, mark_time};
use crate::room::policy::Millis;
use crate::room::standing::Place;

impl State {
    /// Brings the room to `now`: ends sessions and calls, rotates liveness, refills credits, and calls whom
    /// rate, burst and capacity allow.
    pub(super) fn tick(&mut self, now: Millis) {
        let since = std::mem::replace(&mut self.clock, now);
        // A pause says nothing about how fast the line moves without it.
        let line_stood = !self.nobody_waits() && !self.paused;
        self.sessions.expire(now);
        if self.revoked.expire(now) > 0 {
            self.revoked_view = None;
        }
        if now >= self.in_force.claim_ttl {
            let before = now - self.in_force.claim_ttl;
            self.lines.iter_mut().for_each(|line| line.expire_calls(before));
        }
        self.rotate(since, now);
        self.end_doubt(now);
        self.credits.refill(&self.in_force, now);
        let calls = self.call(now);
        if line_stood {
            self.history.note(since, now, calls);
        }
    }

    /// The time that calls made now are noted for.
    pub(super) fn mark_time(&self, now: Millis) -> Millis {
        mark_time(self.in_force.claim_ttl, now)
    }

    fn nobody_waits(&self) -> bool {
        self.lines.iter().all(|line| line.waiting().is_empty())
    }

    /// Calls whom the limits allow; how many.
    pub(super) fn call(&mut self, now: Millis) -> u64 {
        if self.paused || now < self.hold_until {
            return 0;
        }
        let outstanding = self.outstanding();
        let mut left = quota(&self.in_force, &self.credits, self.sessions.count(), outstanding);
        let (mut calls, at) = (0, self.mark_time(now));
        // Older generations stand before newer ones.
        for line in &mut self.lines {
            let called = line.call(left, at);
            left -= called;
            calls += called;
        }
        if self.in_force.rate.is_some() {
            self.credits.spend(calls);
        }
        calls
    }

    /// Two whole periods of silence make at least one `patience`, and little more than one and a half.
    pub(super) fn period(&self) -> Millis {
        self.in_force.patience.div_ceil(2)
    }

    fn rotate(&mut self, since: Millis, now: Millis) {
        let period = self.period();
        if now.saturating_sub(since) > period {
            // Nobody ticked for so long that nobody's heartbeat can have been taken in: silence proves nothing.
            self.lines.iter_mut().for_each(Line::hear_everybody);
        } else if now.saturating_sub(self.rotated_at) >= period {
            self.lines.iter_mut().for_each(Line::rotate);
        } else {
            return;
        }
        self.rotated_at = now;
        self.forget_subjects();
    }

    fn forget_subjects(&mut self) {
        let mut subjects = std::mem::take(&mut self.subjects);
        // What a line in doubt does not hold may still come back to it.
        let may_return = |place: &Place| self.line(place.generation).is_some_and(Line::in_doubt);
        subjects.retain(|_, place| self.is_held(*place) || may_return(place));
        self.subjects = subjects;
    }

    fn end_doubt(&mut self, now: Millis) {
        if now < self.doubt_until {
            return;
        }
        self.lines.iter_mut().for_each(Line::settle);
        let current = self.current().generation();
        self.lines.retain(|line| line.generation() == current || !line.is_drained());
    }
}
