//! What changes a room's limits and its life: operators, and the policy as replicas state it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Call, State};
use crate::room::away::Away;
use crate::room::eta::History;
use crate::room::line::Line;
use crate::room::policy::{MAX_COUNT, Millis, Policy};
use crate::room::rate::Rate;
use crate::room::sessions::Expiring;
use crate::room::snapshot::Snapshot;

/// What operators can do to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Call nobody until resumed.
    Pause,
    /// Call again.
    Resume,
    /// Put these limits above the policy's; absent ones are the policy's again.
    Limits(Limits),
    /// Begin a new generation: every ticket and pass so far is void.
    Reset,
}

/// An operator's limits, above those of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Instead of the policy's capacity.
    pub capacity: Option<u32>,
    /// Instead of the policy's rate.
    pub rate: Option<Rate>,
    /// Instead of the policy's burst.
    pub burst: Option<u32>,
}

impl Limits {
    /// Limits as an operator states them, within the bounds of a policy's. A rate without a burst brings its own, one
    /// second's worth as in a policy: under a burst made for a lower rate, it could not be reached. An error says what
    /// would be right.
    pub fn stated(capacity: Option<u32>, rate: Option<Rate>, burst: Option<u32>) -> Result<Self, String> {
        if capacity.is_none() && rate.is_none() && burst.is_none() {
            return Err("none is stated: state at least one of capacity, rate and burst".to_owned());
        }
        if capacity.is_some_and(|capacity| capacity > MAX_COUNT) {
            return Err(format!("capacity is too large: write a whole number from 0 to {MAX_COUNT}"));
        }
        if burst.is_some_and(|burst| !(1..=MAX_COUNT).contains(&burst)) {
            return Err(format!("burst is out of bounds: write a whole number from 1 to {MAX_COUNT}"));
        }
        Ok(Self { capacity, rate, burst: burst.or(rate.map(Rate::default_burst)) })
    }

    /// The policy with these limits above it.
    pub fn above(&self, policy: &Policy) -> Policy {
        Policy {
            capacity: self.capacity.or(policy.capacity),
            rate: self.rate.or(policy.rate),
            burst: self.burst.unwrap_or(policy.burst),
            ..policy.clone()
        }
    }
}

impl State {
    /// Does what an operator asks.
    pub fn control(&mut self, call: &Call, control: Control, now: Millis) {
        let now = self.begin(call, now);
        match control {
            Control::Pause => self.pause(true, later(self.paused_at, now)),
            Control::Resume => self.pause(false, later(self.paused_at, now)),
            Control::Limits(limits) => self.limit(limits, later(self.limits_at, now), now),
            Control::Reset => self.reset(now),
        }
        self.tick(now);
    }

    /// Takes over what a replica knows of operators' doings, where that is newer. Pause and limits each for themselves:
    /// somebody who limits a room that has just lost its past does not resume it.
    pub(super) fn restore_controls(&mut self, known: &Snapshot, now: Millis) {
        if known.paused_at > self.paused_at {
            self.pause(known.paused, known.paused_at);
        }
        if known.limits_at > self.limits_at {
            self.limit(known.limits.clone(), known.limits_at, now);
        }
    }

    fn pause(&mut self, paused: bool, at: Millis) {
        (self.paused, self.paused_at) = (paused, at);
    }

    fn limit(&mut self, limits: Limits, at: Millis, now: Millis) {
        (self.limits, self.limits_at) = (limits, at);
        self.apply_limits(now);
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

/// The time of a control: now, and after the one before it even where the clock was set back, so that of two the later
/// one is known.
fn later(before: Millis, now: Millis) -> Millis {
    now.max(before.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_brings_its_burst_and_what_is_out_of_bounds_is_refused() {
        let rate = |text: &str| text.parse::<Rate>().ok();
        let stated = |capacity, rate, burst| Limits::stated(capacity, rate, burst);
        assert_eq!(stated(None, rate("100/s"), None).unwrap().burst, Some(100));
        assert_eq!(stated(None, rate("6/m"), None).unwrap().burst, Some(1));
        assert_eq!(stated(Some(0), rate("6/m"), Some(9)).unwrap().burst, Some(9));
        assert_eq!(stated(Some(7), None, None).unwrap().burst, None);
        for (capacity, burst) in [(None, None), (Some(MAX_COUNT + 1), None), (None, Some(0))] {
            assert!(stated(capacity, None, burst).is_err(), "{capacity:?} {burst:?}");
        }
    }
}
