//! Signed tokens: the keys, and what ticket and pass have in common. Compact JWS by `jsonwebtoken`.

use std::collections::HashMap;
use std::fmt;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::binding::Bound;
use super::name::RoomName;
use super::policy::Millis;
use super::standing::Place;

/// The longest token that is looked at, in bytes; ours are well under 512.
pub const MAX_TOKEN_LEN: usize = 2_048;

/// Numbers and generations stay below this: exact in the doubles of Lua and JSON alike.
pub const MAX_EXACT: u64 = 1 << 53;

/// Ticket or pass: the token's `typ`, so that one can never stand for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Proves a number.
    Ticket,
    /// Proves a session.
    Pass,
}

impl Kind {
    /// The `typ` of the token's header, also the word for it in cookies, headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Pass => "pass",
        }
    }
}

/// What a token says. All fields but the last two are required.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Which room.
    pub aud: RoomName,
    /// The place's generation.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// The place's number.
    #[serde(rename = "num")]
    pub number: u64,
    /// When it was issued, seconds since the epoch.
    pub iat: u64,
    /// When it ends, seconds since the epoch. There is no leeway: a pass never outlives its slot.
    pub exp: u64,
    /// In a ticket: the position told when it was issued. A replica that has not heard of the number yet tells none
    /// that is higher.
    #[serde(rename = "pos", default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// To whom it is bound, where the room's `bind` said so when it was issued.
    #[serde(rename = "bnd", default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
}

impl Claims {
    /// The place it proves.
    pub fn place(&self) -> Place {
        Place { generation: self.generation, number: self.number }
    }

    /// When it ends, in milliseconds since the epoch.
    pub fn ends_at(&self) -> Millis {
        self.exp.saturating_mul(1_000)
    }

    /// When it was issued, in milliseconds since the epoch.
    pub fn issued_at(&self) -> Millis {
        self.iat.saturating_mul(1_000)
    }
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN_LEN`].
    #[error("the token is too long")]
    TooLong,
    /// Not a compact JWS, or a claim is missing or of the wrong type.
    #[error("the token is malformed")]
    Malformed,
    /// A ticket where a pass belongs, or the other way round.
    #[error("the token is of the wrong kind")]
    WrongKind,
    /// No key of that `kid` here.
    #[error("the token was signed with an unknown key")]
    UnknownKey,
    /// Forged, cut, or of another algorithm than the key's.
    #[error("the token's signature does not fit")]
    BadSignature,
    /// Issued for another room.
    #[error("the token belongs to another room")]
    OtherRoom,
    /// Over.
    #[error("the token has expired")]
    Expired,
    /// Bound to somebody else.
    #[error("the token was given to somebody else")]
    Foreign,
}

/// One signing key as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, the token's `kid`: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub kid: String,
    /// The key itself.
    pub material: Material,
}

/// The key itself; one algorithm each. Its `Debug` shows only the kind.
#[derive(Clone, PartialEq, Eq)]
pub enum Material {
    /// HS256: a shared secret of at least 32 bytes.
    Hs256(Vec<u8>),
    /// EdDSA (Ed25519): a private key, PKCS #8 in PEM. Its public half is served as JWKS.
    EdDsa(String),
    /// EdDSA, verification only: a public key, SPKI in PEM.
    EdDsaPublic(String),
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hs256(_) => "Hs256(redacted)",
            Self::EdDsa(_) => "EdDsa(redacted)",
            Self::EdDsaPublic(_) => "EdDsaPublic",
        })
    }
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The ring has no key, or its first cannot sign.
    #[error("the first key must be one that signs: HS256 with a secret, or EdDSA with a private_key")]
    NoSigner,
    /// The material does not fit the algorithm.
    #[error("key {kid:?} cannot be read: {why}")]
    Unreadable {
        /// Which key.
        kid: String,
        /// What `jsonwebtoken` says; free of key material.
        why: jsonwebtoken::errors::Error,
    },
}

/// Tells sets of keys apart: a digest of all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(keys: &[Key]) -> Self {
        let mut digest = Sha256::new();
        for Key { kid, material } in keys {
            let (kind, bytes) = match material {
                Material::Hs256(secret) => (0, secret.as_slice()),
                Material::EdDsa(pem) => (1, pem.as_bytes()),
                Material::EdDsaPublic(pem) => (2, pem.as_bytes()),
            };
            for part in [kid.as_bytes(), &[kind], bytes] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
        Self(digest.finalize().into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(redacted)")
    }
}

/// The keys: several verify, the first signs.
pub struct KeyRing {
    fingerprint: Fingerprint,
    kid: String,
    algorithm: Algorithm,
    signer: EncodingKey,
    verifiers: HashMap<String, (Validation, DecodingKey)>,
    published: JwkSet,
}

impl KeyRing {
    /// Takes the keys in order; the first signs.
    pub fn new(keys: &[Key]) -> Result<Self, KeyError> {
        let mut signing = None;
        let mut verifiers = HashMap::new();
        let mut published = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let loaded = Loaded::new(&key.material)
                .map_err(|why| KeyError::Unreadable { kid: key.kid.clone(), why })?;
            if let Some(mut jwk) = loaded.published {
                jwk.common.key_id = Some(key.kid.clone());
                published.push(jwk);
            }
            if index == 0 {
                signing = loaded.signer.map(|signer| (key.kid.clone(), loaded.algorithm, signer));
            }
            verifiers.insert(key.kid.clone(), (validation(loaded.algorithm), loaded.verifier));
        }
        let (kid, algorithm, signer) = signing.ok_or(KeyError::NoSigner)?;
        let (fingerprint, published) = (Fingerprint::of(keys), JwkSet { keys: published });
        Ok(Self { fingerprint, kid, algorithm, signer, verifiers, published })
    }

    /// Which keys these are.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The public keys that backends may verify passes with (EdDSA only; shared secrets are never shown).
    pub fn published(&self) -> &JwkSet {
        &self.published
    }

    /// Signs a token.
    pub fn sign(&self, kind: Kind, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(self.algorithm);
        header.typ = Some(kind.as_str().to_owned());
        header.kid = Some(self.kid.clone());
        encode(&header, claims, &self.signer)
    }

    /// Checks a token: kind, key, signature, room and time, in that order.
    ///
    /// The algorithm is the key's, never the token's word.
    pub fn verify(
        &self,
        kind: Kind,
        room: &RoomName,
        token: &str,
        now: Millis,
    ) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::TooLong);
        }
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.typ.as_deref() != Some(kind.as_str()) {
            return Err(TokenError::WrongKind);
        }
        let key_name = header.kid.as_deref().unwrap_or_default();
        let (validation, key) = self.verifiers.get(key_name).ok_or(TokenError::UnknownKey)?;
        let claims = decode::<Claims>(token, key, validation).map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature
            | jsonwebtoken::errors::ErrorKind::InvalidAlgorithm => TokenError::BadSignature,
            _ => TokenError::Malformed,
        })?;
        let claims = claims.claims;
        let exact = |n: u64| (1..MAX_EXACT).contains(&n);
        if !exact(claims.generation) || !exact(claims.number) {
            return Err(TokenError::Malformed);
        }
        if claims.aud != *room {
            return Err(TokenError::OtherRoom);
        }
        if claims.ends_at() <= now {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

/// Signature and form only: room and time are checked here, as both come in as arguments.
fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "aud"]);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

struct Loaded {
    algorithm: Algorithm,
    signer: Option<EncodingKey>,
    verifier: DecodingKey,
    published: Option<Jwk>,
}

impl Loaded {
    fn new(material: &Material) -> Result<Self, jsonwebtoken::errors::Error> {
        match material {
            Material::Hs256(secret) => Ok(Self {
                algorithm: Algorithm::HS256,
                signer: Some(EncodingKey::from_secret(secret)),
                verifier: DecodingKey::from_secret(secret),
                published: None,
            }),
            Material::EdDsa(pem) => {
                let signer = EncodingKey::from_ed_pem(pem.as_bytes())?;
                let jwk = Jwk::from_encoding_key(&signer, Algorithm::EdDSA)?;
                let verifier = DecodingKey::from_jwk(&jwk)?;
                Ok(Self { algorithm: Algorithm::EdDSA, signer: Some(signer), verifier, published: Some(jwk) })
            }
            Material::EdDsaPublic(pem) => {
                let verifier = DecodingKey::from_ed_pem(pem.as_bytes())?;
                let jwk = Jwk::from_decoding_key(&verifier, Some(Algorithm::EdDSA))?;
                Ok(Self { algorithm: Algorithm::EdDSA, signer: None, verifier, published: Some(jwk) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
