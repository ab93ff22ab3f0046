//! What the auditor knows of one visitor.

use anteroom::room::policy::Millis;
use anteroom::room::snapshot::Known;
use anteroom::room::standing::Place;

use crate::auditor::{Audit, ensure};

/// What the auditor knows of one visitor.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// How many came before.
    pub(crate) arrival: usize,
    pub(crate) seat: Seat,
    /// Last heard of; a time in which nobody could be heard of counts.
    pub(crate) heard: Millis,
    /// The shortest and longest `patience` since.
    pub(crate) patience: (Millis, Millis),
    pub(crate) called: Millis,
    /// When the call may have begun anew at the latest.
    pub(crate) renewed: Millis,
    /// The shortest `claim_ttl` since the call.
    pub(crate) claim: Millis,
    /// The lowest position told so far.
    pub(crate) told: u64,
    /// Gave their place up themselves.
    pub(crate) quit: bool,
    /// Said to be away and not heard of since: to be given up at this time.
    pub(crate) away: Option<Millis>,
    /// The latest time they were ever to be given up at.
    pub(crate) due: Millis,
    /// Held a place when the room's past was lost, and may show their ticket until then.
    pub(crate) owed_until: Millis,
}

/// Where a visitor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    Waiting,
    Called,
    Inside,
    Gone,
    /// The room says itself that it cannot tell.
    Unknown,
}

impl Visitor {
    /// Whether they are away for too long.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        self.away.is_some_and(|due| now >= due)
    }

    /// Nobody who was heard of goes by time alone, and no call runs out early: unless they are away for too long.
    pub(crate) fn check_gone(&self, place: Place, after: Seat, now: Millis) -> Audit {
        if after != Seat::Gone && after != Seat::Unknown || self.quit || self.is_due(now) {
            return Ok(());
        }
        let patient = now - self.heard < self.patience.0;
        ensure!(self.seat != Seat::Waiting || !patient, "{place:?} was heard of at {}, but gone", self.heard);
        let claims = now < self.called + self.claim;
        ensure!(self.seat != Seat::Called || !claims, "{place:?} was called at {}, but gone", self.called);
        Ok(())
    }
}

/// The seat that a snapshot gives a visitor who is `inside` as far as the passes tell.
pub(crate) fn seat(known: Known, inside: bool) -> Seat {
    match known {
        Known::Waiting(_) => Seat::Waiting,
        Known::Called => Seat::Called,
        _ if inside => Seat::Inside,
        Known::Gone => Seat::Gone,
        Known::Unknown => Seat::Unknown,
    }
}
