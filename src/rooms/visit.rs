//! What visitors do by themselves: join, ask, enter and leave, over HTTP and gRPC alike.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Room, Rooms};
use crate::room::binding::Bearer;
use crate::room::checkin::Nonce;
use crate::room::decision::Refusal;
use crate::room::policy::{Identity, Millis, Mode, Policy, Rejoin};
use crate::room::snapshot::{Known, Snapshot};
use crate::room::standing::{Place, Standing, Status};
use crate::room::state::{Newcomer, Outcome, Subject};
use crate::room::token::{Claims, Kind};
use crate::store::StoreError;
use crate::telemetry::metrics::label::StoreOp;

/// The tokens a visitor shows; several of a kind where a browser sends stale cookies along.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Tickets, as they came.
    pub tickets: Vec<String>,
    /// Passes, as they came.
    pub passes: Vec<String>,
    /// The first ticket was stated, by header, field or body: if it holds, no cookie beside it counts.
    pub ticket_stated: bool,
    /// The same of the first pass.
    pub pass_stated: bool,
    /// Who they are, if somebody trusted says so.
    pub subject: Option<Subject>,
    /// Whether somebody would say so, of a verified user.
    pub knows_users: bool,
    /// From where they come, as far as trusted proxies tell.
    pub address: Option<IpAddr>,
    /// With what, as sent.
    pub user_agent: Option<Vec<u8>>,
    /// The nonce of a check-in; only where somebody asks to come in.
    pub nonce: Option<Nonce>,
}

impl Shown {
    /// Who shows all this: what tokens may be bound to.
    pub(super) fn bearer(&self) -> Bearer<'_> {
        Bearer {
            subject: self.subject,
            knows_users: self.knows_users,
            address: self.address,
            user_agent: self.user_agent.as_deref(),
        }
    }
}

/// A token issued now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The compact JWS.
    pub token: String,
    /// Seconds it lives: the cookie's `Max-Age`.
    pub max_age: u64,
    /// When it ends, milliseconds since the epoch.
    pub ends_at: Millis,
}

/// What a visitor is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Where they stand.
    pub standing: Standing,
    /// Their place.
    pub place: Place,
    /// A ticket, where one was issued.
    pub ticket: Option<Issued>,
    /// A pass, where one was issued.
    pub pass: Option<Issued>,
    /// A number was given by this call.
    pub is_new: bool,
    /// The nonce has to be used up before this is told, and stays so for this long; `None`: none was wanted.
    pub uses_nonce_for: Option<Duration>,
}

/// Why a visitor gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// No ticket or pass was shown, or none that holds.
    #[error("show a valid ticket or pass of this room; join to get one")]
    NoToken,
    /// A gate has turned them away.
    #[error("{0}")]
    Refused(Refusal),
    /// The room wants a signed-in user.
    #[error("this room wants a signed-in user")]
    NoSubject,
    /// Entered before being called.
    #[error("it is not your turn yet")]
    NotCalled(Box<Standing>),
    /// The room wants a nonce to come in.
    #[error("this room wants the header x-anteroom-nonce to come in: {rule}", rule = Nonce::RULE)]
    NoNonce,
    /// The nonce was used before.
    #[error(
        "this nonce was used before; make up another one and ask again: whoever was let in is let in again"
    )]
    UsedNonce,
    /// The place is gone.
    #[error("this place is gone: it was left, silent for too long, or its call ran out; join again")]
    Gone(Box<Standing>),
    /// As many streams as allowed are open.
    #[error("too many streams are open; poll the position instead, or try again later")]
    TooManyStreams,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A token could not be signed.
    #[error("a token could not be signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

impl VisitError {
    /// What the visitor is told: why a store fails is the operator's concern, and stands in the log.
    pub fn told(&self) -> Cow<'static, str> {
        match self {
            Self::Store(StoreError::Unavailable(_)) => {
                "the room's line cannot be reached for the moment; places are kept, try again".into()
            }
            Self::Store(StoreError::TooManyRooms { .. }) => "too many rooms are open; try again later".into(),
            other => other.to_string().into(),
        }
    }
}

impl Rooms {
    /// Takes a place, or keeps the one held where the policy's `rejoin` says so.
    pub async fn join(&self, room: &Arc<Room>, shown: &Shown) -> Result<Answer, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let policy = snapshot.policy.clone();
        if policy.mode == Mode::Off {
            let nobody = Place { generation: 0, number: 0 };
            return Ok(Answer::told(nobody, snapshot.not_waiting(nobody, Status::Admitted)));
        }
        if let Some(answer) = self.inside(room, &snapshot, shown) {
            return Ok(answer);
        }
        if policy.identity == Identity::Subject && shown.subject.is_none() {
            return Err(VisitError::NoSubject);
        }
        let mut left_behind = None;
        if let Some(held) = self.held(room, Some(&snapshot), shown) {
            if policy.rejoin == Rejoin::Back && is_in_line(room.know(&snapshot, held.place())) {
                left_behind = Some(held.place());
            } else if let Some(answer) = self.show(room, &held, shown, false).await? {
                // Whoever is inside stays there, whatever `rejoin` says.
                return Ok(answer);
            }
        }
        let newcomer = Newcomer { subject: subject_for(&policy, shown), anew: policy.rejoin == Rejoin::Back };
        let given_here = room.fresh.lock().next();
        let mut outcome = self.arrive(room, newcomer, shown.address).await?;
        if let Some(left_behind) = left_behind {
            outcome = self.trade(room, left_behind, outcome).await;
        }
        let mut answer = self.answer(room, outcome, None, shown).await?;
        // A user may hold it from before. What another replica gave after the snapshot passes for new.
        let Place { generation, number } = answer.place;
        answer.is_new = snapshot.is_before(answer.place) && given_here <= Some((generation, number));
        Ok(answer)
    }

    /// Where the visitor stands. Costs no store call while they wait or are called.
    pub async fn position(&self, room: &Arc<Room>, shown: &Shown) -> Result<Answer, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        if let Some(answer) = self.inside(room, &snapshot, shown) {
            return Ok(answer);
        }
        let held = self.held(room, Some(&snapshot), shown).ok_or(VisitError::NoToken)?;
        match self.show(room, &held, shown, true).await? {
            Some(answer) => Ok(answer),
            None => Ok(Answer::told(held.place(), snapshot.not_waiting(held.place(), Status::Gone))),
        }
    }

    /// Gives up the place of the ticket stated, else of every ticket shown; nothing to give up is no error. Whether a
    /// ticket held.
    pub async fn leave_line(&self, room: &Arc<Room>, shown: &Shown) -> Result<bool, VisitError> {
        let held = self.each_held(Kind::Ticket, room, shown);
        for ticket in &held {
            self.leave(room, ticket.place(), None).await?;
        }
        Ok(!held.is_empty())
    }

    /// Gives up everything that the tokens shown stand for, the session of a ticket that has entered included. Whether
    /// any of them held.
    pub async fn leave_altogether(&self, room: &Arc<Room>, shown: &Shown) -> Result<bool, VisitError> {
        let held = self.each_held(Kind::Ticket, room, shown);
        let snapshot = self.snapshot_of(room).await?;
        for ticket in &held {
            let place = ticket.place();
            let pass_until = match room.know(&snapshot, place) {
                Known::Waiting(_) => None,
                // Somebody called may have entered since the snapshot. Their pass is not shown; the store knows
                // how long it lasts. Only such a one is made void: revocations are kept for as long, and nobody shall
                // fill them with places that are gone.
                Known::Called | Known::Gone | Known::Unknown => match self.present(room, place).await? {
                    Outcome::Admitted(_, until) => Some(until),
                    Outcome::Waiting(..) => None,
                    Outcome::Gone(_) => continue,
                },
            };
            self.leave(room, place, pass_until).await?;
        }
        Ok(self.leave_room(room, shown).await? || !held.is_empty())
    }

    /// Ends the session of the pass stated, else of every pass shown; nothing to end is no error. Whether a pass held.
    pub async fn leave_room(&self, room: &Arc<Room>, shown: &Shown) -> Result<bool, VisitError> {
        let held = self.each_held(Kind::Pass, room, shown);
        for pass in &held {
            self.leave(room, pass.place(), Some(pass.ends_at())).await?;
        }
        Ok(!held.is_empty())
    }

    /// A snapshot of the room, fetched if there is none yet.
    pub(super) async fn snapshot_of(&self, room: &Room) -> Result<Arc<Snapshot>, StoreError> {
        if let Some(snapshot) = room.snapshot() {
            return Ok(snapshot);
        }
        self.worth_asking(room, StoreOp::Observe)?;
        self.refresh(room).await
    }

    /// The best of the tickets shown that hold: a browser may send an old one along, from before the cookie's domain
    /// was changed or tossed in by a neighbour, and it must not hide the one whose place is still there.
    pub(super) fn held(&self, room: &Room, snapshot: Option<&Snapshot>, shown: &Shown) -> Option<Claims> {
        let tickets = self.each_held(Kind::Ticket, room, shown);
        let tickets = tickets.into_iter().inspect(|ticket| {
            // Another replica gave the number since our last tick: its visitor brings along what they were told.
            if let Some(position) =
                ticket.position.filter(|_| snapshot.is_some_and(|s| s.is_before(ticket.place())))
            {
                room.fresh.lock().note(ticket.place(), position);
            }
        });
        // Of equals the first.
        tickets.min_by_key(|ticket| match snapshot.map(|snapshot| room.know(snapshot, ticket.place())) {
            Some(Known::Called) => 0,
            Some(Known::Waiting(_)) => 1,
            Some(Known::Unknown) | None => 2,
            Some(Known::Gone) => 3,
        })
    }

    /// The first pass shown that holds and is not void, as far as `snapshot` knows, with its token.
    ///
    /// One given back may come along for as long as the client keeps it; it hides no other.
    pub(super) fn valid_pass<'s>(
        &self,
        room: &Room,
        snapshot: Option<&Snapshot>,
        shown: &'s Shown,
    ) -> Option<(Claims, &'s str)> {
        shown.passes.iter().find_map(|token| {
            let claims = self.verify(Kind::Pass, room, token, shown)?;
            let is_void = snapshot.is_some_and(|snapshot| snapshot.is_void(claims.place()));
            (!is_void).then_some((claims, token.as_str()))
        })
    }

    /// The answer to whoever shows a pass that holds.
    pub(super) fn inside(&self, room: &Room, snapshot: &Snapshot, shown: &Shown) -> Option<Answer> {
        let (pass, _) = self.valid_pass(room, Some(snapshot), shown)?;
        Some(Answer::told(pass.place(), snapshot.not_waiting(pass.place(), Status::Admitted)))
    }

    /// Shows a held ticket; `None` if its place is gone. `only_look`: a call is told, not taken up.
    async fn show(
        &self,
        room: &Room,
        held: &Claims,
        shown: &Shown,
        only_look: bool,
    ) -> Result<Option<Answer>, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let place = held.place();
        let outcome = match room.know(&snapshot, place) {
            Known::Waiting(position) => Outcome::Waiting(place, position),
            Known::Called if only_look || room.wants_nonce() => {
                return Ok(Some(Answer::called(room, &snapshot, place)));
            }
            _ => self.present(room, place).await?,
        };
        if matches!(outcome, Outcome::Gone(_)) {
            return Ok(None);
        }
        self.answer(room, outcome, Some(held), shown).await.map(Some)
    }

    /// Gives a number, to whom one may be given from this address.
    pub(super) async fn arrive(
        &self,
        room: &Room,
        newcomer: Newcomer,
        address: Option<IpAddr>,
    ) -> Result<Outcome, VisitError> {
        if let Some(toll) = &self.toll {
            // An outage must not use up what a visitor may.
            self.worth_asking(room, StoreOp::Arrive)?;
            toll(address).await.map_err(|limited| VisitError::Refused(Refusal::Limited(limited)))?;
        }
        let arrive = |call| self.store.arrive(&room.name, call, std::slice::from_ref(&newcomer));
        let outcomes = self.asked(room, StoreOp::Arrive, &room.says(), arrive).await?;
        // A tick may have found the room quiet while this was on its way.
        room.stirs();
        let outcome = one(outcomes)?;
        match outcome {
            Outcome::Waiting(place, position) => {
                room.fresh.lock().note(place, position);
                room.metrics.arrived(position);
            }
            Outcome::Admitted(place, _) => {
                room.fresh.lock().given(place);
                room.metrics.arrived(0);
                room.metrics.entered(0);
            }
            Outcome::Gone(_) => {}
        }
        Ok(outcome)
    }

    pub(super) async fn present(&self, room: &Room, place: Place) -> Result<Outcome, StoreError> {
        let enter = |call| self.store.enter(&room.name, call, std::slice::from_ref(&place));
        one(self.asked(room, StoreOp::Enter, &room.says(), enter).await?)
    }

    pub(super) async fn leave(
        &self,
        room: &Room,
        place: Place,
        pass_until: Option<Millis>,
    ) -> Result<(), StoreError> {
        let given_up = [(place, pass_until)];
        let leave = |call| self.store.leave(&room.name, call, &given_up);
        self.asked(room, StoreOp::Leave, &room.says(), leave).await?;
        // Now, not at the next tick: the pass is void from here on, and whoever is next hears of it.
        self.refresh(room).await?;
        Ok(())
    }
}

impl Room {
    /// What is known of a place, arrivals since the snapshot included.
    pub(super) fn know(&self, snapshot: &Snapshot, place: Place) -> Known {
        let known = snapshot.know(place);
        let Known::Waiting(position) = known else { return known };
        if !snapshot.is_before(place) {
            return known;
        }
        if let Some(told) = self.fresh.lock().position(place) {
            return Known::Waiting(told.min(position));
        }
        // Settled by a newer snapshot meanwhile, or given elsewhere.
        let newest = self.snapshot().filter(|newest| !newest.is_before(place));
        newest.map_or(known, |newest| newest.know(place))
    }

    /// Notes that a visitor is alive.
    pub(super) fn hear(&self, place: Place) {
        // Somebody is there: a room in which they wait must not be taken for a quiet one.
        self.stirs();
        super::beats_of(&mut self.beats.lock(), place.generation).insert(place.number);
    }

    /// The limits that new arrivals meet: as stated here lately, or as the store has them.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy_to_state().or_else(|| self.snapshot().map(|snapshot| snapshot.policy.clone()))
    }
}

/// Who the newcomer is, as far as it matters: elsewhere a place belongs to whoever holds the ticket.
pub(super) fn subject_for(policy: &Policy, shown: &Shown) -> Option<Subject> {
    shown.subject.filter(|_| policy.identity == Identity::Subject)
}

fn is_in_line(known: Known) -> bool {
    matches!(known, Known::Waiting(_) | Known::Called)
}

pub(super) fn one<T>(answers: Vec<T>) -> Result<T, StoreError> {
    let count = answers.len();
    let wrong = || StoreError::Unavailable(format!("one answer expected, {count} came"));
    answers.into_iter().next().ok_or_else(wrong)
}
