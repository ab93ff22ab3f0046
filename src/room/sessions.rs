//! Who is inside: places with the time their slot ends. Also keeps passes given back before their time, and when
//! those who are away are given up.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::policy::Millis;
use super::standing::Place;

/// Places with an expiry each, ordered by it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(Place, Millis)>", into = "Vec<(Place, Millis)>")]
pub struct Expiring {
    until: HashMap<Place, Millis>,
    order: BTreeSet<(Millis, Place)>,
}

impl Expiring {
    /// How many places are held.
    pub fn count(&self) -> u64 {
        self.until.len() as u64
    }

    /// When the place ends, if it is held.
    pub fn until(&self, place: Place) -> Option<Millis> {
        self.until.get(&place).copied()
    }

    /// Holds a place until `until`; a place held longer already stays so. Returns its end.
    pub fn hold(&mut self, place: Place, until: Millis) -> Millis {
        let before = self.until.get(&place).copied();
        let until = before.map_or(until, |before| before.max(until));
        if let Some(before) = before {
            self.order.remove(&(before, place));
        }
        self.until.insert(place, until);
        self.order.insert((until, place));
        until
    }

    /// Gives a place back before its time; its end, if it was held.
    pub fn release(&mut self, place: Place) -> Option<Millis> {
        let until = self.until.remove(&place)?;
        self.order.remove(&(until, place));
        Some(until)
    }

    /// Drops every place that ends at `now` or before; says how many.
    pub fn expire(&mut self, now: Millis) -> u64 {
        let mut gone = 0;
        while self.take_ended(now).is_some() {
            gone += 1;
        }
        gone
    }

    /// Drops the first place that ends at `now` or before.
    pub fn take_ended(&mut self, now: Millis) -> Option<Place> {
        let (_, place) = self.order.first().copied().filter(|(until, _)| *until <= now)?;
        self.order.pop_first();
        self.until.remove(&place);
        Some(place)
    }

    /// Drops every place that is not to be kept, whatever its time.
    pub fn retain(&mut self, keep: impl Fn(Place) -> bool) {
        self.until.retain(|place, _| keep(*place));
        self.order.retain(|(_, place)| keep(*place));
    }

    /// The clock was set back by so much: all end as far from now as they did before.
    pub fn go_back(&mut self, by: Millis) {
        self.until.values_mut().for_each(|until| *until = until.saturating_sub(by));
        self.order = self.order.iter().map(|(until, place)| (until.saturating_sub(by), *place)).collect();
    }

    /// The places held, in no order.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.until.keys().copied()
    }
}

impl From<Vec<(Place, Millis)>> for Expiring {
    fn from(places: Vec<(Place, Millis)>) -> Self {
        let mut held = Self::default();
        for (place, until) in places {
            held.hold(place, until);
        }
        held
    }
}

impl From<Expiring> for Vec<(Place, Millis)> {
    fn from(held: Expiring) -> Self {
        held.order.into_iter().map(|(until, place)| (place, until)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_end_in_the_order_of_their_time() {
        let place = |number| Place { generation: 1, number };
        let mut held = Expiring::default();
        assert_eq!(held.hold(place(1), 100), 100);
        assert_eq!(held.hold(place(2), 50), 50);
        assert_eq!(held.hold(place(1), 80), 100, "a slot is never shortened");
        assert_eq!(held.hold(place(2), 200), 200);
        assert_eq!(held.expire(99), 0);
        assert_eq!(held.expire(100), 1);
        assert_eq!(held.until(place(1)), None);
        assert_eq!(held.release(place(2)), Some(200));
        assert_eq!((held.release(place(2)), held.count()), (None, 0));
    }
}
