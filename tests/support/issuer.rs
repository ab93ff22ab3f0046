//! An issuer of users' tokens: keys of each kind, what it publishes of them, and what it signs.

// Each test binary uses a part of it.
#![allow(dead_code)]
// What fails here fails a test.
#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://id.example.com/";
pub(crate) const AUDIENCE: &str = "shop";

/// A key pair under a name. They protect nothing.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) kid: &'static str,
    pub(crate) algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    pub(crate) fn es256(kid: &'static str) -> Self {
        Self::ec(kid, Algorithm::ES256, include_bytes!("../data/identity/es256-1.pem"))
    }

    /// Another pair than that of [`Signer::es256`].
    pub(crate) fn other_es256(kid: &'static str) -> Self {
        Self::ec(kid, Algorithm::ES256, include_bytes!("../data/identity/es256-2.pem"))
    }

    pub(crate) fn es384(kid: &'static str) -> Self {
        Self::ec(kid, Algorithm::ES384, include_bytes!("../data/identity/es384.pem"))
    }

    fn ec(kid: &'static str, algorithm: Algorithm, pem: &[u8]) -> Self {
        Self { kid, algorithm, key: EncodingKey::from_ec_pem(pem).unwrap() }
    }

    pub(crate) fn rsa(kid: &'static str, algorithm: Algorithm) -> Self {
        let pem = include_bytes!("../data/identity/rsa2048.pem");
        Self { kid, algorithm, key: EncodingKey::from_rsa_pem(pem).unwrap() }
    }

    pub(crate) fn ed25519(kid: &'static str) -> Self {
        let pem = include_bytes!("../data/identity/ed25519.pem");
        Self { kid, algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_pem(pem).unwrap() }
    }

    /// Its public half, as it stands in a JWKS.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = self.kid.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// A token with its usual header.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"typ": "JWT", "alg": name(self.algorithm), "kid": self.kid}), claims)
    }

    /// A token with this header, whatever it says, signed with this key's own algorithm.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// The same of texts, which need not be JSON.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

fn name(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

/// What an issuer with these keys publishes.
pub(crate) fn jwks(keys: &[&Signer]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

/// Claims of a user, good from `now` (seconds since the epoch) on for an hour.
pub(crate) fn claims(user: &str, now: u64) -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now, "exp": now + 3_600})
}

/// The same with some claims changed; null removes one.
pub(crate) fn claims_but(user: &str, now: u64, changes: &Value) -> Value {
    let mut claims = claims(user, now);
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}
