//! Pages that go away: whose place is given up unless somebody speaks up for it in time.

use super::{Call, State};
use crate::room::away::{Away, GAP_MS};
use crate::room::line::{Line, Seat};
use crate::room::policy::Millis;
use crate::room::snapshot::LineView;
use crate::room::standing::Place;

impl State {
    /// Notes that the pages of these places are going away: each is given up, as by `leave`, unless it is heard of
    /// within its grace (milliseconds). Says which were noted: those that wait or are called, as long as there are
    /// not too many.
    pub fn away(&mut self, call: &Call, places: &[(Place, Millis)], now: Millis) -> Vec<bool> {
        let now = self.begin(call, now);
        self.tick(now);
        let note = |(place, grace): &(Place, Millis)| {
            self.is_in_line(*place) && self.away.note(*place, now + *grace)
        };
        places.iter().map(note).collect()
    }

    /// Gives up those whose grace is over. Only where heartbeats are taken in: else it would be over for some whose
    /// heartbeat is on its way.
    pub(super) fn give_up_away(&mut self, now: Millis) {
        for place in self.away.take_due(now) {
            if self.is_in_line(place) {
                self.leave_one(place, None, now);
            }
        }
    }

    /// After a time in which nobody could be heard of, nobody's silence proves that they are away.
    pub(super) fn forget_away_after_gap(&mut self, now: Millis) {
        if now - self.clock > GAP_MS.min(self.period()) {
            self.away = Away::default();
        }
    }

    /// Whoever has entered, left or run out is not away any more.
    pub(super) fn forget_who_is_gone(&mut self) {
        for line in &self.lines {
            self.away.keep_only(line.generation(), line.waiting(), line.called());
        }
    }

    pub(super) fn view(&self, line: &Line) -> LineView {
        LineView { away: self.away.of(line.generation()), ..LineView::from(line) }
    }

    /// Whether a place waits or is called.
    pub(super) fn is_in_line(&self, place: Place) -> bool {
        self.line(place.generation).is_some_and(|line| line.seat(place.number) != Seat::Absent)
    }
}
