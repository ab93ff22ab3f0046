//! Metadata: the room's policy from the route, and the verified user from `jwt_authn`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::identity::user::is_name;
use crate::pb::envoy::config::core::v3::Metadata;
use crate::room::policy::Mistake;

/// The namespace of route metadata that holds a room's policy.
const ROOM_NAMESPACE: &str = "anteroom";

/// The namespace in which Envoy's `jwt_authn` filter leaves verified payloads.
const JWT_NAMESPACE: &str = "envoy.filters.http.jwt_authn";

/// The longest `iss` or `sub` taken for one, in bytes; an ID token's `sub` has at most 255.
const MAX_CLAIM_LEN: usize = 1024;

/// A verified user. The name alone is not enough: it is unique only among its issuer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// `iss`; empty where the token names none.
    pub issuer: &'a str,
    /// `sub`, never empty.
    pub name: &'a str,
}

pub(super) fn is_stated(context: Option<&Metadata>) -> bool {
    namespace(context, ROOM_NAMESPACE).is_some_and(|room| !room.fields.is_empty())
}

pub(super) fn room_pairs(context: Option<&Metadata>) -> Result<Vec<(&str, Cow<'_, str>)>, Vec<Mistake>> {
    let Some(room) = namespace(context, ROOM_NAMESPACE) else { return Ok(Vec::new()) };
    let (mut pairs, mut mistakes) = (Vec::new(), Vec::new());
    for (key, value) in &room.fields {
        match as_text(value) {
            Ok(text) => pairs.push((key.as_str(), text)),
            Err(found) => mistakes.push(Mistake {
                key: key.chars().take(64).collect(),
                problem: format!("is {found} in the route's metadata"),
                remedy: "write a text, a number, true or false".into(),
            }),
        }
    }
    if mistakes.is_empty() { Ok(pairs) } else { Err(mistakes) }
}

pub(super) fn subject<'a>(context: Option<&'a Metadata>, payload_key: Option<&str>) -> Option<Subject<'a>> {
    let payloads = &namespace(context, JWT_NAMESPACE)?.fields;
    match payload_key {
        Some(key) => payload_subject(payloads.get(key)?),
        None => payloads.values().find_map(payload_subject),
    }
}

fn namespace<'a>(context: Option<&'a Metadata>, name: &str) -> Option<&'a Struct> {
    context?.filter_metadata.get(name)
}

fn payload_subject(payload: &Value) -> Option<Subject<'_>> {
    let Some(Kind::StructValue(payload)) = &payload.kind else { return None };
    // As where tokens are verified here: what the backend could not be told is nobody.
    let name = claim(&payload.fields, "sub").filter(|name| is_name(name))?;
    // An issuer that is there but cannot be taken must not make two users one.
    let issuer = match payload.fields.get("iss") {
        Some(_) => claim(&payload.fields, "iss")?,
        None => "",
    };
    Some(Subject { issuer, name })
}

fn claim<'a>(claims: &'a BTreeMap<String, Value>, name: &str) -> Option<&'a str> {
    match &claims.get(name)?.kind {
        Some(Kind::StringValue(text)) if text.len() <= MAX_CLAIM_LEN => Some(text),
        _ => None,
    }
}

/// A value as the text it would be in `context_extensions`, or what it is instead.
fn as_text(value: &Value) -> Result<Cow<'_, str>, &'static str> {
    match &value.kind {
        Some(Kind::StringValue(text)) => Ok(Cow::Borrowed(text)),
        // Whole numbers come without a fraction: 5, not 5.0.
        Some(Kind::NumberValue(number)) => Ok(Cow::Owned(number.to_string())),
        Some(Kind::BoolValue(truth)) => Ok(Cow::Borrowed(if *truth { "true" } else { "false" })),
        Some(Kind::ListValue(_)) => Err("a list"),
        Some(Kind::StructValue(_)) => Err("a nested value"),
        Some(Kind::NullValue(_)) | None => Err("null"),
    }
}
