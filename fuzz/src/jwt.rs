//! Any text as a user's token, and any header and claims rightly signed: nobody becomes a user without a signature, and
//! whoever does has all that a user must have.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use anteroom::identity::jwks::KeySet;
use anteroom::identity::settings::{IssuerSettings, JwksSource};
use anteroom::identity::token::{Outline, verify};
use anteroom::identity::user::{MAX_KIND, MAX_SUBJECT};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;

/// The time at which tokens are looked at, in milliseconds.
const NOW: u64 = 1_800_000_000_000;
/// An Ed25519 key pair, PKCS #8 with the seed 7, 7, 7 and so on.
const KEY: [u8; 48] = {
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let mut key = [7; 48];
    let mut at = 0;
    while at < head.len() {
        key[at] = head[at];
        at += 1;
    }
    key
};

static SIGNER: LazyLock<EncodingKey> = LazyLock::new(|| EncodingKey::from_ed_der(&KEY));
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let mut jwk = Jwk::from_encoding_key(&SIGNER, Algorithm::EdDSA).expect("a key pair has a public half");
    jwk.common.key_id = Some("k".to_owned());
    let text = format!("{{\"keys\":[{}]}}", serde_json::to_string(&jwk).expect("a key is JSON"));
    KeySet::read(text.as_bytes(), &[Algorithm::EdDSA]).expect("a set of one key").0
});
static ISSUER: LazyLock<IssuerSettings> = LazyLock::new(|| IssuerSettings {
    issuer: "i".to_owned(),
    audiences: vec!["a".to_owned()],
    jwks: JwksSource::File("unused".into()),
    algorithms: vec![Algorithm::EdDSA],
    leeway: Duration::ZERO,
    refresh: Duration::from_mins(10),
    stale: Duration::from_hours(24),
    type_claim: "t".to_owned(),
});

/// `header claims`, split at the first line end, encoded and signed.
fn signed(text: &str) -> Option<String> {
    let (header, claims) = text.split_once('\n')?;
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &SIGNER, Algorithm::EdDSA).ok()?;
    Some(format!("{message}.{signature}"))
}

fuzz_target!(|text: &str| {
    // What an issuer says of its keys is read as carefully.
    if let Ok((keys, _)) =
        KeySet::read(text.as_bytes(), &[Algorithm::EdDSA, Algorithm::RS256, Algorithm::ES256])
    {
        assert!(!keys.is_empty());
    }
    for token in [Some(text.to_owned()), signed(text)].into_iter().flatten() {
        let Ok(outline) = Outline::read(&token) else { continue };
        let Some(key) = KEYS.find(outline.kid.as_deref(), outline.algorithm) else { continue };
        let Ok(user) = verify(&token, key, outline.algorithm, &ISSUER, NOW) else { continue };
        assert!(signed(text).as_ref() == Some(&token), "a signature out of nowhere: {token}");
        assert!((1..=MAX_SUBJECT).contains(&user.name().len()) && user.ends_at() > NOW);
        assert!(user.kind().is_none_or(|kind| (1..=MAX_KIND).contains(&kind.len())));
        assert!(!user.name().contains(char::is_control));
    }
});
