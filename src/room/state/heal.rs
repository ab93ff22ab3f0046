//! Healing: what a room does when part of its past was lost, or when somebody knows better.
//!
//! A wiped store, a restarted one and a promoted stale replica are the same case. What is known comes from
//! three sides: the replicas' hints, their last snapshots, and the signed tickets and passes that come in.

use super::{Hints, State};
use crate::room::admission::Credits;
use crate::room::away::Away;
use crate::room::bits::Bits;
use crate::room::line::{END, Line, MARGIN};
use crate::room::policy::Millis;
use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;

/// How long nobody is called after a loss, so that those who were in front can say so first: 3 s.
///
/// Streams reconnect within that time; whoever polls later is put back in front of those still waiting.
pub const HOLD_MS: Millis = 3_000;

/// How far the clock may be behind a room's last tick before the room goes back with it, in milliseconds. Less is waited
/// out: for that long, time stands still.
pub const SMALL_STEP_MS: Millis = 1_000;

/// The most generations a room keeps at once; evidence of still more is refused as gone.
const MAX_LINES: usize = 4;

impl State {
    /// Wakes a room from a checkpoint. Numbers below `ceiling` may have been given since it was written; a
    /// ceiling of [`State::next`] says that nothing at all has happened since.
    pub fn resume(&mut self, ceiling: u64, now: Millis) {
        self.follow_clock(now);
        // Whoever had not shown their ticket yet could not while the room was away.
        let in_doubt = self.clock < self.doubt_until;
        self.doubt_until = if in_doubt { now + 2 * self.in_force.patience } else { 0 };
        self.credits = Credits::empty(now);
        self.clock = now;
        for line in &mut self.lines {
            // While the room was away nobody could be heard, or enter.
            line.hear_everybody();
            line.renew_calls(now);
        }
        self.rotated_at = now;
        self.away = Away::default();
        let next = self.next();
        if ceiling > next {
            self.current_mut().lose_from(next, ceiling);
            self.begin_healing(now);
        }
    }

    /// The time to go by: `now`, but never before the last tick, unless the clock was set back by more than
    /// [`SMALL_STEP_MS`]. Then the room goes back as far as the clock did, and what was due in five seconds still is.
    pub(super) fn follow_clock(&mut self, now: Millis) -> Millis {
        let by = self.clock.saturating_sub(now);
        if by > SMALL_STEP_MS {
            self.go_back(by);
        }
        now.max(self.clock)
    }

    /// Moves every time that something waits for. What was given out stays: generations, and the ends of revocations,
    /// which passes out there may still reach. Operators' times do as well, as of two the later one counts.
    fn go_back(&mut self, by: Millis) {
        let times = [
            &mut self.clock,
            &mut self.rotated_at,
            &mut self.hold_until,
            &mut self.doubt_until,
            &mut self.slotless_until,
        ];
        for time in times {
            *time = time.saturating_sub(by);
        }
        self.credits.go_back(by);
        self.sessions.go_back(by);
        self.away.go_back(by);
        self.lines.iter_mut().for_each(|line| line.go_back(by));
        self.history.go_back(self.clock + by, self.clock);
    }

    /// Takes in what a replica has seen: the greater of both stands.
    pub(super) fn take_hints(&mut self, hints: Hints, now: Millis) {
        self.raise_floor(hints.floor);
        if hints.generation == 0 || hints.generation < self.floor {
            return;
        }
        let known = self.line(hints.generation).map(Line::next);
        let beyond = hints.next.saturating_add(MARGIN).min(END);
        match known {
            Some(next) if hints.next > next => {
                if let Some(line) = self.line_mut(hints.generation) {
                    line.lose_from(next, beyond);
                }
                self.begin_healing(now);
            }
            Some(_) => {}
            None => {
                let mut line = Line::new(hints.generation);
                line.lose_from(1, beyond);
                if !self.adopt(line, now) {
                    return;
                }
            }
        }
        let at = self.mark_time(now);
        if let Some(line) = self.line_mut(hints.generation) {
            line.catch_up_head(hints.head, at);
        }
    }

    /// Makes every generation below `floor` void.
    fn raise_floor(&mut self, floor: u64) {
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        self.away = Away::default();
        self.lines.retain(|line| line.generation() >= floor);
        if self.lines.is_empty() {
            self.lines.push(Line::new(floor));
        }
        // Void sessions hold no slot, and void places keep nobody from a new one.
        self.sessions.retain(|place| place.generation >= floor);
        self.subjects.retain(|_, place| place.generation >= floor);
    }

    /// Gives a ticket that the room does not know its place back, if it may have been lost.
    pub(super) fn recover_ticket(&mut self, place: Place, now: Millis) {
        if place.generation < self.floor || self.is_held(place) || self.revoked.until(place).is_some() {
            return;
        }
        if self.line(place.generation).is_none() && !self.adopt(Line::lost(place.generation), now) {
            return;
        }
        if let Some(line) = self.line_mut(place.generation) {
            let was_in_doubt = line.in_doubt();
            let waits = line.recover(place.number);
            if waits && !was_in_doubt {
                self.begin_healing(now);
            }
        }
    }

    /// Whether the session of a valid pass that the room does not know may have been lost, or never held a slot.
    pub(super) fn recover_pass(&mut self, place: Place, now: Millis) -> bool {
        if now >= self.doubt_until.max(self.slotless_until) {
            return false;
        }
        self.remove_from_line(place);
        if let Some(line) = self.line_mut(place.generation) {
            line.close(place.number);
        }
        true
    }

    /// Takes over what a replica last knew, where this room is in doubt or behind.
    pub(super) fn restore(&mut self, known: &Snapshot, now: Millis) {
        self.restore_controls(known, now);
        for view in &known.lines {
            // The replica's hints speak of its newest line only; this brings back the older ones, too.
            let hints =
                Hints { generation: view.generation, next: view.next, head: view.head, floor: known.floor };
            self.take_hints(hints, now);
            let at = self.mark_time(now);
            if let Some(line) = self.line_mut(view.generation) {
                let (waiting, called) = (Bits::from(&view.waiting), Bits::from(&view.called));
                line.restore(&waiting, &called, view.next, !view.in_doubt, at);
            }
        }
    }

    /// Takes in the line of an unknown generation: a newer one proves that this room is behind; an older one may
    /// have been lost with the room's past, as long as its visitors' patience lasts. `false` if it is refused.
    fn adopt(&mut self, line: Line, now: Millis) -> bool {
        let generation = line.generation();
        let newer = generation > self.current().generation();
        // Where numbers end is known to nobody: a line that can give none is not to be the last.
        let exhausted = newer && line.next() == END;
        // A line that never gave a number makes room for one that did.
        let kept = |line: &Line| !newer || line.next() > 1;
        let count = self.lines.iter().filter(|line| kept(line)).count();
        if count + usize::from(exhausted) >= MAX_LINES || !(newer || now < self.doubt_until) {
            return false;
        }
        self.lines.retain(kept);
        let at = self.lines.partition_point(|other| other.generation() < generation);
        self.lines.insert(at, line);
        if exhausted {
            self.lines.push(Line::new((generation + 1).max(now)));
        }
        self.begin_healing(now);
        true
    }

    pub(super) fn begin_healing(&mut self, now: Millis) {
        self.hold_until = now + HOLD_MS;
        self.lost_at = now;
        self.doubt_until = self.doubt_until.max(now + 2 * self.in_force.patience);
        self.credits = Credits::empty(now);
        // Whoever could not be heard of meanwhile must not pay for it: they are silent, and patience does it.
        self.away = Away::default();
    }
}
