//! Polls of users who are known by name and keep no token: where they stand, and what is kept for them until they
//! poll again.

use std::net::IpAddr;
use std::sync::Arc;

use super::users::{Stay, User};
use super::visit::{VisitError, one};
use super::{Room, Rooms};
use crate::room::pass;
use crate::room::policy::{Millis, Mode, Policy};
use crate::room::snapshot::{Known, Snapshot};
use crate::room::standing::Place;
use crate::room::state::{Newcomer, Outcome, Subject};
use crate::store::StoreError;
use crate::telemetry::metrics::label::StoreOp;

/// What a user who polls is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whether they may go on.
    pub may_enter: bool,
    /// 1 for the next; 0 if they may go on.
    pub position: u64,
    /// The position they were told first, as far as this process knows; 0: let in at once.
    pub first: u64,
    /// How many wait in the room.
    pub waiting: u64,
    /// The limits in force.
    pub policy: Arc<Policy>,
}

impl Rooms {
    /// Answers a poll of a user: gives them a place if they have none, lets them in when they are called, and prolongs
    /// their session when they are inside.
    ///
    /// While they wait and are known here, a poll costs no store call. `address`: from where they ask.
    pub async fn poll(
        &self,
        room: &Arc<Room>,
        subject: Subject,
        address: Option<IpAddr>,
    ) -> Result<Turn, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        if snapshot.policy.mode == Mode::Off {
            return Ok(turn(&snapshot, None, 0));
        }
        let now = self.now();
        if let Some(user) = room.users.polled(subject, now) {
            if let Some(outcome) = self.again(room, &snapshot, &user).await? {
                return Ok(self.told(room, &snapshot, subject, outcome, user));
            }
            room.users.forget(subject, user.place);
        }
        // One place for each user, whatever the room's `identity`: without a token there is no other way.
        let outcome = self.arrive(room, Newcomer { subject: Some(subject), anew: false }, address).await?;
        let (first, place) = match outcome {
            Outcome::Waiting(place, position) => (position, place),
            Outcome::Admitted(place, _) => (0, place),
            // There are as many numbers as a line can hold.
            Outcome::Gone(place) => (snapshot.waiting + 1, place),
        };
        let user = User { place, first, arrived_at: now, polled_at: now, stay: None };
        Ok(self.told(room, &snapshot, subject, outcome, user))
    }

    /// Where a user stands who is known here; `None`: their place is gone.
    async fn again(
        &self,
        room: &Room,
        snapshot: &Snapshot,
        user: &User,
    ) -> Result<Option<Outcome>, VisitError> {
        let place = user.place;
        if snapshot.is_void(place) {
            return Ok(None);
        }
        if let Some(stay) = user.stay {
            return Ok(self.still_inside(room, snapshot, place, stay).await);
        }
        if let Known::Waiting(position) = room.know(snapshot, place) {
            return Ok(Some(Outcome::Waiting(place, position)));
        }
        match self.present(room, place).await {
            Ok(Outcome::Gone(_)) => Ok(None),
            Ok(Outcome::Admitted(place, until)) => {
                room.metrics.entered(self.now().saturating_sub(user.arrived_at));
                Ok(Some(Outcome::Admitted(place, until)))
            }
            Ok(waiting @ Outcome::Waiting(..)) => Ok(Some(waiting)),
            // Called, and the store cannot be told now: next.
            Err(StoreError::Unavailable(_)) => Ok(Some(Outcome::Waiting(place, 1))),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a session goes on, prolonged where that is due, as a pass is; a store that is out leaves it as it is.
    async fn still_inside(
        &self,
        room: &Room,
        snapshot: &Snapshot,
        place: Place,
        stay: Stay,
    ) -> Option<Outcome> {
        let now = self.now();
        if stay.told && stay.until <= now {
            return None;
        }
        let session_ttl = snapshot.policy.session_ttl;
        let until = if stay.told && !pass::is_due(stay.until, session_ttl, now) {
            Some(stay.until)
        } else {
            match self.touch(room, &[(place, stay.until)]).await.and_then(one) {
                Ok(until) => until,
                Err(_) => Some(stay.until),
            }
        };
        until.map(|until| Outcome::Admitted(place, until))
    }

    /// Remembers what a user is told.
    fn told(&self, room: &Room, snapshot: &Snapshot, subject: Subject, outcome: Outcome, user: User) -> Turn {
        let (place, stay, position) = match outcome {
            Outcome::Waiting(place, position) => {
                room.hear(place);
                (place, None, Some(position))
            }
            Outcome::Admitted(place, until) => (place, Some(Stay { until, told: true }), None),
            Outcome::Gone(place) => (place, None, Some(snapshot.waiting + 1)),
        };
        if !room.users.put(subject, User { place, stay, ..user }) {
            self.metrics.user_not_kept();
        }
        turn(snapshot, position, user.first)
    }

    /// Hears of users on their behalf, before a tick.
    pub(super) fn hear_users(&self, room: &Room) {
        let Some(snapshot) = room.snapshot() else { return };
        let places = room.users.to_hear(&snapshot.policy, self.now());
        for place in places {
            room.hear(place);
        }
    }

    /// Takes up calls for users who would poll too late, and prolongs or gives up what they do not know of yet; after
    /// a tick. What fails is tried again at the next one.
    pub(super) async fn keep_users(&self, room: &Room, snapshot: &Snapshot) {
        let now = self.now();
        let called = room.users.called(snapshot, now);
        if !called.is_empty() {
            let places: Vec<_> = called.iter().map(|(_, user)| user.place).collect();
            let enter = |call| self.store.enter(&room.name, call, &places);
            let outcomes = self.asked(room, StoreOp::Enter, &room.says(), enter).await.unwrap_or_default();
            for ((subject, user), outcome) in called.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Admitted(place, until) => {
                        room.metrics.entered(now.saturating_sub(user.arrived_at));
                        room.users.stays(subject, place, until);
                    }
                    Outcome::Gone(place) => room.users.forget(subject, place),
                    Outcome::Waiting(..) => {}
                }
            }
        }
        let due = room.users.untold(&snapshot.policy, now);
        if !due.to_prolong.is_empty() {
            let passes: Vec<_> = due.to_prolong.iter().map(|(_, place, until)| (*place, *until)).collect();
            let prolonged = self.touch(room, &passes).await.unwrap_or_default();
            for ((subject, place, _), until) in due.to_prolong.into_iter().zip(prolonged) {
                match until {
                    Some(until) => room.users.stays(subject, place, until),
                    None => room.users.forget(subject, place),
                }
            }
        }
        if !due.to_give_up.is_empty() {
            let places: Vec<_> =
                due.to_give_up.iter().map(|(_, place, until)| (*place, Some(*until))).collect();
            let leave = |call| self.store.leave(&room.name, call, &places);
            if self.asked(room, StoreOp::Leave, &room.says(), leave).await.is_ok() {
                due.to_give_up.into_iter().for_each(|(subject, place, _)| room.users.forget(subject, place));
            }
        }
    }

    /// Prolongs sessions; with each the end it had. `None`: it is over.
    pub(super) async fn touch(
        &self,
        room: &Room,
        sessions: &[(Place, Millis)],
    ) -> Result<Vec<Option<Millis>>, StoreError> {
        let touch = |call| self.store.touch(&room.name, call, sessions);
        self.asked(room, StoreOp::Touch, &room.says(), touch).await
    }
}

fn turn(snapshot: &Snapshot, position: Option<u64>, first: u64) -> Turn {
    let position_or_none = position.unwrap_or(0);
    Turn {
        may_enter: position.is_none(),
        position: position_or_none,
        first,
        waiting: snapshot.waiting.max(position_or_none),
        policy: snapshot.policy.clone(),
    }
}
