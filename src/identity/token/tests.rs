//! What proves a user, and what does not.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::super::jwks::KeySet;
use super::super::settings::JwksSource;
use super::super::signer::{AUDIENCE, ISSUER, Signer, claims, claims_but, jwks};
use super::*;
use crate::room::state::Subject;

/// Seconds since the epoch.
const NOW: u64 = 1_800_000_000;

fn issuer() -> IssuerSettings {
    IssuerSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec!["app".to_owned(), AUDIENCE.to_owned()],
        jwks: JwksSource::File("unused".into()),
        algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        leeway: Duration::from_secs(30),
        refresh: Duration::from_mins(10),
        stale: Duration::from_hours(24),
        type_claim: "user_type".to_owned(),
    }
}

/// What a token comes to against the keys of this issuer.
fn look(token: &str, keys: &[&Signer], now: Millis) -> Result<User, Refusal> {
    let outline = Outline::read(token)?;
    let settings = issuer();
    if !settings.algorithms.contains(&outline.algorithm) {
        return Err(Refusal::Algorithm);
    }
    let (set, _) = KeySet::read(jwks(keys).as_bytes(), &settings.algorithms).unwrap();
    let key = set.find(outline.kid.as_deref(), outline.algorithm).ok_or(Refusal::UnknownKey)?;
    verify(token, key, outline.algorithm, &settings, now)
}

fn es256(token: &str) -> Result<User, Refusal> {
    look(token, &[&Signer::es256("k")], NOW * 1_000)
}

/// What the claims, changed so, come to when they are rightly signed.
fn changed(changes: &Value) -> Result<User, Refusal> {
    es256(&Signer::es256("k").sign(&claims_but("ann", NOW, changes)))
}

#[test]
fn each_algorithm_proves_its_user() {
    let signers = [Signer::es256("k"), Signer::ed25519("k"), Signer::rsa("k", Algorithm::RS256)];
    for signer in &signers {
        let user = look(&signer.sign(&claims("ann", NOW)), &[signer], NOW * 1_000).unwrap();
        assert_eq!((user.name(), user.kind()), ("ann", None));
        assert_eq!(user.id(), Subject::of(&[ISSUER, "ann"]));
        assert_eq!(user.ends_at(), (NOW + 3_600 + 30) * 1_000);
    }
}

#[test]
fn claims_are_held_to_what_they_have_to_be() {
    for (changes, expected) in [
        (json!({"iss": "https://id.example.com"}), Refusal::UnknownIssuer),
        (json!({"iss": "HTTPS://ID.EXAMPLE.COM/"}), Refusal::UnknownIssuer),
        (json!({"iss": null}), Refusal::Malformed),
        (json!({"iss": [ISSUER]}), Refusal::Malformed),
        (json!({"aud": null}), Refusal::OtherAudience),
        (json!({"aud": "shops"}), Refusal::OtherAudience),
        (json!({"aud": []}), Refusal::OtherAudience),
        (json!({"aud": ["other", "SHOP"]}), Refusal::OtherAudience),
        (json!({"aud": 7}), Refusal::Malformed),
        (json!({"aud": ["shop", 7]}), Refusal::Malformed),
        (json!({"exp": null}), Refusal::Malformed),
        (json!({"exp": "never"}), Refusal::Malformed),
        (json!({"exp": NOW - 30}), Refusal::Expired),
        (json!({"exp": 0}), Refusal::Expired),
        (json!({"exp": -1}), Refusal::Expired),
        (json!({"nbf": NOW + 31}), Refusal::NotYet),
        (json!({"nbf": "soon"}), Refusal::Malformed),
        (json!({"iat": NOW + 301}), Refusal::NotYet),
        (json!({"iat": true}), Refusal::Malformed),
        (json!({"sub": null}), Refusal::Malformed),
        (json!({"sub": ""}), Refusal::Malformed),
        (json!({"sub": 7}), Refusal::Malformed),
        (json!({"sub": "x".repeat(256)}), Refusal::Malformed),
        (json!({"sub": "ann\r\nx-user-id: root"}), Refusal::Malformed),
        (json!({"user_type": ["vip"]}), Refusal::Malformed),
        (json!({"user_type": ""}), Refusal::Malformed),
        (json!({"user_type": "v\nip"}), Refusal::Malformed),
    ] {
        assert_eq!(changed(&changes), Err(expected), "{changes}");
    }
    for good in [
        json!({"aud": ["other", "app"]}),
        json!({"exp": NOW - 29}),
        json!({"exp": NOW as f64 + 0.5}),
        json!({"nbf": NOW + 30}),
        json!({"iat": NOW + 300}),
        json!({"iat": null}),
        json!({"roles": ["a", {"b": [1, null]}], "user_type": "vip"}),
        json!({"sub": "x".repeat(255)}),
    ] {
        assert!(changed(&good).is_ok(), "{good}");
    }
    assert_eq!(changed(&json!({"user_type": "vip"})).unwrap().kind(), Some("vip"));
}

#[test]
fn a_token_ends_when_it_says_with_the_leeway() {
    let (signer, token) = (Signer::es256("k"), Signer::es256("k").sign(&claims("ann", NOW)));
    let end = (NOW + 3_630) * 1_000;
    assert!(look(&token, &[&signer], end - 1).is_ok());
    assert_eq!(look(&token, &[&signer], end), Err(Refusal::Expired));
}

#[test]
fn a_claim_written_twice_is_refused_whichever_is_meant() {
    let signer = Signer::es256("k");
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let good = claims("ann", NOW).to_string();
    for twice in [
        "\"sub\":\"root\"",
        "\"iss\":\"x\"",
        "\"aud\":\"x\"",
        "\"exp\":1",
        "\"user_type\":\"a\",\"user_type\":\"b\"",
        "\"s\\u0075b\":\"root\"",
    ] {
        let text = format!("{},{twice}}}", good.trim_end_matches('}'));
        assert_eq!(es256(&signer.sign_text(header, &text)), Err(Refusal::Malformed), "{twice}");
    }
    let twice = r#"{"alg":"none","alg":"ES256","kid":"k"}"#;
    assert_eq!(es256(&signer.sign_text(twice, &good)), Err(Refusal::Malformed));
}

#[test]
fn a_header_that_brings_keys_or_is_of_another_kind_is_refused() {
    let signer = Signer::es256("k");
    let attacker = Signer::other_es256("k");
    for extra in [
        json!({"jwk": attacker.jwk()}),
        json!({"jku": "https://evil.example.com/jwks.json"}),
        json!({"x5u": "https://evil.example.com/x509"}),
        json!({"x5c": ["MIIB"]}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"crit": []}),
        json!({"typ": "logout+jwt"}),
        json!({"typ": "ticket"}),
        json!({"typ": "dpop+jwt"}),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "k"});
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        for key in [&signer, &attacker] {
            assert_eq!(es256(&key.sign_with(&header, &claims("ann", NOW))), Err(Refusal::Header), "{extra}");
        }
    }
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
        let header = json!({"alg": "ES256", "kid": "k", "typ": typ});
        assert!(es256(&signer.sign_with(&header, &claims("ann", NOW))).is_ok(), "{typ}");
    }
}

#[test]
fn the_algorithm_is_never_the_tokens_word() {
    let (rsa, ec) = (Signer::rsa("r", Algorithm::RS256), Signer::es256("e"));
    let good = claims("ann", NOW);
    let look = |token: &str| look(token, &[&rsa, &ec], NOW * 1_000);
    // HS256 with the public key as the secret: by the JWK's modulus, and by its JSON.
    for secret in [rsa.jwk()["n"].to_string(), rsa.jwk().to_string()] {
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("r".to_owned());
        assert_eq!(look(&jsonwebtoken::encode(&header, &good, &key).unwrap()), Err(Refusal::Algorithm));
    }
    for alg in ["none", "None", "NONE", ""] {
        let header = json!({"alg": alg, "kid": "r"}).to_string();
        let token = rsa.sign_text(&header, &good.to_string());
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert_eq!((look(&token), look(&unsigned)), (Err(Refusal::Malformed), Err(Refusal::Malformed)));
    }
    // The name of one key, the algorithm and signature of the other.
    let crossed = ec.sign_with(&json!({"alg": "ES256", "kid": "r"}), &good);
    assert_eq!(look(&crossed), Err(Refusal::UnknownKey));
    let claimed = ec.sign_with(&json!({"alg": "RS256", "kid": "r"}), &good);
    assert_eq!(look(&claimed), Err(Refusal::BadSignature));
    // What the issuer could sign with, but is not configured to.
    let ps = Signer::rsa("r", Algorithm::PS256);
    assert_eq!(look(&ps.sign(&good)), Err(Refusal::Algorithm));
}

#[test]
fn every_cut_and_every_changed_character_is_refused() {
    let token = Signer::es256("k").sign(&claims("ann", NOW));
    assert!(es256(&token).is_ok());
    for at in 0..token.len() {
        assert!(es256(&token[..at]).is_err(), "cut at {at}");
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(es256(std::str::from_utf8(&changed).unwrap()).is_err(), "changed at {at}");
    }
    for odd in [
        format!("{token}."),
        format!("{token}="),
        format!(" {token}"),
        format!("{token},{token}"),
        token.replace('.', ".."),
    ] {
        assert!(es256(&odd).is_err(), "{odd}");
    }
    assert_eq!(es256(&Signer::other_es256("k").sign(&claims("ann", NOW))), Err(Refusal::BadSignature));
}

#[test]
fn large_and_deep_tokens_are_refused() {
    let signer = Signer::es256("k");
    let padded = |len: usize| signer.sign(&claims_but("ann", NOW, &json!({"pad": "x".repeat(len)})));
    assert!(es256(&padded(5_000)).is_ok());
    assert_eq!(es256(&padded(MAX_TOKEN)), Err(Refusal::TooLong));
    let deep = format!(r#"{{"iss":"{ISSUER}","x":{}}}"#, "[".repeat(2_000));
    assert_eq!(es256(&signer.sign_text(r#"{"alg":"ES256"}"#, &deep)), Err(Refusal::Malformed));
    let many: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    assert_eq!(changed(&json!({"aud": many})), Err(Refusal::OtherAudience));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_proves_anybody(text in "[A-Za-z0-9._=-]{0,200}", token in "\\PC{0,80}") {
        prop_assert!(es256(&text).is_err());
        prop_assert!(es256(&token).is_err());
    }

    #[test]
    fn any_signed_claims_are_read_strictly(name in "\\PC{0,12}", value in "(null|true|-?[0-9]{1,20}|\"[a-z]{0,9}\"|\\[\\]|\\{\\})") {
        let signer = Signer::es256("k");
        let mut text = claims("ann", NOW).to_string();
        text.truncate(text.len() - 1);
        let text = format!("{text},{}:{value}}}", json!(name));
        if let Ok(user) = es256(&signer.sign_text(r#"{"alg":"ES256","kid":"k"}"#, &text)) {
            prop_assert_eq!(user.name(), "ann");
        }
    }
}
