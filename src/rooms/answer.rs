//! What a visitor's call came to, as an answer with the tokens that go with it.

use super::visit::{Answer, Issued, Shown, VisitError};
use super::{Room, Rooms};
use crate::room::binding::Bound;
use crate::room::policy::Millis;
use crate::room::snapshot::Known;
use crate::room::standing::{Place, Standing, Status};
use crate::room::state::Outcome;
use crate::room::token::{Claims, Kind};
use crate::room::{pass, ticket};

impl Rooms {
    /// The answer to an outcome, with the tokens that go with it: to whoever shows this.
    pub(super) async fn answer(
        &self,
        room: &Room,
        outcome: Outcome,
        held: Option<&Claims>,
        shown: &Shown,
    ) -> Result<Answer, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let now = self.now();
        let mut answer = match outcome {
            Outcome::Waiting(place, position) => {
                room.hear(place);
                Answer::told(place, snapshot.waiting_at(place, position))
            }
            Outcome::Admitted(place, _) if room.keeps_back(&snapshot, place, held, shown) => {
                Answer::called(room, &snapshot, place)
            }
            Outcome::Admitted(place, until) => {
                let mut answer = Answer::told(place, snapshot.not_waiting(place, Status::Admitted));
                answer.pass = Some(self.issue_pass(room, place, until, room.bound(held, shown))?);
                // Whoever shows the ticket again from inside is no further admission.
                let is_new = room.know(&snapshot, place) != Known::Gone;
                if let Some(held) = held.filter(|_| is_new) {
                    let waited = now.saturating_sub(held.issued_at());
                    room.metrics.entered(waited);
                }
                answer
            }
            Outcome::Gone(place) => Answer::told(place, snapshot.not_waiting(place, Status::Gone)),
        };
        let has_place = matches!(answer.standing.status, Status::Waiting | Status::Called);
        if has_place && held.is_none_or(|held| ticket::is_worn(held, now)) {
            answer.ticket = Some(self.issue_ticket(
                room,
                answer.place,
                // A call is in front of everybody.
                answer.standing.position.max(1),
                room.bound(held, shown),
            )?);
        }
        Ok(answer)
    }

    pub(super) fn issue_pass(
        &self,
        room: &Room,
        place: Place,
        until: Millis,
        bound: Option<Bound>,
    ) -> Result<Issued, jsonwebtoken::errors::Error> {
        let claims = pass::claims(&room.name, place, self.now(), until);
        self.issue(Kind::Pass, &Claims { bound, ..claims })
    }

    fn issue_ticket(
        &self,
        room: &Room,
        place: Place,
        position: u64,
        bound: Option<Bound>,
    ) -> Result<Issued, jsonwebtoken::errors::Error> {
        let ttl = self.options.ticket_ttl;
        let claims = ticket::claims(&room.name, place, position, self.now(), ttl);
        self.issue(Kind::Ticket, &Claims { bound, ..claims })
    }

    fn issue(&self, kind: Kind, claims: &Claims) -> Result<Issued, jsonwebtoken::errors::Error> {
        let max_age = claims.exp.saturating_sub(self.now() / 1_000);
        self.keys.sign(kind, claims).map(|token| Issued { token, max_age, ends_at: claims.ends_at() })
    }
}

impl Room {
    /// What a token is bound to that is given to whoever shows this, for `held` where they had one.
    pub(super) fn bound(&self, held: Option<&Claims>, shown: &Shown) -> Option<Bound> {
        let held = held.and_then(|held| held.bound.as_ref());
        self.policy()?.bind.passed_on(held, &shown.bearer())
    }
}

impl Answer {
    /// Where somebody stands, and no tokens.
    pub(super) fn told(place: Place, standing: Standing) -> Self {
        Self { standing, place, ticket: None, pass: None, is_new: false, uses_nonce_for: None }
    }
}
