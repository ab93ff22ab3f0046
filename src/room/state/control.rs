//! What changes a room's limits and its life: operators, and the policy as replicas state it.

use std::sync::Arc;

use super::{Call, Control, State};
use crate::room::away::Away;
use crate::room::eta::History;
use crate::room::line::Line;
use crate::room::policy::Millis;
use crate::room::sessions::Expiring;

impl State {
    /// Does what an operator asks.
    pub fn control(&mut self, call: &Call, control: Control, now: Millis) {
        let now = self.begin(call, now);
        match control {
            Control::Pause => self.paused = true,
            Control::Resume => self.paused = false,
            Control::Limits(limits) => {
                self.limits = limits;
                self.apply_limits(now);
            }
            Control::Reset => self.reset(now),
        }
        self.tick(now);
    }

    pub(super) fn apply_limits(&mut self, now: Millis) {
        // What has come until now came at the old rate.
        self.credits.refill(&self.in_force, now);
        let policy = self.limits.above(&self.policy);
        if policy.capacity.is_some() && self.in_force.capacity.is_none() {
            // Whoever is inside already has a pass but no slot: they get it when they show the pass.
            self.slotless_until = now + self.in_force.session_ttl;
        }
        self.in_force = Arc::new(policy);
    }

    fn reset(&mut self, now: Millis) {
        let generation = (self.current().generation() + 1).max(now);
        self.lines = vec![Line::new(generation)];
        self.floor = generation;
        self.sessions = Expiring::default();
        self.revoked = Expiring::default();
        self.revoked_view = None;
        self.away = Away::default();
        self.subjects.clear();
        self.history = History::default();
        self.hold_until = 0;
        self.doubt_until = 0;
        self.slotless_until = 0;
    }
}
