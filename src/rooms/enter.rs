//! Coming in: a call becomes a session, by the ticket alone or with a nonce.

use std::sync::Arc;
use std::time::Duration;

use super::visit::{Answer, Shown, VisitError};
use super::{Room, Rooms};
use crate::room::checkin::{Checkin, remembered_for};
use crate::room::policy::Identity;
use crate::room::snapshot::Snapshot;
use crate::room::standing::{Place, Status};
use crate::room::state::Outcome;
use crate::room::token::{Claims, Kind};

impl Rooms {
    /// Turns a call into a session; once inside, gives the same session again.
    ///
    /// Where the room wants a nonce, the answer must not be told before the one shown is used up
    /// ([`Answer::uses_nonce_for`]): not even a session that is there already is given by a request sent twice.
    pub async fn enter(&self, room: &Arc<Room>, shown: &Shown) -> Result<Answer, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let wants_nonce = room.wants_nonce();
        if wants_nonce && shown.nonce.is_none() {
            return Err(VisitError::NoNonce);
        }
        let mut answer = self.come_in(room, &snapshot, shown).await?;
        if wants_nonce {
            let shown =
                [Kind::Ticket, Kind::Pass].into_iter().flat_map(|kind| self.each_held(kind, room, shown));
            let end = shown.map(|token| token.ends_at()).max().unwrap_or_default();
            answer.uses_nonce_for = Some(Duration::from_millis(remembered_for(end, self.now())));
        }
        Ok(answer)
    }

    async fn come_in(
        &self,
        room: &Arc<Room>,
        snapshot: &Snapshot,
        shown: &Shown,
    ) -> Result<Answer, VisitError> {
        let Some(held) = self.held(room, Some(snapshot), shown) else {
            return self.inside(room, snapshot, shown).ok_or(VisitError::NoToken);
        };
        let outcome = self.present(room, held.place()).await?;
        if let Outcome::Gone(_) = outcome
            && let Some(answer) = self.inside(room, snapshot, shown)
        {
            return Ok(answer);
        }
        let answer = self.answer(room, outcome, Some(&held), shown).await?;
        match answer.standing.status {
            Status::Admitted => Ok(answer),
            Status::Gone => Err(VisitError::Gone(Box::new(answer.standing))),
            Status::Waiting | Status::Called => Err(VisitError::NotCalled(Box::new(answer.standing))),
        }
    }
}

impl Room {
    /// Whether whoever is called comes in with a nonce.
    pub(super) fn wants_nonce(&self) -> bool {
        self.policy().is_some_and(|policy| policy.checkin == Checkin::Nonce)
    }

    /// Whether a session is not given to whoever asks like this, as they could be sending again what others have
    /// sent: it was there before, by a ticket or as its user's, and no nonce was asked for here.
    pub(super) fn keeps_back(
        &self,
        snapshot: &Snapshot,
        place: Place,
        held: Option<&Claims>,
        shown: &Shown,
    ) -> bool {
        let is_users = || self.policy().is_some_and(|policy| policy.identity == Identity::Subject);
        let was_there = || held.is_some() || (is_users() && !snapshot.is_before(place));
        shown.nonce.is_none() && self.wants_nonce() && was_there()
    }
}

impl Answer {
    /// The answer to somebody called who does not come in by this. They are there, should another of their tabs have
    /// gone away.
    pub(super) fn called(room: &Room, snapshot: &Snapshot, place: Place) -> Self {
        room.hear(place);
        Self::told(place, snapshot.not_waiting(place, Status::Called))
    }
}
