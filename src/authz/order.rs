//! The gates before admission, in their fixed order: deny list, limits and identity (`guard::order`); and orders that are
//! known to come to nothing, so that they need not be admitted first. Whoever is refused here takes no number.

use tokio::time::Instant;

use super::Gate;
use super::idempotency::{OrderKey, order_key};
use super::request::Question;
use crate::guard::order::{Caller, Limits, Order};
use crate::room::decision::Refusal;
use crate::room::deny::Asker;
use crate::room::gates::{Anonymous, Gates};
use crate::room::policy::Policy;

/// What a question is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose<'a> {
    /// To let the request through, if it may.
    Pass,
    /// For the answer to a request that was just not let through: nothing passes by it.
    Answer {
        /// A token that was issued for this very request a moment ago and has not reached its visitor yet.
        handed: Option<Handed<'a>>,
    },
}

/// A token on its way from one answer to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed<'a> {
    /// That of a place in line.
    Ticket(&'a str),
    /// That of a place inside, whose request was refused for itself.
    Pass(&'a str),
}

/// A Check's request, before the gates.
struct Asking<'a, 'q> {
    gate: &'a Gate,
    question: &'a Question<'q>,
    anonymous: Anonymous,
    /// What nobody has stated anything for is none of ours to refuse for want of a user.
    is_stated: bool,
    deadline: Instant,
}

impl Caller for Asking<'_, '_> {
    fn asker(&self) -> Asker<'_> {
        self.gate.asker(self.question)
    }

    async fn identify(&self) -> Result<(), Refusal> {
        let identified = self.gate.identify(self.question, self.anonymous, self.deadline).await;
        if self.is_stated { identified } else { Ok(()) }
    }
}

impl Gate {
    /// Who turns a request away before it comes to its room; else the key by which it passes once, if it has one. Counted.
    /// Waits for an issuer's keys and the ledger until `deadline` at most.
    pub(super) async fn turned_away(
        &self,
        question: &Question<'_>,
        room: Option<&Policy>,
        gates: &Gates,
        purpose: Purpose<'_>,
        deadline: Instant,
    ) -> Result<Option<OrderKey>, Refusal> {
        let is_stated = room.is_some() || *gates != Gates::default();
        let asking = Asking { gate: self, question, anonymous: gates.anonymous, is_stated, deadline };
        let limits =
            Limits { ip: gates.limit_ip, user: gates.limit_user, client: gates.limit_client, api: None };
        let is_counted = purpose == Purpose::Pass;
        let order = Order {
            guard: &self.guard,
            denials: gates.deny.then_some(&self.denials),
            room: room.map_or("", |policy| policy.room.as_str()),
            limits: if is_counted { limits } else { Limits::default() },
            now: self.rooms.now(),
        };
        if let Some(reason) = order.turns_away(&asking).await {
            return Err(reason);
        }
        // Without a key it would come to nothing later; a place in line would be wasted on it, as on a repeat.
        let key = order_key(question, gates)?;
        if let (Some(key), Some(policy)) = (key, room)
            && self.is_known_repeat(question, policy, key, deadline).await
        {
            return Err(Refusal::Repeated);
        }
        // The question before this one was counted. It is not believed that there was one where a number might be taken.
        if !is_counted && !room.is_some_and(|policy| self.takes_no_number(question, policy)) {
            let limited = Order { limits, ..order }.limited(&asking.asker()).await;
            limited.map_or(Ok(()), Err)?;
        }
        Ok(key)
    }

    /// Whether a request goes on with the place that it shows, as far as is known here.
    pub(super) fn takes_no_number(&self, question: &Question<'_>, policy: &Policy) -> bool {
        self.rooms.goes_on(policy, &self.shown(question, policy))
    }

    /// Whether a request may be turned away, so that it must go the long way. Not counted.
    pub(super) fn is_suspect(&self, question: &Question<'_>, gates: &Gates) -> bool {
        let may_be = gates.deny && !self.denials.is_empty();
        gates.count() || may_be && self.denials.names(&self.asker(question), self.rooms.now())
    }

    pub(super) fn asker<'q>(&self, question: &'q Question<'_>) -> Asker<'q> {
        Asker {
            address: question.client(&self.proxies),
            user_agent: question.user_agent(),
            subject: question.subject(None).map(|subject| (subject.issuer, subject.name)),
        }
    }
}
