//! Limits that others took the place of: if they come back soon, two sources state different ones for a room.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::room::policy::{Millis, Policy};

/// How soon the limits before must be stated again to count as a conflict and not as a change, in milliseconds.
const SOON_MS: Millis = 60_000;

/// The most limits remembered for a room. More than that within [`SOON_MS`] are a conflict, whatever they are.
const MAX: usize = 8;

/// The limits a room had before those it has, and when they were last in force.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    lately: VecDeque<(Arc<Policy>, Millis)>,
    /// When one source was last found against another.
    conflict_at: Option<Millis>,
}

impl Replaced {
    /// Limits have changed from `old` to `new`; `true` if that is one source against another.
    pub(super) fn change(&mut self, old: &Arc<Policy>, new: &Policy, now: Millis) -> bool {
        self.lately.retain(|(policy, at)| now.saturating_sub(*at) < SOON_MS && policy != old);
        let takes_turns = self.lately.len() == MAX || self.lately.iter().any(|(policy, _)| **policy == *new);
        if self.lately.len() == MAX {
            self.lately.pop_front();
        }
        self.lately.retain(|(policy, _)| **policy != *new);
        self.lately.push_back((old.clone(), now));
        if takes_turns {
            self.conflict_at = Some(now);
        }
        takes_turns
    }

    /// Limits that take turns with those stated now; none: there is no conflict.
    pub(super) fn taking_turns(&self, now: Millis) -> Vec<Arc<Policy>> {
        if self.conflict_at.is_none_or(|at| now.saturating_sub(at) >= SOON_MS) {
            return Vec::new();
        }
        self.still(now).cloned().collect()
    }

    /// Whether these limits were stated a short time ago.
    pub(super) fn was_stated(&self, policy: &Policy, now: Millis) -> bool {
        self.still(now).any(|known| **known == *policy)
    }

    fn still(&self, now: Millis) -> impl Iterator<Item = &Arc<Policy>> {
        let lately = self.lately.iter().filter(move |(_, at)| now.saturating_sub(*at) < SOON_MS);
        lately.map(|(policy, _)| policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(capacity: usize) -> Arc<Policy> {
        let capacity = capacity.to_string();
        Arc::new(Policy::parse([("room", "shop"), ("capacity", capacity.as_str())]).unwrap())
    }

    #[test]
    fn limits_that_come_back_soon_are_a_conflict() {
        let (one, other) = (policy(1), policy(2));
        let mut replaced = Replaced::default();
        assert!(!replaced.change(&one, &other, 0), "a change");
        assert!(replaced.was_stated(&one, 900) && replaced.taking_turns(900).is_empty());
        assert!(replaced.change(&other, &one, 1_000));
        assert_eq!(replaced.taking_turns(1_000), std::slice::from_ref(&other));
        assert!(replaced.taking_turns(1_000 + SOON_MS).is_empty());
        assert!(replaced.change(&one, &other, 2_000));
        assert!(!replaced.change(&other, &one, 2_000 + SOON_MS), "taken back later on: a change");
    }

    #[test]
    fn many_sources_in_turn_are_a_conflict_too_and_memory_stays_small() {
        let policies: Vec<_> = (0..20).map(policy).collect();
        let mut replaced = Replaced::default();
        let turns = (0..100).map(|turn| (&policies[turn % 20], &policies[(turn + 1) % 20]));
        let conflicts = turns.filter(|(old, new)| replaced.change(old, new, 5)).count();
        assert_eq!(conflicts, 100 - MAX);
        assert_eq!(replaced.lately.len(), MAX);
    }
}
