//! What the auditor holds against pages that go away: who is given up, and who must not be.

use anteroom::room::policy::Millis;
use anteroom::room::snapshot::{Known, Snapshot};
use anteroom::room::standing::Place;

use crate::auditor::{Audit, Auditor, ensure};
use crate::visitor::Seat;

/// After this long without a call nobody can have been heard of.
const GAP_MS: Millis = 5_000;

impl Auditor {
    /// A page said that it is going away, and was told whether that was noted.
    pub(crate) fn went_away(&mut self, place: Place, due: Millis, noted: bool) -> Audit {
        let Some(visitor) = self.visitors.get_mut(&place) else { return Ok(()) };
        ensure!(!noted || visitor.seat != Seat::Inside, "{place:?} is inside and cannot be away");
        if noted {
            visitor.away = Some(due);
            visitor.due = visitor.due.max(due);
        }
        Ok(())
    }

    /// Positions told in answers are those of the snapshot of the same instant. `some_left`: it was the first tick to
    /// give up some who were away, so that others may have moved up since they were told.
    pub(crate) fn check_told(&mut self, snapshot: &Snapshot, some_left: bool) -> Audit {
        for (place, position) in std::mem::take(&mut self.told) {
            let known = snapshot.know(place);
            let moved_up = match known {
                Known::Waiting(newer) => newer < position,
                Known::Called => true,
                Known::Gone | Known::Unknown => false,
            };
            let borne_out = known == Known::Waiting(position) || some_left && moved_up;
            ensure!(borne_out, "{place:?} was told {position}, and is {known:?}");
        }
        Ok(())
    }

    /// Nobody is away after a time in which nobody could be heard of.
    pub(crate) fn forget_away_after_gap(&mut self, now: Millis) {
        if now.saturating_sub(self.now) > GAP_MS.min(self.policy.patience.div_ceil(2)) {
            self.visitors.values_mut().for_each(|visitor| visitor.away = None);
        }
    }

    /// Whoever is away for too long has left; after a loss they may have been forgotten.
    pub(crate) fn check_away(&self) -> Audit {
        for (place, visitor) in self.visitors.iter().filter(|_| !self.healed) {
            let overdue = visitor.away.is_some() && self.now >= visitor.due;
            let in_line = matches!(visitor.seat, Seat::Waiting | Seat::Called);
            ensure!(!(overdue && in_line), "{place:?} was to be given up at {}", visitor.due);
        }
        Ok(())
    }
}
