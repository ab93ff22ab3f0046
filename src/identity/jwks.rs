//! The public keys of an issuer: which keys of a JWKS may verify, and why the others may not. Pure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::room::policy::Millis;

/// The largest JWKS, in bytes.
pub const MAX_JWKS: usize = 256 << 10;
/// The most keys in a JWKS.
pub const MAX_KEYS: usize = 64;
/// The longest `kid`, in bytes.
pub const MAX_KID: usize = 256;
/// The shortest RSA modulus, in bits. The longest is 8192: verifying is dear.
const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;

/// A key that verifies.
#[derive(Debug)]
pub struct Key {
    /// Its name, where it has one.
    kid: Option<String>,
    /// What it may verify, one at least.
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
    /// A digest of all of the above.
    fingerprint: [u8; 32],
    /// Until when it is believed, milliseconds since the epoch. Tokens that it has vouched for end with it.
    believed_until: AtomicU64,
}

impl Key {
    /// What verifies a signature.
    pub fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// Whether it is believed now.
    pub fn holds(&self, now: Millis) -> bool {
        now < self.believed_until.load(Ordering::Relaxed)
    }

    /// Lets it be believed until then; 0: no more.
    pub fn believe_until(&self, until: Millis) {
        self.believed_until.store(until, Ordering::Relaxed);
    }
}

/// An issuer's keys.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
}

/// Why a JWKS is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Over [`MAX_JWKS`].
    #[error("the JWKS is longer than 256 KiB")]
    TooLarge,
    /// No JSON object with a list `keys`.
    #[error("it is no JWKS: a JSON object with a list of keys")]
    NoJwks,
    /// Over [`MAX_KEYS`].
    #[error("the JWKS has more than 64 keys")]
    TooMany,
    /// None that could be used.
    #[error("the JWKS has no key that fits the issuer's algorithms")]
    NoKey,
}

/// Why one key of a JWKS is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// Something is missing, or of the wrong type.
    #[error("it cannot be read")]
    Unreadable,
    /// Whoever can read a shared secret can sign with it.
    #[error("it is a shared secret (kty oct), and a JWKS is public")]
    Secret,
    /// Whoever can read a private key can sign with it.
    #[error("its private half is published, and anybody may sign with it")]
    Private,
    /// `use` or `key_ops` say something else.
    #[error("it is not meant to verify signatures")]
    OtherUse,
    /// Not for what the issuer may sign with.
    #[error("it fits none of the issuer's algorithms")]
    OtherAlgorithm,
    /// RSA under 2048 bits.
    #[error("it is weak: RSA needs 2048 bits")]
    Weak,
    /// RSA over 8192 bits.
    #[error("it is longer than RSA's 8192 bits")]
    TooLong,
    /// Another key has the same `kid` and an algorithm in common.
    #[error("another key before it has the same kid")]
    Twice,
}

impl Skipped {
    /// Whether somebody should look after it; other keys are none of our business.
    pub fn is_odd(self) -> bool {
        !matches!(self, Self::OtherUse | Self::OtherAlgorithm)
    }
}

#[derive(Deserialize)]
struct Written {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWKS: the keys that may verify for an issuer with these algorithms, and for each other one its place in the
    /// list and why not. The keys are not believed yet.
    pub fn read(text: &[u8], algorithms: &[Algorithm]) -> Result<(Self, Vec<(usize, Skipped)>), Unusable> {
        if text.len() > MAX_JWKS {
            return Err(Unusable::TooLarge);
        }
        let Written { keys: written } = serde_json::from_slice(text).map_err(|_| Unusable::NoJwks)?;
        if written.len() > MAX_KEYS {
            return Err(Unusable::TooMany);
        }
        let mut set = Self::default();
        let mut skipped = Vec::new();
        for (index, value) in written.into_iter().enumerate() {
            match read_key(value, algorithms) {
                Ok(key) if set.has_twin(&key) => skipped.push((index, Skipped::Twice)),
                Ok(key) => set.keys.push(Arc::new(key)),
                Err(why) => skipped.push((index, why)),
            }
        }
        if set.keys.is_empty() { Err(Unusable::NoKey) } else { Ok((set, skipped)) }
    }

    fn has_twin(&self, key: &Key) -> bool {
        key.kid.is_some()
            && self.keys.iter().any(|other| {
                other.kid == key.kid && other.algorithms.iter().any(|alg| key.algorithms.contains(alg))
            })
    }

    /// Takes the place of an older set: keys in both go on as they are, so that what they have vouched for holds on; keys
    /// that are gone are believed no more. Whether anything has changed.
    pub fn succeed(&mut self, older: &Self, until: Millis) -> bool {
        let mut is_changed = self.keys.len() != older.keys.len();
        for key in &mut self.keys {
            match older.keys.iter().find(|other| other.fingerprint == key.fingerprint) {
                Some(same) => *key = same.clone(),
                None => is_changed = true,
            }
            key.believe_until(until);
        }
        for key in &older.keys {
            if !self.keys.iter().any(|kept| Arc::ptr_eq(kept, key)) {
                key.believe_until(0);
            }
        }
        is_changed
    }

    /// The key for a token's `kid` and algorithm. Without a `kid` only where no other could be meant.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Arc<Key>> {
        let mut fit = self.keys.iter().filter(|key| {
            key.algorithms.contains(&algorithm) && (kid.is_none() || key.kid.as_deref() == kid)
        });
        let key = fit.next()?;
        fit.next().is_none().then_some(key)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn read_key(mut value: Value, allowed: &[Algorithm]) -> Result<Key, Skipped> {
    let member = |name: &str| value.get(name).and_then(Value::as_str);
    match member("kty") {
        Some("oct") => return Err(Skipped::Secret),
        Some("RSA" | "EC" | "OKP") => {}
        Some(_) => return Err(Skipped::OtherAlgorithm),
        None => return Err(Skipped::Unreadable),
    }
    if ["d", "p", "q"].iter().any(|half| value.get(half).is_some()) {
        return Err(Skipped::Private);
    }
    let is_known_curve = ["P-256", "P-384", "Ed25519"].map(Some).contains(&member("crv"));
    if member("crv").is_some() && !is_known_curve {
        return Err(Skipped::OtherAlgorithm);
    }
    if member("alg") == Some("Ed25519") {
        // RFC 9864's name for what is EdDSA by this curve, and by no other one.
        if member("crv") != Some("Ed25519") {
            return Err(Skipped::Unreadable);
        }
        value["alg"] = "EdDSA".into();
    }
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| Skipped::Unreadable)?;
    let common = &jwk.common;
    let verifies = common.key_operations.as_ref().is_none_or(|ops| ops.contains(&KeyOperations::Verify));
    if !verifies || common.public_key_use.as_ref().is_some_and(|meant| *meant != PublicKeyUse::Signature) {
        return Err(Skipped::OtherUse);
    }
    if common.key_id.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
        return Err(Skipped::Unreadable);
    }
    let (fitting, material) = read_material(&jwk.algorithm)?;
    let fits = |algorithm: &Algorithm| {
        fitting.contains(algorithm)
            && common.key_algorithm.is_none_or(|only| only == KeyAlgorithm::from(*algorithm))
    };
    let algorithms: Vec<Algorithm> = allowed.iter().copied().filter(fits).collect();
    if algorithms.is_empty() {
        return Err(Skipped::OtherAlgorithm);
    }
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| Skipped::Unreadable)?;
    let fingerprint = fingerprint(common.key_id.as_deref(), &algorithms, &material);
    let kid = jwk.common.key_id;
    Ok(Key { kid, algorithms, decoding, fingerprint, believed_until: AtomicU64::new(0) })
}

/// What a key could verify, and the parts it is made of.
fn read_material(written: &AlgorithmParameters) -> Result<(&'static [Algorithm], Vec<Vec<u8>>), Skipped> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Skipped::Unreadable);
    match written {
        AlgorithmParameters::RSA(key) => {
            let (n, e) = (decode(&key.n)?, decode(&key.e)?);
            match bits(&n) {
                ..MIN_RSA_BITS => return Err(Skipped::Weak),
                MIN_RSA_BITS..=MAX_RSA_BITS => {}
                _ => return Err(Skipped::TooLong),
            }
            // An exponent of 1 lets any text be its own signature, an even one is none.
            if e.last().is_none_or(|last| last % 2 == 0) || !(2..=33).contains(&bits(&e)) {
                return Err(Skipped::Weak);
            }
            Ok((&[RS256, RS384, RS512, PS256, PS384, PS512], vec![n, e]))
        }
        AlgorithmParameters::EllipticCurve(key) => {
            let (x, y) = (decode(&key.x)?, decode(&key.y)?);
            let (fitting, length): (&[Algorithm], usize) = match key.curve {
                EllipticCurve::P256 => (&[ES256], 32),
                EllipticCurve::P384 => (&[ES384], 48),
                _ => return Err(Skipped::OtherAlgorithm),
            };
            let whole = x.len() == length && y.len() == length;
            if whole { Ok((fitting, vec![x, y])) } else { Err(Skipped::Unreadable) }
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            let x = decode(&key.x)?;
            if x.len() == 32 { Ok((&[EdDSA], vec![x])) } else { Err(Skipped::Unreadable) }
        }
        _ => Err(Skipped::Unreadable),
    }
}

/// How many bits a number has, written with its highest byte first.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &number[first..]);
    let leading = significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
    significant.len() * 8 - leading
}

fn fingerprint(kid: Option<&str>, algorithms: &[Algorithm], material: &[Vec<u8>]) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut take = |part: &[u8]| {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    };
    take(&[u8::from(kid.is_some())]);
    take(kid.unwrap_or_default().as_bytes());
    take(format!("{algorithms:?}").as_bytes());
    for part in material {
        take(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests;
