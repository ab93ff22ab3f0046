//! Going to the back of the line: a new place first, then the old one given up.
//!
//! In this order, or a store that fails between the two would leave the visitor with neither.

use super::{Room, Rooms};
use crate::room::snapshot::Known;
use crate::room::standing::Place;
use crate::room::state::Outcome;

impl Rooms {
    /// Gives up the place that was held before another was `given`; where the visitor stands then.
    pub(super) async fn trade(&self, room: &Room, old: Place, given: Outcome) -> Outcome {
        let (Outcome::Waiting(place, _) | Outcome::Admitted(place, _) | Outcome::Gone(place)) = given;
        // The user whose place it is has entered meanwhile: whoever is inside stays there.
        if place == old {
            return given;
        }
        // Should this fail, it is counted and logged where the store is called, and the old place goes when its
        // silence is noticed. The visitor has the new one.
        let _ = self.leave(room, old, None).await;
        let Outcome::Waiting(_, position) = given else { return given };
        match room.snapshot().map(|newest| room.know(&newest, place)) {
            Some(Known::Waiting(newer)) => Outcome::Waiting(place, newer.min(position)),
            // The old place was all that stood in the way.
            Some(Known::Called) => match self.present(room, place).await {
                Ok(entered @ Outcome::Admitted(..)) => {
                    room.metrics.entered(0);
                    entered
                }
                // It stays called, and the next poll says so.
                _ => given,
            },
            _ => given,
        }
    }
}
