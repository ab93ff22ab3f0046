//! What access logs and later filters learn of a verdict, under `envoy.filters.http.ext_authz`. Never a token.

use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::pb::wire::{put_double, put_message, put_text};
use crate::room::decision::{Bypass, Refusal, Verdict};
use crate::room::name::RoomName;
use crate::room::standing::Place;

/// A value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Noted<'a> {
    Text(&'a str),
    /// A count; a `Struct` knows no other numbers than floats, exact up to 2^53.
    Count(u64),
}

use Noted::{Count, Text};

/// A key and its value.
type Field<'a> = (&'static str, Noted<'a>);

/// Somebody let in.
pub(super) fn admitted(room: &RoomName, place: Place) -> [Field<'_>; 3] {
    [("number", Count(place.number)), ("room", Text(room.as_str())), ("verdict", Text("admit"))]
}

/// A request that needs no room.
pub(super) fn bypassed(why: Bypass) -> [Field<'static>; 2] {
    [("reason", Text(bypass_reason(why))), ("verdict", Text("bypass"))]
}

/// The verdict as dynamic metadata: `verdict`, and where known `reason`, `room`, `number`, `position`, `waiting`.
pub(super) fn of(verdict: &Verdict) -> Struct {
    match verdict {
        Verdict::Bypass(reason) => fields(&bypassed(*reason)),
        Verdict::Admit(admission) => fields(&admitted(&admission.room, admission.place)),
        Verdict::Wait(wait) => fields(&[
            ("number", Count(wait.standing.number)),
            ("position", Count(wait.standing.position)),
            ("room", Text(wait.standing.room.as_str())),
            ("verdict", Text("wait")),
            ("waiting", Count(wait.standing.waiting)),
        ]),
        Verdict::Hold { room, .. } => fields(&[("room", Text(room.as_str())), ("verdict", Text("hold"))]),
        Verdict::Refuse { room, reason, .. } => {
            let why = [("reason", Text(refusal_reason(*reason))), ("verdict", Text("refuse"))];
            let room = room.iter().map(|room| ("room", Text(room.as_str())));
            fields(&why.into_iter().chain(room).collect::<Vec<_>>())
        }
        Verdict::Error { .. } => fields(&[("verdict", Text("error"))]),
    }
}

/// Writes the fields of a `Struct`.
pub(super) fn put(message: &mut Vec<u8>, fields: &[Field<'_>]) {
    for (key, noted) in fields {
        put_message(message, 1, |entry| {
            put_text(entry, 1, key);
            put_message(entry, 2, |value| match noted {
                Text(text) => put_text(value, 3, text),
                Count(count) => put_double(value, 2, *count as f64),
            });
        });
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
        Refusal::Denied => "denied",
        Refusal::BadToken => "bad_token",
        Refusal::NoSubject => "no_subject",
        Refusal::Limited(_) => "limited",
        Refusal::NoKey => "no_key",
        Refusal::Repeated => "repeated",
        Refusal::NoUser => "no_user",
        Refusal::Outage => "outage",
        Refusal::UserUnknown => "user_unknown",
    }
}

fn fields(fields: &[Field<'_>]) -> Struct {
    let value = |noted: Noted<'_>| match noted {
        Text(text) => Kind::StringValue(text.to_owned()),
        Count(count) => Kind::NumberValue(count as f64),
    };
    let each = |(key, noted): &Field<'_>| ((*key).to_owned(), Value { kind: Some(value(*noted)) });
    Struct { fields: fields.iter().map(each).collect() }
}
