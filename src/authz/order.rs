//! The gates beside admission, in their fixed order: deny list, limits and identity (`guard::order`), then admission, then
//! idempotency. Whoever is refused before admission takes no number.

use std::time::Duration;

use tokio::time::Instant;

use super::Gate;
use super::request::Question;
use crate::guard::once::Deed;
use crate::guard::order::{Caller, Limits, Order};
use crate::room::decision::{Refusal, Verdict};
use crate::room::deny::Asker;
use crate::room::gates::{Anonymous, Gates, Idempotency};
use crate::room::policy::{OnOutage, Policy};
use crate::room::token::Kind;
use crate::store::ledger::Holder;
use crate::telemetry::metrics::label::counting::OnceScope;

/// What says that a request is the same as another one.
const KEY_HEADER: &str = "idempotency-key";
/// What changes something at the backend.
const WRITING: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];
/// How long a repeat is known for one.
const KNOWN_FOR: Duration = Duration::from_mins(5);
/// How long a key is taken by who only looks at it: as short as a ledger can.
const LOOKED_AT_FOR: Duration = Duration::from_millis(1);

/// What a question is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose<'a> {
    /// To let the request through, if it may.
    Pass,
    /// For the answer to a request that was just not let through: nothing passes by it.
    Answer {
        /// A ticket that was issued for this very request a moment ago and has not reached its visitor yet.
        handed: Option<&'a str>,
    },
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
    /// Who turns a request away before it comes to its room; `None`: nobody does. Counted. Waits for an issuer's keys until
    /// `deadline` at most.
    pub(super) async fn turned_away(
        &self,
        question: &Question<'_>,
        room: Option<&Policy>,
        gates: &Gates,
        purpose: Purpose<'_>,
        deadline: Instant,
    ) -> Option<Refusal> {
        let is_stated = room.is_some() || *gates != Gates::default();
        let asking = Asking { gate: self, question, anonymous: gates.anonymous, is_stated, deadline };
        let counted_before =
            purpose != Purpose::Pass && room.is_some_and(|policy| self.is_in_line(question, policy));
        let limits = if counted_before {
            Limits::default()
        } else {
            Limits { ip: gates.limit_ip, user: gates.limit_user, client: gates.limit_client, api: None }
        };
        let order = Order {
            guard: &self.guard,
            denials: gates.deny.then_some(&self.denials),
            room: room.map_or("", |policy| policy.room.as_str()),
            limits,
            now: self.rooms.now(),
        };
        if let Some(reason) = order.turns_away(&asking).await {
            return Some(reason);
        }
        // Without a key it would come to nothing later; a place in line would be wasted on it.
        order_key(question, gates).err()
    }

    /// Whether a request shows a ticket, and no pass: it takes no number, and no way in.
    fn is_in_line(&self, question: &Question<'_>, policy: &Policy) -> bool {
        let (shown, keys, now) = (self.shown(question, policy), self.rooms.keys(), self.rooms.now());
        let holds = |kind, tokens: &[String]| {
            tokens.iter().any(|token| keys.verify(kind, &policy.room, token, now).is_ok())
        };
        holds(Kind::Ticket, &shown.tickets) && !holds(Kind::Pass, &shown.passes)
    }

    /// Whether a request that would be let through has passed before. If not, it has from now on, unless it was asked for
    /// the answer alone.
    ///
    /// Keys are those of a user, else of a place in the room, else of an address: nobody is told of another's. Waits for
    /// the ledger until `deadline` at most.
    pub(super) async fn stopped_as_repeat(
        &self,
        question: &Question<'_>,
        policy: Option<&Policy>,
        gates: &Gates,
        verdict: &Verdict,
        purpose: Purpose<'_>,
        deadline: Instant,
    ) -> Option<Refusal> {
        let passes = matches!(verdict, Verdict::Admit(_) | Verdict::Bypass(_));
        let key = match order_key(question, gates) {
            Ok(Some(key)) if passes => key,
            Err(reason) if passes => return Some(reason),
            _ => return None,
        };
        let asker = self.asker(question);
        let (issuer, name) = asker.subject.unwrap_or_default();
        let whose = match (asker.subject, verdict) {
            (Some(_), _) => format!("user {}:{issuer}{name}", issuer.len()),
            (None, Verdict::Admit(admission)) => {
                format!("place {}:{}", admission.place.generation, admission.place.number)
            }
            _ => format!("address {:?}", asker.address),
        };
        let room = policy.map_or("", |policy| policy.room.as_str());
        let path = question.path().unwrap_or_default();
        let parts = [room, &whose, question.method(), question.authority(), path].map(str::as_bytes);
        let parts = [&parts[..], &[&key]].concat();
        let deed = Deed {
            scope: OnceScope::Idempotency,
            key: &parts,
            // Envoy asks again where an answer was lost.
            holder: question.stream_id().map_or_else(Holder::unique, Holder::of),
            ttl: if purpose == Purpose::Pass { KNOWN_FOR } else { LOOKED_AT_FOR },
            deadline: Some(deadline),
        };
        match self.guard.once.first(deed).await {
            Ok(true) => None,
            Ok(false) => Some(Refusal::Repeated),
            Err(_) if policy.is_some_and(|policy| policy.on_outage == OnOutage::Open) => None,
            Err(_) => {
                self.guard.once.take_back(deed);
                Some(Refusal::Outage)
            }
        }
    }

    /// Whether a request may be turned away, so that it must go the long way. Not counted.
    pub(super) fn is_suspect(&self, question: &Question<'_>, gates: &Gates) -> bool {
        let may_be = gates.deny && !self.denials.is_empty();
        gates.count() || may_be && self.denials.names(&self.asker(question), self.rooms.now())
    }

    fn asker<'q>(&self, question: &'q Question<'_>) -> Asker<'q> {
        Asker {
            address: question.client(&self.proxies),
            user_agent: question.user_agent(),
            subject: question.subject(None).map(|subject| (subject.issuer, subject.name)),
        }
    }
}

/// The key by which a request is known again; `None`: it needs none, and has none. The error: it has none that could be
/// read, where it needs one.
fn order_key(question: &Question<'_>, gates: &Gates) -> Result<Option<[u8; 16]>, Refusal> {
    let mut methods = question.methods();
    let writes = methods.any(|method| WRITING.iter().any(|writing| writing.eq_ignore_ascii_case(method)));
    if gates.idempotency == Idempotency::Off || !writes {
        return Ok(None);
    }
    let mut keys = question.header_values(KEY_HEADER);
    match (keys.next(), keys.next()) {
        (None, _) if gates.idempotency == Idempotency::Accept => Ok(None),
        (Some(key), None) => uuid_of(key).map(Some).ok_or(Refusal::NoKey),
        _ => Err(Refusal::NoKey),
    }
}

/// The UUID of an `Idempotency-Key`, with or without quotes; `None`: it is none.
fn uuid_of(key: &[u8]) -> Option<[u8; 16]> {
    let key = std::str::from_utf8(key).ok()?.trim();
    let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    // Hyphenated, as everybody writes it; the library would take others as well.
    let is_plain = key.len() == 36;
    uuid::Uuid::try_parse(key).ok().filter(|_| is_plain).map(uuid::Uuid::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_uuid() {
        let key = "8e03978e-40d5-43dd-bc93-6894a57f9324";
        let known = uuid_of(key.as_bytes());
        assert!(known.is_some());
        for same in [format!("\"{key}\""), key.to_uppercase(), format!(" {key} ")] {
            assert_eq!(uuid_of(same.as_bytes()), known, "{same}");
        }
        for bad in [
            "",
            "1",
            "8e03978e40d543ddbc936894a57f9324",
            "{8e03978e-40d5-43dd-bc93-6894a57f9324}",
            "8e03978e-40d5-43dd-bc93-6894a57f932g",
            "8e03978e-40d5-43dd-bc93-6894a57f9324, x",
        ] {
            assert_eq!(uuid_of(bad.as_bytes()), None, "{bad}");
        }
    }
}
