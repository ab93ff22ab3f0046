//! The way of a Check: tokens, snapshot, decision, store, verdict.

use std::sync::Arc;

use super::visit::{Answer, Issued, Shown, VisitError, one, subject_for};
use super::{Room, Rooms};
use crate::room::decision::{
    Admission, Facts, PassShown, Step, Verdict, Wait, bypass, decide, without_store,
};
use crate::room::policy::{Policy, Source};
use crate::room::snapshot::{Known, Snapshot};
use crate::room::standing::{Place, Status};
use crate::room::state::{Newcomer, Outcome};
use crate::room::token::Claims;
use crate::store::StoreError;

impl Rooms {
    /// Answers a Check on a request under `policy`, as `source` states it.
    pub async fn check(
        &self,
        policy: &Arc<Policy>,
        source: Source,
        preflight: bool,
        shown: &Shown,
    ) -> Verdict {
        // Before anything passes: whoever waits in a room that was turned off is to hear of it.
        let room = self.room_with(policy, source);
        if let Some(why) = bypass(policy, preflight) {
            return Verdict::Bypass(why);
        }
        let room = match room {
            Ok(room) => room,
            Err(error) => return failed(policy, &error.into()),
        };
        match self.check_in(&room, policy, shown).await {
            Ok(verdict) => verdict,
            Err(error) => failed(policy, &error),
        }
    }

    /// What a Check comes to that has run out of time: a pass holds all the same, as it needs no store.
    pub fn out_of_time(&self, policy: &Policy, shown: &Shown) -> Verdict {
        let Some(room) = self.known(&policy.room) else { return without_store(policy) };
        match self.valid_pass(&room, room.snapshot().as_deref(), shown) {
            Some((claims, token)) => self.admit_as_is(&room, &claims, token),
            None => without_store(policy),
        }
    }

    async fn check_in(
        &self,
        room: &Room,
        policy: &Arc<Policy>,
        shown: &Shown,
    ) -> Result<Verdict, VisitError> {
        let snapshot = match room.snapshot() {
            // A pass needs no store: the snapshot only tells whether it was given back.
            None if self.valid_pass(room, None, shown).is_some() => {
                let asked = tokio::time::timeout(self.options.store_budget, self.snapshot_of(room));
                asked.await.ok().and_then(Result::ok)
            }
            None => Some(self.snapshot_of(room).await?),
            known => known,
        };
        let snapshot = snapshot.as_deref();
        let mut pass = self.valid_pass(room, snapshot, shown);
        // Twice at most: where the session behind the pass is over, all holds that holds for a request without one.
        loop {
            if let Some(verdict) = self.step(room, policy, shown, snapshot, pass.take()).await? {
                return Ok(verdict);
            }
        }
    }

    /// Whether a Check of a request that shows this goes on with a place that it has, so that it takes no number: as far as
    /// is known here, without asking the store.
    pub fn goes_on(&self, policy: &Policy, shown: &Shown) -> bool {
        let Some((room, snapshot)) =
            self.known(&policy.room).and_then(|room| Some((room.clone(), room.snapshot()?)))
        else {
            return false;
        };
        let pass = self.valid_pass(&room, Some(&snapshot), shown);
        let ticket = if pass.is_some() { None } else { self.held(&room, Some(&snapshot), shown) };
        let facts = self.facts(&room, policy, shown, Some(&snapshot), pass.as_ref(), ticket.as_ref());
        match decide(&facts) {
            Step::Admit | Step::Wait(_) | Step::Called => true,
            Step::Enter => facts.known == Some(Known::Called),
            Step::Renew | Step::Arrive | Step::Refuse(_) => false,
        }
    }

    fn facts<'f>(
        &self,
        room: &Room,
        policy: &'f Policy,
        shown: &Shown,
        snapshot: Option<&Snapshot>,
        pass: Option<&'f (Claims, &str)>,
        ticket: Option<&'f Claims>,
    ) -> Facts<'f> {
        let pass =
            pass.map(|(claims, _)| PassShown { claims, may_be_lost: room.may_have_lost(snapshot, claims) });
        Facts {
            policy,
            has_subject: shown.subject.is_some(),
            pass,
            ticket,
            known: ticket.zip(snapshot).map(|(ticket, s)| room.know(s, ticket.place())),
            now: self.now(),
        }
    }

    /// Decides and does the next step; `None`: the store has called the pass's session over.
    async fn step(
        &self,
        room: &Room,
        policy: &Arc<Policy>,
        shown: &Shown,
        snapshot: Option<&Snapshot>,
        pass: Option<(Claims, &str)>,
    ) -> Result<Option<Verdict>, VisitError> {
        let ticket = match pass {
            Some(_) => None,
            None => self.held(room, snapshot, shown),
        };
        let facts = self.facts(room, policy, shown, snapshot, pass.as_ref(), ticket.as_ref());
        let verdict = match (decide(&facts), &pass, &ticket) {
            (Step::Refuse(reason), ..) => Verdict::refuse(Some(&room.name), reason),
            (Step::Admit, Some((claims, token)), _) => self.admit_as_is(room, claims, token),
            // The store has just not answered: asking it again would only take time.
            (Step::Renew, Some((claims, token)), _) if snapshot.is_none() => {
                self.admit_as_is(room, claims, token)
            }
            (Step::Renew, Some((claims, token)), _) => return self.renew(room, claims, token, shown).await,
            (Step::Wait(position), _, Some(ticket)) => {
                let outcome = Outcome::Waiting(ticket.place(), position);
                Self::verdict(room, policy, self.answer(room, outcome, Some(ticket), shown).await?)
            }
            (Step::Called, _, Some(ticket)) if let Some(snapshot) = snapshot => {
                Self::verdict(room, policy, Answer::called(room, snapshot, ticket.place()))
            }
            (Step::Enter, _, Some(ticket)) => match self.present(room, ticket.place()).await? {
                Outcome::Gone(_) => self.newcomer(room, policy, shown).await?,
                outcome => {
                    Self::verdict(room, policy, self.answer(room, outcome, Some(ticket), shown).await?)
                }
            },
            (Step::Admit | Step::Renew | Step::Wait(_) | Step::Called | Step::Enter | Step::Arrive, ..) => {
                self.newcomer(room, policy, shown).await?
            }
        };
        Ok(Some(verdict))
    }

    async fn newcomer(&self, room: &Room, policy: &Policy, shown: &Shown) -> Result<Verdict, VisitError> {
        let newcomer = Newcomer { subject: subject_for(policy, shown), anew: false };
        let outcome = self.arrive(room, newcomer, shown.address).await?;
        Ok(Self::verdict(room, policy, self.answer(room, outcome, None, shown).await?))
    }

    /// Prolongs a session; a store that is out leaves the pass as good as it was. `None`: the session is over.
    async fn renew(
        &self,
        room: &Room,
        claims: &Claims,
        token: &str,
        shown: &Shown,
    ) -> Result<Option<Verdict>, VisitError> {
        let touched = self.touch(room, &[(claims.place(), claims.ends_at())]).await;
        match touched.and_then(one) {
            Ok(Some(until)) => {
                let pass = self.issue_pass(room, claims.place(), until, room.bound(Some(claims), shown))?;
                Ok(Some(admission(room, claims.place(), pass, true)))
            }
            Ok(None) => Ok(None),
            Err(_) => Ok(Some(self.admit_as_is(room, claims, token))),
        }
    }

    fn admit_as_is(&self, room: &Room, claims: &Claims, token: &str) -> Verdict {
        let max_age = claims.exp.saturating_sub(self.now() / 1_000);
        let pass = Issued { token: token.to_owned(), max_age, ends_at: claims.ends_at() };
        admission(room, claims.place(), pass, false)
    }

    fn verdict(room: &Room, policy: &Policy, answer: Answer) -> Verdict {
        let standing = answer.standing;
        match answer.pass {
            Some(pass) if standing.status == Status::Admitted => admission(room, answer.place, pass, true),
            _ => Verdict::Wait(Wait {
                standing,
                status: policy.waiting_status,
                ticket: answer.ticket.map(|ticket| (ticket.token, ticket.max_age)),
            }),
        }
    }
}

fn admission(room: &Room, place: Place, pass: Issued, fresh: bool) -> Verdict {
    Verdict::Admit(Admission {
        room: room.name.clone(),
        place,
        pass: pass.token,
        expires_at: pass.ends_at,
        max_age: pass.max_age,
        fresh,
    })
}

/// What a Check comes to that could not be carried through.
fn failed(policy: &Policy, error: &VisitError) -> Verdict {
    match error {
        VisitError::Store(StoreError::Unavailable(_)) => without_store(policy),
        VisitError::Refused(reason) => Verdict::refuse(Some(&policy.room), *reason),
        other => Verdict::Error { message: other.to_string() },
    }
}
