//! What visitors do by themselves: join, ask, enter and leave, over HTTP and gRPC alike.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::watch::Watch;
use super::{Room, Rooms};
use crate::room::policy::{Identity, Millis, Mode, Policy, Rejoin};
use crate::room::snapshot::{Known, Snapshot};
use crate::room::standing::{Place, Standing, Status};
use crate::room::state::{Newcomer, Outcome, Subject};
use crate::room::token::{Claims, Kind};
use crate::room::{pass, ticket};
use crate::store::StoreError;
use crate::telemetry::metrics::label::StoreOp;

/// The tokens a visitor shows; several of a kind where a browser sends stale cookies along.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Tickets, as they came.
    pub tickets: Vec<String>,
    /// Passes, as they came.
    pub passes: Vec<String>,
    /// Who they are, if somebody trusted says so.
    pub subject: Option<Subject>,
}

/// A token issued now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The compact JWS.
    pub token: String,
    /// Seconds it lives: the cookie's `Max-Age`.
    pub max_age: u64,
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
}

/// Why a visitor gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// No ticket or pass was shown, or none that holds.
    #[error("show a valid ticket or pass of this room; join to get one")]
    NoToken,
    /// The room wants a signed-in user.
    #[error("this room wants a signed-in user")]
    NoSubject,
    /// Entered before being called.
    #[error("it is not your turn yet")]
    NotCalled(Box<Standing>),
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

impl Rooms {
    /// Takes a place, or keeps the one held where the policy's `rejoin` says so.
    pub async fn join(&self, room: &Arc<Room>, shown: &Shown) -> Result<Answer, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let policy = snapshot.policy.clone();
        if policy.mode == Mode::Off {
            let nobody = Place { generation: 0, number: 0 };
            return Ok(Answer::told(nobody, snapshot.not_waiting(nobody, Status::Admitted)));
        }
        if let Some(pass) = self.valid_pass(room, &snapshot, shown) {
            return Ok(Answer::told(pass.place(), snapshot.not_waiting(pass.place(), Status::Admitted)));
        }
        if policy.identity == Identity::Subject && shown.subject.is_none() {
            return Err(VisitError::NoSubject);
        }
        let held = self.verify(Kind::Ticket, &room.name, shown.tickets.iter().map(String::as_str));
        if let Some((held, _)) = held {
            let answer = match policy.rejoin {
                Rejoin::Keep => self.show(room, &held, false).await?,
                Rejoin::Back => {
                    self.leave(room, held.place(), None).await?;
                    None
                }
            };
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
        let newcomer = Newcomer { subject: shown.subject, anew: policy.rejoin == Rejoin::Back };
        let outcome = self.arrive(room, newcomer).await?;
        let mut answer = self.answer(room, outcome, None).await?;
        answer.is_new = true;
        Ok(answer)
    }

    /// Where the visitor stands. Costs no store call while they wait or are called.
    pub async fn position(&self, room: &Arc<Room>, shown: &Shown) -> Result<Answer, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        if let Some(pass) = self.valid_pass(room, &snapshot, shown) {
            return Ok(Answer::told(pass.place(), snapshot.not_waiting(pass.place(), Status::Admitted)));
        }
        let held = self.verify(Kind::Ticket, &room.name, shown.tickets.iter().map(String::as_str));
        let (held, _) = held.ok_or(VisitError::NoToken)?;
        match self.show(room, &held, true).await? {
            Some(answer) => Ok(answer),
            None => Ok(Answer::told(held.place(), snapshot.not_waiting(held.place(), Status::Gone))),
        }
    }

    /// Turns a call into a session; once inside, gives the same session again.
    pub async fn enter(&self, room: &Arc<Room>, shown: &Shown) -> Result<Answer, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let held = self.verify(Kind::Ticket, &room.name, shown.tickets.iter().map(String::as_str));
        let Some((held, _)) = held else {
            let pass = self.valid_pass(room, &snapshot, shown).ok_or(VisitError::NoToken)?;
            return Ok(Answer::told(pass.place(), snapshot.not_waiting(pass.place(), Status::Admitted)));
        };
        let outcome = self.present(room, held.place()).await?;
        let answer = self.answer(room, outcome, Some(&held)).await?;
        match answer.standing.status {
            Status::Admitted => Ok(answer),
            Status::Gone => Err(VisitError::Gone(Box::new(answer.standing))),
            Status::Waiting | Status::Called => Err(VisitError::NotCalled(Box::new(answer.standing))),
        }
    }

    /// Gives up the place of every ticket shown; nothing to give up is no error.
    pub async fn leave_line(&self, room: &Arc<Room>, shown: &Shown) -> Result<(), VisitError> {
        for token in &shown.tickets {
            if let Some((held, _)) = self.verify(Kind::Ticket, &room.name, [token.as_str()]) {
                self.leave(room, held.place(), None).await?;
            }
        }
        Ok(())
    }

    /// Ends the session of every pass shown; nothing to end is no error.
    pub async fn leave_room(&self, room: &Arc<Room>, shown: &Shown) -> Result<(), VisitError> {
        for token in &shown.passes {
            if let Some((pass, _)) = self.verify(Kind::Pass, &room.name, [token.as_str()]) {
                self.leave(room, pass.place(), Some(pass.ends_at())).await?;
            }
        }
        Ok(())
    }

    /// Watches a visitor's place; the permit counts the stream as open.
    pub async fn watch(
        &self,
        room: &Arc<Room>,
        shown: &Shown,
    ) -> Result<(Watch, OwnedSemaphorePermit), VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let held = self.verify(Kind::Ticket, &room.name, shown.tickets.iter().map(String::as_str));
        let place = match held {
            Some((held, _)) => held.place(),
            None => self.valid_pass(room, &snapshot, shown).ok_or(VisitError::NoToken)?.place(),
        };
        let Ok(permit) = self.streams.clone().try_acquire_owned() else {
            self.metrics.stream_refused();
            return Err(VisitError::TooManyStreams);
        };
        Ok((Watch::new(room.clone(), place), permit))
    }

    /// Where a watched place stands now; notes that its visitor is alive. Asks the store only where the
    /// snapshot does not know it any more.
    pub async fn watched(&self, watch: &Watch) -> Result<Standing, VisitError> {
        let room = watch.room();
        let snapshot = self.snapshot_of(room).await?;
        let place = watch.place();
        match room.know(&snapshot, place) {
            Known::Waiting(position) => {
                room.hear(place);
                Ok(snapshot.waiting_at(place, position))
            }
            Known::Called => Ok(snapshot.not_waiting(place, Status::Called)),
            Known::Gone | Known::Unknown => {
                let outcome = self.present(room, place).await?;
                Ok(match outcome {
                    Outcome::Waiting(place, position) => snapshot.waiting_at(place, position),
                    Outcome::Admitted(place, _) => snapshot.not_waiting(place, Status::Admitted),
                    Outcome::Gone(place) => snapshot.not_waiting(place, Status::Gone),
                })
            }
        }
    }

    /// A snapshot of the room, fetched if there is none yet.
    pub(super) async fn snapshot_of(&self, room: &Room) -> Result<Arc<Snapshot>, StoreError> {
        match room.snapshot() {
            Some(snapshot) => Ok(snapshot),
            None => self.refresh(room).await,
        }
    }

    /// The first pass shown that holds and is not void.
    fn valid_pass(&self, room: &Room, snapshot: &Snapshot, shown: &Shown) -> Option<Claims> {
        let (claims, _) = self.verify(Kind::Pass, &room.name, shown.passes.iter().map(String::as_str))?;
        (!snapshot.is_void(claims.place())).then_some(claims)
    }

    /// Shows a held ticket; `None` if its place is gone. `only_look`: a call is told, not taken up.
    async fn show(&self, room: &Room, held: &Claims, only_look: bool) -> Result<Option<Answer>, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let place = held.place();
        let outcome = match room.know(&snapshot, place) {
            Known::Waiting(position) => Outcome::Waiting(place, position),
            Known::Called if only_look => {
                return Ok(Some(Answer::told(place, snapshot.not_waiting(place, Status::Called))));
            }
            _ => self.present(room, place).await?,
        };
        if matches!(outcome, Outcome::Gone(_)) {
            return Ok(None);
        }
        self.answer(room, outcome, Some(held)).await.map(Some)
    }

    pub(super) async fn arrive(&self, room: &Room, newcomer: Newcomer) -> Result<Outcome, StoreError> {
        let call = room.call();
        let arrive = self.store.arrive(&room.name, &call, std::slice::from_ref(&newcomer));
        let outcomes = self.timed(StoreOp::Arrive, arrive).await?;
        let outcome = one(outcomes)?;
        if let Outcome::Waiting(place, position) = outcome {
            room.fresh.lock().note(place, position);
            room.metrics.arrived(position);
        }
        if let Outcome::Admitted(..) = outcome {
            room.metrics.arrived(0);
            room.metrics.entered(0);
        }
        Ok(outcome)
    }

    pub(super) async fn present(&self, room: &Room, place: Place) -> Result<Outcome, StoreError> {
        let call = room.call();
        one(self.timed(StoreOp::Enter, self.store.enter(&room.name, &call, &[place])).await?)
    }

    async fn leave(&self, room: &Room, place: Place, pass_until: Option<Millis>) -> Result<(), StoreError> {
        let call = room.call();
        self.timed(StoreOp::Leave, self.store.leave(&room.name, &call, &[(place, pass_until)])).await?;
        // Now, not at the next tick: the pass is void from here on, and whoever is next hears of it.
        self.refresh(room).await?;
        Ok(())
    }

    /// The answer to an outcome, with the tokens that go with it.
    pub(super) async fn answer(
        &self,
        room: &Room,
        outcome: Outcome,
        held: Option<&Claims>,
    ) -> Result<Answer, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let now = self.now();
        let mut answer = match outcome {
            Outcome::Waiting(place, position) => {
                room.hear(place);
                Answer::told(place, snapshot.waiting_at(place, position))
            }
            Outcome::Admitted(place, until) => {
                let mut answer = Answer::told(place, snapshot.not_waiting(place, Status::Admitted));
                answer.pass = Some(self.issue_pass(room, place, until)?);
                if let Some(held) = held {
                    let waited = now.saturating_sub(held.issued_at());
                    room.metrics.entered(waited);
                }
                answer
            }
            Outcome::Gone(place) => Answer::told(place, snapshot.not_waiting(place, Status::Gone)),
        };
        if answer.standing.status == Status::Waiting && held.is_none_or(|held| ticket::is_worn(held, now)) {
            answer.ticket = Some(self.issue_ticket(room, answer.place)?);
        }
        Ok(answer)
    }

    pub(super) fn issue_pass(
        &self,
        room: &Room,
        place: Place,
        until: Millis,
    ) -> Result<Issued, jsonwebtoken::errors::Error> {
        self.issue(Kind::Pass, &pass::claims(&room.name, place, self.now(), until))
    }

    fn issue_ticket(&self, room: &Room, place: Place) -> Result<Issued, jsonwebtoken::errors::Error> {
        self.issue(Kind::Ticket, &ticket::claims(&room.name, place, self.now(), self.options.ticket_ttl))
    }

    fn issue(&self, kind: Kind, claims: &Claims) -> Result<Issued, jsonwebtoken::errors::Error> {
        let max_age = claims.exp.saturating_sub(self.now() / 1_000);
        self.keys.sign(kind, claims).map(|token| Issued { token, max_age })
    }
}

impl Answer {
    /// Where somebody stands, and no tokens.
    fn told(place: Place, standing: Standing) -> Self {
        Self { standing, place, ticket: None, pass: None, is_new: false }
    }
}

impl Room {
    /// What is known of a place, arrivals since the snapshot included.
    pub(super) fn know(&self, snapshot: &Snapshot, place: Place) -> Known {
        match snapshot.know(place) {
            Known::Waiting(position) if snapshot.is_before(place) => {
                let told = self.fresh.lock().position(place);
                Known::Waiting(told.map_or(position, |told| told.min(position)))
            }
            known => known,
        }
    }

    /// Notes that a visitor is alive.
    pub(super) fn hear(&self, place: Place) {
        super::beats_of(&mut self.beats.lock(), place.generation).insert(place.number);
    }

    /// The limits that new arrivals meet: as last stated here, or as the store has them.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.load_full().or_else(|| self.snapshot().map(|snapshot| snapshot.policy.clone()))
    }
}

fn one<T>(answers: Vec<T>) -> Result<T, StoreError> {
    let count = answers.len();
    let wrong = || StoreError::Unavailable(format!("one answer expected, {count} came"));
    answers.into_iter().next().ok_or_else(wrong)
}
