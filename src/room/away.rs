//! Who said that their page is going away, and was not heard of since.
//!
//! A page says so when it is closed, but also when it is reloaded or left for another of the same site, and it may
//! have a second tab. So the place is not given up at once, but after a grace in which nobody speaks up for it.

use std::collections::BTreeMap;

use super::bits::Bits;
use super::policy::{Millis, Policy};
use super::sessions::Expiring;
use super::standing::Place;

/// The most places noted at once in a room; one more is not noted, and goes when its silence is noticed.
pub const MAX_AWAY: u64 = 65_536;

/// The most who leave in one tick; the others do in the next ones.
const MAX_LEAVING: usize = 1_000;

/// After this long without a tick, nobody can have been heard of: whoever was away then is simply silent.
pub const GAP_MS: Millis = 5_000;

/// How long a visitor who was told `poll_after` (seconds) may be away before the place is given up, in milliseconds.
///
/// A second tab may only be polling: it has two polls in which to be heard, and some time for them to arrive. At
/// least 10 s, for a page that takes long to load again; at most `patience`, after which silence costs the place
/// anyway.
pub fn grace(poll_after: u32, policy: &Policy) -> Millis {
    let two_polls = 2 * u64::from(poll_after) * 1_000 + 5_000;
    two_polls.max(10_000).min(policy.patience)
}

/// The places that are away.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Away {
    /// When each is given up. Whoever was heard of since stays in here until then.
    due: Expiring,
    /// By generation: who was not heard of since.
    silent: BTreeMap<u64, Bits>,
}

impl Away {
    /// Notes that a place is away until it is given up at `due`; `false` if as many as allowed are noted.
    pub fn note(&mut self, place: Place, due: Millis) -> bool {
        if self.due.until(place).is_none() && self.due.count() >= MAX_AWAY {
            return false;
        }
        self.due.hold(place, due);
        self.silent.entry(place.generation).or_default().insert(place.number);
        true
    }

    /// The clock was set back by so much: all are given up as far from now as before.
    pub fn go_back(&mut self, by: Millis) {
        self.due.go_back(by);
    }

    /// Somebody showed the ticket of this place.
    pub fn hear(&mut self, place: Place) {
        if let Some(silent) = self.silent.get_mut(&place.generation) {
            silent.remove(place.number);
        }
    }

    /// These numbers of a generation were heard of.
    pub fn hear_all(&mut self, generation: u64, beats: &Bits) {
        if let Some(silent) = self.silent.get_mut(&generation) {
            silent.subtract(beats);
        }
    }

    /// Only these numbers of a generation are in line: whoever is not cannot be away either.
    pub fn keep_only(&mut self, generation: u64, waiting: &Bits, called: &Bits) {
        if let Some(silent) = self.silent.get_mut(&generation) {
            silent.keep_only(waiting, called);
        }
    }

    /// Takes out those who are to be given up by `now`.
    pub fn take_due(&mut self, now: Millis) -> Vec<Place> {
        let mut silent = Vec::new();
        for _ in 0..MAX_LEAVING {
            let Some(place) = self.due.take_ended(now) else { break };
            if self.silent.get_mut(&place.generation).is_some_and(|all| all.remove(place.number)) {
                silent.push(place);
            }
        }
        if self.due.count() == 0 {
            self.silent.clear();
        }
        silent
    }

    /// Who of a generation is away.
    pub fn of(&self, generation: u64) -> Bits {
        self.silent.get(&generation).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_tab_has_two_polls_and_nobody_more_than_patience() {
        let policy = |patience| Policy::parse([("room", "r"), ("capacity", "1"), ("patience", patience)]);
        assert_eq!(grace(1, &policy("180s").unwrap()), 10_000);
        assert_eq!(grace(10, &policy("180s").unwrap()), 25_000);
        assert_eq!(grace(10, &policy("20s").unwrap()), 20_000);
    }

    #[test]
    fn only_so_many_are_noted_and_only_so_many_leave_at_once() {
        let place = |number| Place { generation: 1, number };
        let mut away = Away::default();
        assert!((0..MAX_AWAY).all(|number| away.note(place(number), 5)));
        assert!(!away.note(place(MAX_AWAY), 5) && away.note(place(0), 9), "one noted already may be again");
        assert_eq!(away.take_due(4), []);
        assert_eq!(away.take_due(5).len(), MAX_LEAVING);
        assert_eq!(away.take_due(5).first(), Some(&place(1_001)), "in order, but for the one noted again");
    }
}
