//! Numbers given since the last snapshot, so that nobody is told a worse position than at their arrival.

use std::collections::VecDeque;

use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;

/// The most entries kept; they only pile up while arrivals succeed and ticks fail. Beyond that the oldest goes,
/// and the snapshot's own, more cautious estimate is told.
const MAX: usize = 65_536;

/// Where arrivals since the last snapshot stood, as steps: an entry holds for the numbers behind it too.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    steps: VecDeque<(Place, u64)>,
    highest: Option<Place>,
}

impl Fresh {
    /// A place was given, at this position.
    pub(super) fn note(&mut self, place: Place, position: u64) {
        self.given(place);
        if self.position(place).is_some_and(|told| told <= position) {
            return;
        }
        let at = self.steps.partition_point(|(other, _)| *other <= place);
        self.steps.insert(at, (place, position));
        if self.steps.len() > MAX {
            self.steps.pop_front();
        }
    }

    /// A place was given, whatever became of it.
    pub(super) fn given(&mut self, place: Place) {
        self.highest = self.highest.max(Some(place));
    }

    /// The position of a place that a snapshot does not hold yet, at most.
    pub(super) fn position(&self, place: Place) -> Option<u64> {
        let at = self.steps.partition_point(|(other, _)| *other <= place);
        let (before, position) = self.steps.get(at.checked_sub(1)?)?;
        (before.generation == place.generation).then(|| position + (place.number - before.number))
    }

    /// A newer snapshot is there: what it holds is forgotten.
    pub(super) fn settle(&mut self, snapshot: &Snapshot) {
        while self.steps.front().is_some_and(|(place, _)| !snapshot.is_before(*place)) {
            self.steps.pop_front();
        }
    }

    /// Generation and next number, as far as arrivals here tell.
    pub(super) fn next(&self) -> Option<(u64, u64)> {
        self.highest.map(|place| (place.generation, place.number + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u64) -> Place {
        Place { generation: 1, number }
    }

    #[test]
    fn a_run_of_arrivals_is_one_step() {
        let mut fresh = Fresh::default();
        for number in 10..1_000 {
            fresh.note(place(number), number - 5);
        }
        assert_eq!(fresh.steps.len(), 1);
        assert_eq!(fresh.position(place(500)), Some(495));
        assert_eq!(fresh.position(place(9)), None);
        fresh.note(place(1_000), 900);
        assert_eq!((fresh.position(place(999)), fresh.position(place(1_001))), (Some(994), Some(901)));
        assert_eq!(fresh.next(), Some((1, 1_001)));
    }
}
