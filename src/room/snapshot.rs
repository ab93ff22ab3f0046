//! A room's snapshot: what every position, stream and pass check is answered from, without asking the store.

use std::collections::HashSet;
use std::sync::Arc;

use super::bits::Bits;
use super::eta::{Recent, Speed, poll_after};
use super::line::Line;
use super::policy::{Millis, Policy};
use super::rank::Ranked;
use super::standing::{Place, Standing, Status};
use super::state::Limits;

/// One generation's line, frozen.
#[derive(Clone, Debug)]
pub struct LineView {
    /// The line's generation.
    pub generation: u64,
    /// The smallest number not yet called.
    pub head: u64,
    /// The next number to be given.
    pub next: u64,
    /// Who waits.
    pub waiting: Ranked,
    /// Who was called and may still enter.
    pub called: Ranked,
    /// Who of them said that their page is going away, and was not heard of since.
    pub away: Bits,
    /// Whether numbers may have been given that the line does not know of.
    pub in_doubt: bool,
}

impl From<&Line> for LineView {
    fn from(line: &Line) -> Self {
        Self {
            generation: line.generation(),
            head: line.head(),
            next: line.next(),
            waiting: Ranked::new(line.waiting()),
            called: Ranked::new(line.called()),
            away: Bits::default(),
            in_doubt: line.in_doubt(),
        }
    }
}

/// A room at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken: store time, milliseconds since the epoch.
    pub at: Millis,
    /// Generations below this one are void: the room was reset.
    pub floor: u64,
    /// The lines, oldest generation first; the last one is the current.
    pub lines: Vec<LineView>,
    /// How many wait, over all lines.
    pub waiting: u64,
    /// Calls outstanding.
    pub called: u64,
    /// Slots held; 0 in a room without a capacity.
    pub sessions: u64,
    /// How fast the line moves.
    pub speed: Speed,
    /// The calls of the last minute.
    pub minute: Recent,
    /// The limits in force, operators' overrides included.
    pub policy: Arc<Policy>,
    /// The limits as replicas stated them last.
    pub stated: Arc<Policy>,
    /// An operator's limits, above those.
    pub limits: Limits,
    /// When they were set or cleared last; 0: never.
    pub limits_at: Millis,
    /// Other limits, which those of this very call took the place of.
    pub ousted: Option<Arc<Policy>>,
    /// An operator has paused the room: nobody is called.
    pub paused: bool,
    /// When it was paused or resumed last; 0: never.
    pub paused_at: Millis,
    /// When part of the room's past was last found lost; a room made from nothing may have lost all of it.
    pub last_loss: Millis,
    /// Part of the room's past may have been lost, at this time, and its visitors' patience has not run out yet.
    pub lost_at: Option<Millis>,
    /// Places whose passes were given back before their time.
    pub revoked: Arc<HashSet<Place>>,
    /// Nobody waits, is called or is inside: nothing will change before somebody comes.
    pub quiet: bool,
}

/// What a snapshot knows of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// In line, at this position (1 is the next).
    Waiting(u64),
    /// May enter.
    Called,
    /// Neither waiting nor called as far as the snapshot knows: entered, left, or run out.
    Gone,
    /// Not to be told from the snapshot: only the store can.
    Unknown,
}

impl Snapshot {
    /// What is known of a place. Costs a few nanoseconds and no store call.
    pub fn know(&self, place: Place) -> Known {
        if place.generation < self.floor {
            return Known::Gone;
        }
        let mut before = 0;
        for (index, line) in self.lines.iter().enumerate() {
            if line.generation != place.generation {
                before += line.waiting.count();
                continue;
            }
            if line.waiting.contains(place.number) {
                return Known::Waiting(before + line.waiting.rank(place.number) + 1);
            }
            if line.called.contains(place.number) {
                return Known::Called;
            }
            if place.number >= line.next && index + 1 == self.lines.len() {
                // Given since this snapshot was taken: behind everybody in it, and behind the numbers between.
                return Known::Waiting(self.waiting + (place.number - line.next) + 1);
            }
            // A number that an older line does not know proves that this line, too, has lost something.
            return if line.in_doubt || place.number >= line.next { Known::Unknown } else { Known::Gone };
        }
        // An older generation whose line has run out comes back only while the room heals.
        if place.generation < self.generation() && self.lost_at.is_none() {
            Known::Gone
        } else {
            Known::Unknown
        }
    }

    /// Whether a pass for this place is void: given back, or from before a reset.
    pub fn is_void(&self, place: Place) -> bool {
        place.generation < self.floor || self.revoked.contains(&place)
    }

    /// Whether the session of a valid pass issued at `issued_at` may have been lost: the pass should then be
    /// shown to the store.
    pub fn may_have_lost(&self, place: Place, issued_at: Millis) -> bool {
        let line = self.lines.iter().find(|line| line.generation == place.generation);
        self.lost_at.is_some_and(|lost_at| issued_at <= lost_at) && line.is_none_or(|line| line.in_doubt)
    }

    /// Whether an operator's doing is known here that `other` has lost or not heard of.
    pub fn has_newer_controls_than(&self, other: &Self) -> bool {
        self.paused_at > other.paused_at || self.limits_at > other.limits_at
    }

    /// Whether the store may lose an operator's doing with nobody else to bring it back: one that stands, or was done or
    /// taken back less than `lately` before this snapshot.
    pub fn is_controlled(&self, lately: Millis) -> bool {
        let last = self.paused_at.max(self.limits_at);
        let is_recent = last > 0 && self.at.saturating_sub(last) < lately;
        self.paused || self.limits != Limits::default() || is_recent
    }

    /// Whether this snapshot was taken before `place` was given.
    pub fn is_before(&self, place: Place) -> bool {
        let Some(line) = self.lines.last() else { return true };
        place.generation > line.generation
            || (place.generation == line.generation && place.number >= line.next)
    }

    /// The first in line.
    pub fn first(&self) -> Option<Place> {
        self.lines
            .iter()
            .find_map(|line| Some(Place { generation: line.generation, number: line.waiting.first()? }))
    }

    /// The newest generation.
    pub fn generation(&self) -> u64 {
        self.lines.last().map_or(0, |line| line.generation)
    }

    /// What a waiting visitor at `position` is told.
    pub fn waiting_at(&self, place: Place, position: u64) -> Standing {
        let eta = self.speed.eta(position);
        Standing {
            status: Status::Waiting,
            room: self.policy.room.clone(),
            number: place.number,
            position,
            waiting: self.waiting.max(position),
            eta,
            poll_after: poll_after(eta, &self.policy),
        }
    }

    /// What a visitor with any other status is told.
    pub fn not_waiting(&self, place: Place, status: Status) -> Standing {
        Standing {
            status,
            room: self.policy.room.clone(),
            number: place.number,
            position: 0,
            waiting: self.waiting,
            eta: None,
            poll_after: if status == Status::Called { 1 } else { poll_after(None, &self.policy) },
        }
    }
}
