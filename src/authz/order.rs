//! The gates beside admission, in their fixed order: deny list, limits, identity, then admission, then idempotency. Whoever
//! is refused before admission takes no number.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Gate;
use super::request::Question;
use crate::guard::limiter::{Ask, Verdict as Counted};
use crate::guard::once::Deed;
use crate::room::decision::{Refusal, Verdict};
use crate::room::deny::Asker;
use crate::room::gates::{Gates, Idempotency};
use crate::room::gcra::Quota;
use crate::room::policy::{OnOutage, Policy};
use crate::store::ledger::Holder;
use crate::telemetry::metrics::label::counting::{LimitScope, OnceScope};

/// What says that a request is the same as another one.
const KEY_HEADER: &str = "idempotency-key";
/// How long a repeat is known for one.
const KNOWN_FOR: Duration = Duration::from_mins(5);

/// Limits to be held to.
#[derive(Clone, Copy, Default)]
struct Limits {
    ip: Option<Quota>,
    user: Option<Quota>,
    client: Option<Quota>,
}

impl Gate {
    /// Who turns a request away before it comes to its room; `None`: nobody does. Counted. Waits for an issuer's keys until
    /// `deadline` at most.
    pub(super) async fn turned_away(
        &self,
        question: &Question<'_>,
        room: Option<&Policy>,
        gates: &Gates,
        deadline: Instant,
    ) -> Option<Refusal> {
        if self.is_denied(question, gates) {
            return Some(Refusal::Denied);
        }
        let limits = Limits { ip: gates.limit_ip, user: gates.limit_user, client: gates.limit_client };
        // Before a token is verified, which costs more than looking at an address. A user who is known already is held to
        // all limits at once: what one refuses, no other counts.
        if let Some(reason) = self.beyond_limits(question, room, limits).await {
            return Some(reason);
        }
        let was_known = question.subject(None).is_some();
        let identified = self.identify(question, gates.anonymous, deadline).await;
        // What nobody has stated anything for is none of ours to refuse for want of a user.
        let is_stated = room.is_some() || *gates != Gates::default();
        if let Err(reason) = identified
            && is_stated
        {
            return Some(reason);
        }
        if was_known || question.subject(None).is_none() {
            return None;
        }
        if self.is_denied(question, gates) {
            return Some(Refusal::Denied);
        }
        self.beyond_limits(question, room, Limits { user: gates.limit_user, ..Limits::default() }).await
    }

    /// Whether a request that would be let through has passed before, or lacks what it would be known by.
    ///
    /// Keys are those of a user, else of a place in the room, else of an address: nobody is told of another's. Waits for
    /// the ledger until `deadline` at most.
    pub(super) async fn stopped_as_repeat(
        &self,
        question: &Question<'_>,
        policy: Option<&Policy>,
        gates: &Gates,
        verdict: &Verdict,
        deadline: Instant,
    ) -> Option<Refusal> {
        let writes = ["POST", "PUT", "PATCH", "DELETE"].contains(&question.method());
        let passes = matches!(verdict, Verdict::Admit(_) | Verdict::Bypass(_));
        if gates.idempotency == Idempotency::Off || !writes || !passes {
            return None;
        }
        let mut keys = question.header_values(KEY_HEADER);
        let key = match (keys.next(), keys.next()) {
            (None, _) if gates.idempotency == Idempotency::Accept => return None,
            (Some(key), None) => uuid_of(key),
            _ => None,
        };
        let Some(key) = key else { return Some(Refusal::NoKey) };
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
            holder: question.stream_id().map_or(Holder::UNKNOWN, Holder::of),
            ttl: KNOWN_FOR,
            deadline: Some(deadline),
        };
        match self.guard.once.first(deed).await {
            Ok(true) => None,
            Ok(false) => Some(Refusal::Repeated),
            Err(_) if policy.is_some_and(|policy| policy.on_outage == OnOutage::Open) => None,
            Err(_) => Some(Refusal::Outage),
        }
    }

    /// The first of these limits that a request is beyond, if it is beyond one.
    async fn beyond_limits(
        &self,
        question: &Question<'_>,
        room: Option<&Policy>,
        limits: Limits,
    ) -> Option<Refusal> {
        let Limits { ip, user, client } = limits;
        if [ip, user, client].iter().all(Option::is_none) {
            return None;
        }
        let room = room.map_or("", |policy| policy.room.as_str());
        let asker = self.asker(question);
        let address = asker.address.map(household);
        let by_address = address.as_deref().map(|address| [address]);
        let agent = asker.user_agent.unwrap_or_default();
        let by_client = address.as_deref().map(|address| [address, agent]);
        let by_user = asker.subject.map(|(issuer, name)| [issuer.as_bytes(), name.as_bytes()]);
        let asks = [
            (LimitScope::Ip, ip, by_address.as_ref().map(|who| &who[..])),
            (LimitScope::User, user, by_user.as_ref().map(|who| &who[..])),
            (LimitScope::Client, client, by_client.as_ref().map(|who| &who[..])),
        ];
        // Whoever cannot be told apart by this is held to the others.
        let asks: Vec<_> = asks
            .into_iter()
            .filter_map(|(scope, quota, who)| Some(Ask { scope, room, who: who?, quota: quota? }))
            .collect();
        match self.guard.limiter.spend(&asks).await {
            Counted::Refused(standing) => Some(Refusal::Limited(standing.into())),
            Counted::Allowed(_) | Counted::Unlimited => None,
        }
    }

    fn is_denied(&self, question: &Question<'_>, gates: &Gates) -> bool {
        let may_be = gates.deny && !self.denials.is_empty();
        may_be && self.denials.refuses(&self.asker(question), self.rooms.now())
    }

    /// Whether a request may be turned away, so that it must go the long way. Not counted.
    pub(super) fn is_suspect(&self, question: &Question<'_>, gates: &Gates) -> bool {
        let may_be = gates.deny && !self.denials.is_empty();
        gates.count() || may_be && self.denials.names(&self.asker(question), self.rooms.now())
    }

    fn asker<'q>(&self, question: &'q Question<'_>) -> Asker<'q> {
        Asker {
            address: question.client(self.trusted_hops),
            user_agent: question.user_agent(),
            subject: question.subject(None).map(|subject| (subject.issuer, subject.name)),
        }
    }
}

/// What an address is counted by: an IPv6 network of 64 bits is one household, and has addresses without end.
fn household(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
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
    fn a_household_is_an_address_or_a_network_of_64_bits() {
        let of = |text: &str| household(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), [192, 0, 2, 1]);
        assert_eq!(of("::ffff:192.0.2.1"), [192, 0, 2, 1]);
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }

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
