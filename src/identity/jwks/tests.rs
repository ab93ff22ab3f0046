//! Which keys of a JWKS are taken, and which are not.

use serde_json::json;

use super::super::signer::{Signer, jwks};
use super::*;

const ALL: [Algorithm; 4] = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

fn read(text: &str) -> Result<(KeySet, Vec<(usize, Skipped)>), Unusable> {
    KeySet::read(text.as_bytes(), &ALL)
}

/// What becomes of one key beside a good one, once it is changed; `Ok`: taken.
fn fate(key: &Signer, change: impl FnOnce(&mut Value)) -> Result<(), Skipped> {
    let mut changed = key.jwk();
    change(&mut changed);
    let text = json!({"keys": [Signer::ed25519("good").jwk(), changed]}).to_string();
    let (set, skipped) = read(&text).unwrap();
    match skipped[..] {
        [] if set.len() == 2 => Ok(()),
        [(1, why)] if set.len() == 1 => Err(why),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn each_kind_of_key_is_taken_for_what_it_can_do() {
    let rsa = Signer::rsa("rsa", Algorithm::RS256);
    let text = jwks(&[&rsa, &Signer::es256("ec"), &Signer::ed25519("ed"), &Signer::es384("big")]);
    let (set, skipped) = read(&text).unwrap();
    assert_eq!((set.len(), skipped), (3, vec![(3, Skipped::OtherAlgorithm)]));
    assert!(set.find(Some("rsa"), Algorithm::RS256).is_some());
    // Its JWK says that it is for RS256 only.
    assert!(set.find(Some("rsa"), Algorithm::PS256).is_none());
    assert!(set.find(Some("ec"), Algorithm::ES256).is_some());
    assert!(set.find(Some("ed"), Algorithm::EdDSA).is_some());
    for (kid, algorithm) in [
        ("ec", Algorithm::RS256),
        ("rsa", Algorithm::ES256),
        ("rsa", Algorithm::HS256),
        ("ED", Algorithm::EdDSA),
    ] {
        assert!(set.find(Some(kid), algorithm).is_none(), "{kid} {algorithm:?}");
    }
}

#[test]
fn a_key_without_alg_verifies_what_its_type_and_the_issuer_allow() {
    let mut jwk = Signer::rsa("rsa", Algorithm::RS256).jwk();
    jwk.as_object_mut().unwrap().remove("alg");
    let (set, _) = read(&json!({"keys": [jwk]}).to_string()).unwrap();
    for (algorithm, fits) in [
        (Algorithm::RS256, true),
        (Algorithm::PS256, true),
        (Algorithm::RS512, false),
        (Algorithm::ES256, false),
    ] {
        assert_eq!(set.find(Some("rsa"), algorithm).is_some(), fits, "{algorithm:?}");
    }
}

#[test]
fn eddsa_may_be_named_by_its_curve() {
    let ed = Signer::ed25519("ed");
    assert_eq!(fate(&ed, |jwk| jwk["alg"] = "Ed25519".into()), Ok(()));
    assert_eq!(fate(&ed, |jwk| jwk["alg"] = "Ed448".into()), Err(Skipped::OtherAlgorithm));
    assert_eq!(fate(&Signer::es256("ec"), |jwk| jwk["alg"] = "Ed25519".into()), Err(Skipped::Unreadable));
    let mut jwk = ed.jwk();
    jwk["alg"] = "Ed25519".into();
    let (set, _) = read(&json!({"keys": [jwk]}).to_string()).unwrap();
    assert!(set.find(Some("ed"), Algorithm::EdDSA).is_some());
}

#[test]
fn a_token_without_kid_finds_a_key_only_where_there_is_no_choice() {
    let (one, _) = read(&jwks(&[&Signer::es256("a"), &Signer::ed25519("b")])).unwrap();
    assert!(one.find(None, Algorithm::ES256).is_some() && one.find(None, Algorithm::EdDSA).is_some());
    let (two, _) = read(&jwks(&[&Signer::es256("a"), &Signer::other_es256("b")])).unwrap();
    assert!(two.find(None, Algorithm::ES256).is_none() && two.find(Some("b"), Algorithm::ES256).is_some());
}

#[test]
fn keys_that_prove_nothing_are_passed_over() {
    let (ec, rsa) = (Signer::es256("ec"), Signer::rsa("rsa", Algorithm::RS256));
    assert_eq!(fate(&ec, |_| {}), Ok(()));
    assert_eq!(fate(&ec, |jwk| jwk["key_ops"] = json!(["verify"])), Ok(()));
    assert_eq!(fate(&ec, |jwk| drop(jwk.as_object_mut().unwrap().remove("kid"))), Ok(()));
    assert_eq!(fate(&rsa, |_| {}), Ok(()));
    // 1024 bits, and 2047 written as long as 2048.
    assert_eq!(fate(&rsa, |jwk| jwk["n"] = URL_SAFE_NO_PAD.encode([0xff; 128]).into()), Err(Skipped::Weak));
    let padded = [&[0; 128][..], &[0xff; 128]].concat();
    assert_eq!(fate(&rsa, |jwk| jwk["n"] = URL_SAFE_NO_PAD.encode(padded).into()), Err(Skipped::Weak));
    let mut short = [0xff; 256];
    short[0] = 0x7f;
    assert_eq!(fate(&rsa, |jwk| jwk["n"] = URL_SAFE_NO_PAD.encode(short).into()), Err(Skipped::Weak));
    assert_eq!(fate(&rsa, |jwk| jwk["e"] = "AQ".into()), Err(Skipped::Weak));
    assert_eq!(fate(&rsa, |jwk| jwk["e"] = "Ag".into()), Err(Skipped::Weak));
    assert_eq!(
        fate(&rsa, |jwk| jwk["n"] = URL_SAFE_NO_PAD.encode([0xff; 1_025]).into()),
        Err(Skipped::TooLong)
    );
    assert_eq!(
        fate(&ec, |jwk| *jwk = json!({"kty": "oct", "kid": "s", "k": "c2VjcmV0"})),
        Err(Skipped::Secret)
    );
    assert_eq!(fate(&ec, |jwk| jwk["d"] = "c2VjcmV0".into()), Err(Skipped::Private));
    assert_eq!(fate(&ec, |jwk| jwk["use"] = "enc".into()), Err(Skipped::OtherUse));
    assert_eq!(fate(&ec, |jwk| jwk["key_ops"] = json!(["sign"])), Err(Skipped::OtherUse));
    assert_eq!(fate(&ec, |jwk| jwk["alg"] = "ES384".into()), Err(Skipped::OtherAlgorithm));
    assert_eq!(fate(&ec, |jwk| jwk["alg"] = "none".into()), Err(Skipped::OtherAlgorithm));
    assert_eq!(fate(&ec, |jwk| jwk["crv"] = "secp256k1".into()), Err(Skipped::OtherAlgorithm));
    assert_eq!(fate(&ec, |jwk| jwk["kty"] = "AKP".into()), Err(Skipped::OtherAlgorithm));
    assert_eq!(fate(&ec, |jwk| jwk["x"] = "AAAA".into()), Err(Skipped::Unreadable));
    assert_eq!(fate(&ec, |jwk| jwk["x"] = "%%".into()), Err(Skipped::Unreadable));
    assert_eq!(fate(&ec, |jwk| jwk["kid"] = "k".repeat(MAX_KID + 1).into()), Err(Skipped::Unreadable));
    assert_eq!(fate(&ec, |jwk| *jwk = json!(7)), Err(Skipped::Unreadable));
    let twice = json!({"keys": [ec.jwk(), Signer::other_es256("ec").jwk()]}).to_string();
    assert_eq!(read(&twice).unwrap().1, [(1, Skipped::Twice)]);
}

#[test]
fn what_is_no_jwks_or_holds_nothing_is_refused() {
    for (text, why) in [
        ("", Unusable::NoJwks),
        ("<html>", Unusable::NoJwks),
        ("{}", Unusable::NoJwks),
        ("[]", Unusable::NoJwks),
        (r#"{"keys": {}}"#, Unusable::NoJwks),
        (r#"{"keys": []}"#, Unusable::NoKey),
        (r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#, Unusable::NoKey),
    ] {
        assert_eq!(read(text).unwrap_err(), why, "{text}");
    }
    let many = vec![Signer::es256("a").jwk(); MAX_KEYS + 1];
    assert_eq!(read(&json!({"keys": many}).to_string()).unwrap_err(), Unusable::TooMany);
    assert_eq!(read(&" ".repeat(MAX_JWKS + 1)).unwrap_err(), Unusable::TooLarge);
    assert_eq!(read(&"[".repeat(MAX_JWKS)).unwrap_err(), Unusable::NoJwks);
}

#[test]
fn keys_that_stay_are_the_same_and_keys_that_go_are_believed_no_more() {
    let (a, b) = (Signer::es256("a"), Signer::ed25519("b"));
    let (mut first, _) = read(&jwks(&[&a, &b])).unwrap();
    assert!(first.succeed(&KeySet::default(), 100));
    let old = |kid, algorithm| first.find(Some(kid), algorithm).unwrap().clone();
    let (old_a, old_b) = (old("a", Algorithm::ES256), old("b", Algorithm::EdDSA));
    assert!(old_a.holds(99) && !old_a.holds(100));

    let (mut same, _) = read(&jwks(&[&b, &a])).unwrap();
    assert!(!same.succeed(&first, 200));
    assert!(Arc::ptr_eq(same.find(Some("a"), Algorithm::ES256).unwrap(), &old_a) && old_a.holds(199));

    // The same name, another key.
    let (mut next, _) = read(&jwks(&[&Signer::other_es256("a"), &b])).unwrap();
    assert!(next.succeed(&same, 300));
    assert!(!old_a.holds(0) && old_b.holds(299));
    assert!(next.find(Some("a"), Algorithm::ES256).unwrap().holds(299));
}
