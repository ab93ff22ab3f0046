//! Whether a token is what it says it is: form, issuer, key, signature, claims. Pure; nothing of a token is ever shown.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::jwks::Key;
use super::settings::{IssuerSettings, MAX_LEEWAY};
use super::user::User;
use crate::room::policy::Millis;
use crate::telemetry::metrics::identity::IdentityLabel;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 << 10;
/// The most audiences looked at in one token.
const MAX_AUDIENCES: usize = 64;

/// Why a token is refused. Says nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Over [`MAX_TOKEN`].
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// No compact JWS, a claim missing, written twice or of the wrong type, or several tokens.
    #[error("the token is malformed")]
    Malformed,
    /// Its header brings keys along, or wants something understood that is not.
    #[error("the token's header names keys of its own, or is not that of a JWT")]
    Header,
    /// Of nobody who is configured.
    #[error("the token's issuer is not known here")]
    UnknownIssuer,
    /// Not what the issuer signs with.
    #[error("the token's algorithm is not one of its issuer's")]
    Algorithm,
    /// The issuer has no such key.
    #[error("the token was signed with an unknown key")]
    UnknownKey,
    /// Forged or cut.
    #[error("the token's signature does not fit")]
    BadSignature,
    /// Meant for somebody else.
    #[error("the token is meant for another audience")]
    OtherAudience,
    /// Over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
}

impl From<Refusal> for IdentityLabel {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLong => Self::TooLong,
            Refusal::Malformed => Self::Malformed,
            Refusal::Header => Self::Header,
            Refusal::UnknownIssuer => Self::UnknownIssuer,
            Refusal::Algorithm => Self::Algorithm,
            Refusal::UnknownKey => Self::UnknownKey,
            Refusal::BadSignature => Self::BadSignature,
            Refusal::OtherAudience => Self::OtherAudience,
            Refusal::Expired => Self::Expired,
            Refusal::NotYet => Self::NotYet,
        }
    }
}

/// What a token says of itself, before anything is proved.
#[derive(Debug)]
pub struct Outline {
    /// The algorithm that it claims.
    pub algorithm: Algorithm,
    /// The key that it claims.
    pub kid: Option<String>,
    /// The issuer that it claims.
    pub issuer: String,
}

impl Outline {
    /// Reads it. Tokens that bring keys along, or that are no JWTs for users, end here.
    pub fn read(token: &str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::TooLong);
        }
        let header = decode_header(token).map_err(|_| Refusal::Malformed)?;
        if brings_keys(&header) || !is_for_users(header.typ.as_deref()) {
            return Err(Refusal::Header);
        }
        let claimed: Claims =
            jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| Refusal::Malformed)?;
        Ok(Self { algorithm: header.alg, kid: header.kid, issuer: claimed.issuer })
    }
}

fn brings_keys(header: &Header) -> bool {
    header.jwk.is_some()
        || header.jku.is_some()
        || header.x5u.is_some()
        || header.x5c.is_some()
        || header.crit.is_some()
}

/// Issuers sign more than users' tokens with the same keys: that of a log-out must log nobody in (RFC 8725, 3.11).
fn is_for_users(typ: Option<&str>) -> bool {
    typ.is_none_or(|typ| {
        let typ = typ.to_ascii_lowercase();
        ["jwt", "at+jwt"].contains(&typ.strip_prefix("application/").unwrap_or(&typ))
    })
}

/// Checks a token of this issuer, said to be signed by this key with this algorithm, which is one of the key's.
pub fn verify(
    token: &str,
    key: &Key,
    algorithm: Algorithm,
    issuer: &IssuerSettings,
    now: Millis,
) -> Result<User, Refusal> {
    // Signature and form only: the rest is checked below, as the time comes in as an argument.
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let verified = decode::<Claims>(token, key.decoding(), &validation);
    let claims = verified.map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Refusal::BadSignature,
        _ => Refusal::Malformed,
    })?;
    claims.claims.user(issuer, now)
}

/// The claims that matter, read strictly: none twice, each of its own type.
#[derive(Debug)]
struct Claims {
    issuer: String,
    subject: Option<String>,
    audiences: Vec<String>,
    /// Seconds since the epoch.
    expires: Option<f64>,
    not_before: Option<f64>,
    issued: Option<f64>,
    /// All others that are texts or numbers of one value, for the kind of user.
    others: Vec<(String, Value)>,
}

impl Claims {
    fn user(self, issuer: &IssuerSettings, now: Millis) -> Result<User, Refusal> {
        let leeway = issuer.leeway.as_secs_f64();
        // Milliseconds of some 10^12 are exact.
        let now = now as f64 / 1_000.0;
        if self.issuer != issuer.issuer {
            return Err(Refusal::UnknownIssuer);
        }
        if !self.audiences.iter().any(|audience| issuer.audiences.contains(audience)) {
            return Err(Refusal::OtherAudience);
        }
        let ends = self.expires.ok_or(Refusal::Malformed)? + leeway;
        if ends <= now {
            return Err(Refusal::Expired);
        }
        let early = self.not_before.is_some_and(|from| from - leeway > now);
        if early || self.issued.is_some_and(|issued| issued - MAX_LEEWAY.as_secs_f64() > now) {
            return Err(Refusal::NotYet);
        }
        let kind = match self.others.into_iter().find(|(name, _)| *name == issuer.type_claim) {
            None | Some((_, Value::Null)) => None,
            Some((_, Value::String(kind))) => Some(kind),
            // To go on without it could make more of a user than they are.
            Some(_) => return Err(Refusal::Malformed),
        };
        let name = self.subject.ok_or(Refusal::Malformed)?;
        User::new(&issuer.issuer, name, kind, millis(ends)).ok_or(Refusal::Malformed)
    }
}

/// Seconds as whole milliseconds; what lies beyond any time there is becomes the last one.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, and that is meant
fn millis(seconds: f64) -> Millis {
    (seconds * 1_000.0) as Millis
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Strictly)
    }
}

struct Strictly;

impl<'de> Visitor<'de> for Strictly {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut seen: HashSet<String> = HashSet::new();
        let mut issuer = None;
        let mut claims = Claims {
            issuer: String::new(),
            subject: None,
            audiences: Vec::new(),
            expires: None,
            not_before: None,
            issued: None,
            others: Vec::new(),
        };
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            // Of a claim written twice one reader takes the first and another the last.
            if !seen.insert(name.clone().into_owned()) {
                return Err(de::Error::custom("a claim is written twice"));
            }
            match &*name {
                "iss" => issuer = Some(map.next_value()?),
                "sub" => claims.subject = Some(map.next_value()?),
                "aud" => claims.audiences = map.next_value::<Audiences>()?.0,
                "exp" => claims.expires = Some(map.next_value()?),
                "nbf" => claims.not_before = Some(map.next_value()?),
                "iat" => claims.issued = Some(map.next_value()?),
                _ => claims.others.push((name.into_owned(), map.next_value()?)),
            }
        }
        claims.issuer = issuer.ok_or_else(|| de::Error::missing_field("iss"))?;
        Ok(claims)
    }
}

/// One audience or several.
struct Audiences(Vec<String>);

impl<'de> Deserialize<'de> for Audiences {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Audiences;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an audience or a list of them")
            }

            fn visit_str<E: de::Error>(self, one: &str) -> Result<Audiences, E> {
                Ok(Audiences(vec![one.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Audiences, A::Error> {
                let mut several = Vec::new();
                while several.len() < MAX_AUDIENCES
                    && let Some(one) = list.next_element()?
                {
                    several.push(one);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Audiences(several))
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}

#[cfg(test)]
mod tests;
