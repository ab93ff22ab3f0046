//! Any text as a token, and any header and claims rightly signed: what is accepted keeps the bounds, and the memory of
//! verified passes says the same as the keys.
#![no_main]

use std::sync::LazyLock;

use anteroom::room::name::RoomName;
use anteroom::room::token::{Key, KeyRing, Kind, MAX_EXACT, Material};
use anteroom::room::verified::Verified;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;

const SECRET: [u8; 32] = [7; 32];
/// The time at which tokens are looked at, in milliseconds.
const NOW: u64 = 1_000_000;

static KEYS: LazyLock<KeyRing> = LazyLock::new(|| {
    let key = Key { kid: "k".to_owned(), material: Material::Hs256(SECRET.to_vec()) };
    KeyRing::new(&[key]).expect("a secret of 32 bytes makes a key")
});

/// `header claims`, split at the first line end, encoded and signed.
fn signed(text: &str) -> Option<String> {
    let (header, claims) = text.split_once('\n')?;
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(&SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).ok()?;
    Some(format!("{message}.{signature}"))
}

fuzz_target!(|text: &str| {
    let room = RoomName::parse("shop").expect("a good name");
    for token in [Some(text.to_owned()), signed(text)].into_iter().flatten() {
        let mut verified = Verified::new(4);
        for kind in [Kind::Pass, Kind::Ticket] {
            let Ok(claims) = KEYS.verify(kind, &room, &token, NOW) else { continue };
            assert!(signed(text).as_ref() == Some(&token), "a signature out of nowhere: {token}");
            assert!((1..MAX_EXACT).contains(&claims.number) && (1..MAX_EXACT).contains(&claims.generation));
            assert!(claims.aud == room && claims.ends_at() > NOW);
            let other = if kind == Kind::Pass { Kind::Ticket } else { Kind::Pass };
            assert!(KEYS.verify(other, &room, &token, NOW).is_err(), "both ticket and pass");
        }
        let expected = KEYS.verify(Kind::Pass, &room, &token, NOW);
        for _ in 0..2 {
            let (found, _) = verified.verify(&KEYS, &room, &token, NOW);
            assert_eq!(found.ok(), expected.as_ref().ok().cloned());
        }
    }
});
