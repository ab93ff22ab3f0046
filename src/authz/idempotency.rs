//! Idempotency: a request that would change something at the backend passes once.

use std::time::Duration;

use tokio::time::Instant;

use super::Gate;
use super::order::Purpose;
use super::request::Question;
use crate::guard::once::Deed;
use crate::room::decision::{Refusal, Verdict};
use crate::room::gates::{Gates, Idempotency};
use crate::room::policy::{OnOutage, Policy};
use crate::routes::path::normalise_host;
use crate::store::ledger::Holder;
use crate::telemetry::metrics::label::counting::OnceScope;

/// What says that a request is the same as another one.
const KEY_HEADER: &str = "idempotency-key";
/// What changes something at the backend.
const WRITING: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];
/// How long a repeat is known for one.
const KNOWN_FOR: Duration = Duration::from_mins(5);

/// The UUID by which a request is known again.
pub(super) type OrderKey = [u8; 16];

/// What is asked of an order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Whether another has passed; this one does not.
    Look,
    /// That it is the one to pass.
    Pass,
}

/// The key of a request; `None`: it needs none, and has none. The error: it has none that could be read, where it needs
/// one.
pub(super) fn order_key(question: &Question<'_>, gates: &Gates) -> Result<Option<OrderKey>, Refusal> {
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

impl Gate {
    /// Whether a user's request is known for a repeat before its room is asked, which might give it a number for nothing.
    /// Who goes on with a place takes none, and need not wait for this; and without a user a newcomer has no keys yet.
    ///
    /// While the ledger is out nobody is stopped here: admission and the claim say what comes of it.
    pub(super) async fn is_known_repeat(
        &self,
        question: &Question<'_>,
        policy: &Policy,
        key: OrderKey,
        deadline: Instant,
    ) -> bool {
        let Some(whose) = self.user_of(question) else { return false };
        if self.takes_no_number(question, policy) {
            return false;
        }
        let stopped = self.stopped(question, Some(policy), key, &whose, Wish::Look, deadline).await;
        stopped == Some(Refusal::Repeated)
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
        key: OrderKey,
        verdict: &Verdict,
        purpose: Purpose<'_>,
        deadline: Instant,
    ) -> Option<Refusal> {
        let whose = match (self.user_of(question), verdict) {
            (Some(user), Verdict::Admit(_) | Verdict::Bypass(_)) => user,
            (None, Verdict::Admit(admission)) => {
                format!("place {}:{}", admission.place.generation, admission.place.number)
            }
            (None, Verdict::Bypass(_)) => format!("address {:?}", self.asker(question).address),
            // It does not pass.
            _ => return None,
        };
        let wish = if purpose == Purpose::Pass { Wish::Pass } else { Wish::Look };
        self.stopped(question, policy, key, &whose, wish, deadline).await
    }

    fn user_of(&self, question: &Question<'_>) -> Option<String> {
        let (issuer, name) = self.asker(question).subject?;
        Some(format!("user {}:{issuer}{name}", issuer.len()))
    }

    async fn stopped(
        &self,
        question: &Question<'_>,
        policy: Option<&Policy>,
        key: OrderKey,
        whose: &str,
        wish: Wish,
        deadline: Instant,
    ) -> Option<Refusal> {
        let room = policy.map_or("", |policy| policy.room.as_str());
        let path = question.path().unwrap_or_default();
        // One host, however it is written: another library may say the port.
        let host = normalise_host(question.authority());
        let parts = [room, whose, question.method(), &host, path].map(str::as_bytes);
        let parts = [&parts[..], &[&key]].concat();
        let deed = Deed {
            scope: OnceScope::Idempotency,
            key: &parts,
            // Envoy asks again where an answer was lost.
            holder: question.stream_id().map_or_else(Holder::unique, Holder::of),
            ttl: KNOWN_FOR,
            deadline: Some(deadline),
        };
        let once = &self.guard.once;
        let repeated = match wish {
            Wish::Look => once.is_done(deed).await,
            Wish::Pass => once.first(deed).await.map(|first| !first),
        };
        match repeated {
            Ok(repeated) => repeated.then_some(Refusal::Repeated),
            Err(_) if policy.is_some_and(|policy| policy.on_outage == OnOutage::Open) => None,
            Err(_) => {
                if wish == Wish::Pass {
                    once.take_back(deed);
                }
                Some(Refusal::Outage)
            }
        }
    }
}

/// The UUID of an `Idempotency-Key`, with or without quotes; `None`: it is none.
fn uuid_of(key: &[u8]) -> Option<OrderKey> {
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
