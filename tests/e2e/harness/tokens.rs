//! The signing key of a scene, and tokens made with it: what a forger might try, and what only the key's owner can.

use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::Value;

/// An HS256 key with its id.
pub(crate) struct SigningKey {
    kid: String,
    secret: [u8; 32],
}

impl SigningKey {
    /// A key that nobody else has.
    pub(crate) fn fresh(kid: &str) -> Self {
        Self { kid: kid.into(), secret: rand::random() }
    }

    /// Writes it as the file that `--keys` takes, readable by its owner only.
    pub(crate) fn write(&self, file: &Path) {
        write_keys(&[self], file);
    }

    /// Signs this header and these claims.
    pub(crate) fn sign(&self, token: &Parts) -> String {
        let message = format!("{}.{}", encode(&token.header), encode(&token.claims));
        let key = EncodingKey::from_secret(&self.secret);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }
}

/// Writes these as the file that `--keys` takes: the first signs, all verify.
pub(crate) fn write_keys(keys: &[&SigningKey], file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mut text = String::from("keys:\n");
    for SigningKey { kid, secret } in keys {
        let secret = STANDARD.encode(secret);
        writeln!(text, "  - {{ kid: \"{kid}\", alg: HS256, secret: \"{secret}\" }}").unwrap();
    }
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A token taken apart, to be changed and signed again. Made from a genuine one, so that a refused forgery was
/// refused for its change and not because the test has a wrong idea of the claims.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) header: Value,
    pub(crate) claims: Value,
}

impl Parts {
    pub(crate) fn of(token: &str) -> Self {
        let mut parts = token.split('.').map(|part| {
            URL_SAFE_NO_PAD.decode(part).unwrap_or_else(|error| panic!("{error}: not a compact JWS"))
        });
        let mut json = || serde_json::from_slice(&parts.next().expect("three parts")).expect("JSON");
        Self { header: json(), claims: json() }
    }

    /// The same with another header field.
    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    /// The same with another claim, which must be there already.
    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        assert!(self.claims.get(name).is_some(), "the token has no claim {name}: {}", self.claims);
        self.claims[name] = value.into();
        self
    }

    /// Without a signature.
    pub(crate) fn unsigned(&self) -> String {
        format!("{}.{}.", encode(&self.header), encode(&self.claims))
    }
}

fn encode(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}
