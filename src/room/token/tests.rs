//! Tokens: what holds, what is refused, and how keys rotate.

use super::*;

const ED_PRIVATE: &str = include_str!("../../../tests/data/ed25519.pem");

fn ring(kid: &str, secret: u8) -> KeyRing {
    KeyRing::new(&[Key { kid: kid.into(), material: Material::Hs256(vec![secret; 32]) }]).unwrap()
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn claims() -> Claims {
    Claims { aud: room("shop"), generation: 3, number: 17, iat: 100, exp: 200, position: None, bound: None }
}

#[test]
fn a_token_comes_back_as_it_was_signed() {
    for material in [Material::Hs256(vec![1; 32]), Material::EdDsa(ED_PRIVATE.into())] {
        let ring = KeyRing::new(&[Key { kid: "k".into(), material }]).unwrap();
        let token = ring.sign(Kind::Pass, &claims()).unwrap();
        assert_eq!(ring.verify(Kind::Pass, &room("shop"), &token, 199_999), Ok(claims()));
        assert_eq!(ring.verify(Kind::Pass, &room("shop"), &token, 200_000), Err(TokenError::Expired));
        assert_eq!(ring.verify(Kind::Pass, &room("open"), &token, 0), Err(TokenError::OtherRoom));
        assert_eq!(ring.verify(Kind::Ticket, &room("shop"), &token, 0), Err(TokenError::WrongKind));
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused() {
    let ring = ring("k", 1);
    let token = ring.sign(Kind::Ticket, &claims()).unwrap();
    for end in 0..token.len() {
        assert!(ring.verify(Kind::Ticket, &room("shop"), &token[..end], 0).is_err(), "cut at {end}");
    }
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(forged) = String::from_utf8(bytes) {
            // The last character of base64 carries bits that mean nothing; everything else must count.
            let spare = at + 1 == token.len();
            let result = ring.verify(Kind::Ticket, &room("shop"), &forged, 0);
            assert!(spare || result.is_err(), "flipped at {at}");
        }
    }
}

#[test]
fn keys_rotate_and_strangers_are_refused() {
    let (old, new) = (ring("old", 1), ring("new", 2));
    let both = KeyRing::new(&[
        Key { kid: "new".into(), material: Material::Hs256(vec![2; 32]) },
        Key { kid: "old".into(), material: Material::Hs256(vec![1; 32]) },
    ])
    .unwrap();
    let by_old = old.sign(Kind::Pass, &claims()).unwrap();
    assert!(both.verify(Kind::Pass, &room("shop"), &by_old, 0).is_ok());
    assert_eq!(new.verify(Kind::Pass, &room("shop"), &by_old, 0), Err(TokenError::UnknownKey));
    let same_name = ring("old", 9);
    assert_eq!(same_name.verify(Kind::Pass, &room("shop"), &by_old, 0), Err(TokenError::BadSignature));
    assert!(new.verify(Kind::Pass, &room("shop"), &both.sign(Kind::Pass, &claims()).unwrap(), 0).is_ok());
}

#[test]
fn the_algorithm_is_the_keys_and_never_the_tokens() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    let ring = ring("k", 1);
    let token = ring.sign(Kind::Pass, &claims()).unwrap();
    let body = token.split('.').nth(1).unwrap();
    for alg in ["none", "None", "HS384", "EdDSA", "RS256"] {
        let header = B64.encode(format!(r#"{{"typ":"pass","kid":"k","alg":"{alg}"}}"#));
        for signature in ["", token.split('.').nth(2).unwrap()] {
            let forged = format!("{header}.{body}.{signature}");
            assert!(ring.verify(Kind::Pass, &room("shop"), &forged, 0).is_err(), "{alg}");
        }
    }
}

#[test]
fn absurd_claims_and_lengths_are_refused() {
    let ring = ring("k", 1);
    for (generation, number) in [(0, 1), (1, 0), (1, u64::MAX), (1 << 53, 1)] {
        let token = ring.sign(Kind::Ticket, &Claims { generation, number, ..claims() }).unwrap();
        assert_eq!(ring.verify(Kind::Ticket, &room("shop"), &token, 0), Err(TokenError::Malformed));
    }
    let long = "a".repeat(64 * 1024);
    assert_eq!(ring.verify(Kind::Ticket, &room("shop"), &long, 0), Err(TokenError::TooLong));
    assert_eq!(ring.verify(Kind::Ticket, &room("shop"), "", 0), Err(TokenError::Malformed));
}

#[test]
fn only_public_keys_are_published_and_a_public_key_cannot_sign() {
    let ring = KeyRing::new(&[
        Key { kid: "ed".into(), material: Material::EdDsa(ED_PRIVATE.into()) },
        Key { kid: "hs".into(), material: Material::Hs256(vec![7; 32]) },
    ])
    .unwrap();
    let published = serde_json::to_string(ring.published()).unwrap();
    assert!(published.contains(r#""kid":"ed""#) && published.contains(r#""x":"#), "{published}");
    assert!(!published.contains(r#""hs""#) && !published.contains(r#""d":"#), "{published}");
    assert!(matches!(KeyRing::new(&[]), Err(KeyError::NoSigner)));
    let broken = Key { kid: "bad".into(), material: Material::EdDsa("not a key".into()) };
    assert!(matches!(KeyRing::new(&[broken]), Err(KeyError::Unreadable { .. })));
}
