//! What access logs and later filters learn of a verdict, under `envoy.filters.http.ext_authz`. Never a token.

use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::room::decision::{Bypass, Refusal, Verdict};

/// The verdict as dynamic metadata: `verdict`, and where known `reason`, `room`, `number`, `position`, `waiting`.
pub(super) fn of(verdict: &Verdict) -> Struct {
    match verdict {
        Verdict::Bypass(reason) => fields("bypass", [("reason", text(bypass_reason(*reason)))]),
        Verdict::Admit(admission) => fields(
            "admit",
            [("room", text(admission.room.as_str())), ("number", number(admission.place.number))],
        ),
        Verdict::Wait(wait) => fields(
            "wait",
            [
                ("room", text(wait.standing.room.as_str())),
                ("number", number(wait.standing.number)),
                ("position", number(wait.standing.position)),
                ("waiting", number(wait.standing.waiting)),
            ],
        ),
        Verdict::Hold { room, .. } => fields("hold", [("room", text(room.as_str()))]),
        Verdict::Refuse { room, reason } => {
            fields("refuse", [("room", text(room.as_str())), ("reason", text(refusal_reason(*reason)))])
        }
        Verdict::Error { .. } => fields("error", []),
    }
}

const fn bypass_reason(reason: Bypass) -> &'static str {
    match reason {
        Bypass::NoRoom => "no_room",
        Bypass::Off => "off",
        Bypass::Preflight => "preflight",
        Bypass::Outage => "outage",
    }
}

const fn refusal_reason(reason: Refusal) -> &'static str {
    match reason {
        Refusal::NoSubject => "no_subject",
        Refusal::Outage => "outage",
    }
}

fn fields<const N: usize>(verdict: &str, others: [(&str, Value); N]) -> Struct {
    let all = std::iter::once(("verdict", text(verdict))).chain(others);
    Struct { fields: all.map(|(key, value)| (key.to_owned(), value)).collect() }
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

/// A count; a `Struct` knows no other numbers than floats, exact up to 2^53.
fn number(value: u64) -> Value {
    Value { kind: Some(Kind::NumberValue(value as f64)) }
}
