//! Healing: what a room does when part of its past was lost, or when somebody knows better.
//!
//! A wiped store, a restarted one and a promoted stale replica are the same case. What is known comes from
//! three sides: the replicas' hints, their last snapshots, and the signed tickets and passes that come in.

use super::{Hints, State};
use crate::room::admission::Credits;
use crate::room::bits::Bits;
use crate::room::eta::History;
use crate::room::line::{Line, MARGIN};
use crate::room::policy::Millis;
use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;

/// How long nobody is called after a loss, so that those who were in front can say so first: 3 s.
///
/// Streams reconnect within that time; whoever polls later is put back in front of those still waiting.
pub const HOLD_MS: Millis = 3_000;

/// The most generations a room keeps at once; evidence of still more is refused as gone.
const MAX_LINES: usize = 4;

impl State {
    /// Wakes a room from a checkpoint. Numbers below `ceiling` may have been given since it was written.
    pub fn resume(&mut self, ceiling: u64, now: Millis) {
        // The wall clock may have been set back: what waits for a time must not wait for the old one.
        // Sessions keep their end, as the passes out there do.
        if self.clock > now {
            self.rotated_at = self.rotated_at.min(now);
            self.history = History::default();
            self.lines.iter_mut().for_each(|line| line.clamp_calls(now));
        }
        self.credits = Credits::empty(now);
        self.clock = now;
        self.lines.iter_mut().for_each(Line::hear_everybody);
        self.rotated_at = now;
        let next = self.next();
        if ceiling > next {
            self.current_mut().lose_from(next, ceiling);
            self.begin_healing(now);
        }
    }

    /// Takes in what a replica has seen: the greater of both stands.
    pub(super) fn take_hints(&mut self, hints: Hints, now: Millis) {
        if hints.floor > self.floor {
            self.floor = hints.floor;
            let floor = self.floor;
            self.lines.retain(|line| line.generation() >= floor);
            if self.lines.is_empty() {
                self.lines.push(Line::new(floor));
            }
        }
        if hints.generation == 0 || hints.generation < self.floor {
            return;
        }
        let known = self.line(hints.generation).map(Line::next);
        match known {
            Some(next) if hints.next > next => {
                if let Some(line) = self.line_mut(hints.generation) {
                    line.lose_from(next, hints.next + MARGIN);
                }
                self.begin_healing(now);
            }
            Some(_) => {}
            None => {
                if self.lines.len() >= MAX_LINES || !self.may_adopt(hints.generation, now) {
                    return;
                }
                let mut line = Line::new(hints.generation);
                line.lose_from(1, hints.next + MARGIN);
                self.insert_line(line);
                self.begin_healing(now);
            }
        }
        if let Some(line) = self.line_mut(hints.generation) {
            line.catch_up_head(hints.head, now);
        }
    }

    /// Gives a ticket that the room does not know its place back, if it may have been lost.
    pub(super) fn recover_ticket(&mut self, place: Place, now: Millis) {
        if place.generation < self.floor || self.is_held(place) || self.revoked.until(place).is_some() {
            return;
        }
        if self.line(place.generation).is_none() {
            if self.lines.len() >= MAX_LINES || !self.may_adopt(place.generation, now) {
                return;
            }
            self.insert_line(Line::lost(place.generation));
            self.begin_healing(now);
        }
        if let Some(line) = self.line_mut(place.generation) {
            let was_in_doubt = line.in_doubt();
            let waits = line.recover(place.number);
            if waits && !was_in_doubt {
                self.begin_healing(now);
            }
        }
    }

    /// Whether the session of a valid pass that the room does not know may have been lost.
    pub(super) fn recover_pass(&mut self, place: Place, now: Millis) -> bool {
        if now >= self.doubt_until {
            return false;
        }
        self.remove_from_line(place);
        if let Some(line) = self.line_mut(place.generation) {
            line.recover_entered(place.number);
        }
        true
    }

    /// Takes over what a replica last knew, where this room is in doubt.
    pub(super) fn restore(&mut self, known: &Snapshot, now: Millis) {
        for view in &known.lines {
            if let Some(line) = self.line_mut(view.generation) {
                line.restore(&Bits::from(&view.waiting), &Bits::from(&view.called), view.next, now);
            }
        }
    }

    /// An unknown generation: a newer one proves that this room is behind; an older one may have been lost with
    /// the room's past, as long as its visitors' patience lasts.
    fn may_adopt(&self, generation: u64, now: Millis) -> bool {
        generation > self.current().generation() || now < self.doubt_until
    }

    fn insert_line(&mut self, line: Line) {
        let at = self.lines.partition_point(|other| other.generation() < line.generation());
        self.lines.insert(at, line);
    }

    fn begin_healing(&mut self, now: Millis) {
        self.hold_until = now + HOLD_MS;
        self.lost_at = now;
        self.doubt_until = self.doubt_until.max(now + 2 * self.in_force.patience);
        self.credits = Credits::empty(now);
    }
}
