//! What an identity file may say, and what is said of its mistakes.

use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::*;
use crate::identity::settings::JwksSource;

const SAMPLE: &str = include_str!("../../../tests/data/identity.yaml");

/// A file with one issuer, with some of its lines replaced by others.
fn parse_with(replaced: &str, by: &str) -> Result<IdentitySettings, Vec<String>> {
    let text = "issuers:\n\
        - issuer: https://id.example.com/\n  \
          audiences: [shop]\n  \
          jwks: {url: https://id.example.com/jwks}\n  \
          algorithms: [ES256]\n";
    assert!(text.contains(replaced), "{replaced}");
    let read = parse(&text.replace(replaced, by), Path::new("f"));
    read.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

/// The one mistake of such a file.
fn mistake(replaced: &str, by: &str) -> String {
    let found = parse_with(replaced, by).unwrap_err();
    assert_eq!(found.len(), 1, "{by}: {found:#?}");
    found.into_iter().next().unwrap()
}

#[test]
fn the_sample_is_understood() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/identity.yaml");
    let read = parse(SAMPLE, Path::new(file)).unwrap();
    let [first, second] = &read.issuers[..] else { panic!("two issuers") };
    assert_eq!(first.issuer, "https://id.example.com/");
    assert_eq!(first.audiences, ["shop", "app"]);
    assert!(
        matches!(&first.jwks, JwksSource::Url { url, roots: None } if url.host() == Some("id.example.com"))
    );
    assert_eq!(first.algorithms, [Algorithm::ES256, Algorithm::RS256]);
    let minutes = |n: u64| Duration::from_secs(n * 60);
    assert_eq!((first.leeway, first.refresh, first.stale), (minutes(1), minutes(5), minutes(720)));
    assert_eq!((first.type_claim.as_str(), second.type_claim.as_str()), ("role", "user_type"));
    assert!(
        matches!(&second.jwks, JwksSource::File(file) if file.ends_with("tests/data/identity/jwks.json"))
    );
    let usual = Duration::from_secs(30);
    assert_eq!((second.leeway, second.refresh, second.stale), (usual, minutes(10), minutes(1_440)));
    assert_eq!(read.token, TokenPlace { header: "authorization".into(), cookie: Some("id_token".into()) });
    assert_eq!(read.headers, UserHeaders { id: "x-user-id".into(), kind: "x-user-role".into() });
    assert!(read.public.takes("GET", "/open/a") && !read.public.takes("GET", "/shop"));
    assert!(read.public.takes("POST", "/hooks/pay") && !read.public.takes("POST", "/open/a"));
}

#[test]
fn what_is_left_out_has_its_usual_value() {
    let read = parse_with("shop", "shop").unwrap();
    assert_eq!((read.token, read.headers), (TokenPlace::default(), UserHeaders::default()));
    assert!(read.public.is_empty());
}

#[test]
fn every_mistake_is_found_with_its_line() {
    for (replaced, by, expected) in [
        ("audiences: [shop]", "audiences: []", "f:3: issuers[0].audiences: is a list, not a list of names"),
        ("audiences: [shop]", "audiences: shop", "f:3: issuers[0].audiences"),
        ("  audiences: [shop]\n", "", "f:2: issuers[0].audiences: is missing"),
        ("[ES256]", "[HS256]", "f:5: issuers[0].algorithms[0]: \"HS256\" is no algorithm"),
        ("[ES256]", "[none]", "f:5: issuers[0].algorithms[0]: \"none\""),
        ("[ES256]", "ES256", "f:5: issuers[0].algorithms"),
        ("algorithms:", "algorithm:", "f:2: issuers[0].algorithms: is missing"),
        ("{url: https://id.example.com/jwks}", "{}", "f:4: issuers[0].jwks: has neither"),
        (
            "{url: https://id.example.com/jwks}",
            "{url: 'http://id.example.com/'}",
            "f:4: issuers[0].jwks.url: is not encrypted",
        ),
        (
            "{url: https://id.example.com/jwks}",
            "{url: id.example.com}",
            "f:4: issuers[0].jwks.url: is no address",
        ),
        (
            "{url: https://id.example.com/jwks}",
            "{url: 'ftp://id/jwks'}",
            "f:4: issuers[0].jwks.url: is no address",
        ),
        (
            "{url: https://id.example.com/jwks}",
            "{file: nowhere.json}",
            "f:4: issuers[0].jwks.file: nowhere.json: cannot be read",
        ),
        (
            "[ES256]",
            "[ES256]\n  leeway: 6m",
            "f:6: issuers[0].leeway: \"6m\" cannot be understood; write a duration from 0s to 5m",
        ),
        ("[ES256]", "[ES256]\n  refresh: 1s", "f:6: issuers[0].refresh"),
        ("[ES256]", "[ES256]\n  stale: 5m", "f:6: issuers[0].stale"),
        ("issuers:", "token: {header: cookie}\nissuers:", "f:1: token.header"),
        ("issuers:", "token: {cookie: anteroom_pass_shop}\nissuers:", "f:1: token.cookie"),
        ("issuers:", "token: {header: X-User-ID}\nissuers:", "f:1: token: is the header that tells who"),
        ("issuers:", "headers: {id: host}\nissuers:", "f:1: headers.id"),
        ("issuers:", "headers: {id: x-anteroom-user}\nissuers:", "f:1: headers.id"),
        ("issuers:", "headers: {id: 'a b'}\nissuers:", "f:1: headers.id"),
        ("issuers:", "headers: {id: x-u, type: X-U}\nissuers:", "f:1: headers: has one header for both"),
        ("issuers:", "public: [{path: /open*}]\nissuers:", "f:1: public[0].path"),
        (
            "issuers:",
            "public: [{path: /a/../b}]\nissuers:",
            "f:1: public[0].path: \"/a/../b\" is no pattern for paths; paths are compared in their normal form: write /b",
        ),
        ("issuers:", "public: [{methods: [GET]}]\nissuers:", "f:1: public[0].path"),
        ("issuers:", "public: [{path: /, methods: [get]}]\nissuers:", "f:1: public[0].methods[0]"),
        ("issuers:", "publik: []\nissuers:", "f:1: publik: is not a known key; did you mean public?"),
    ] {
        let found = parse_with(replaced, by).unwrap_err();
        assert!(found.iter().any(|told| told.starts_with(expected)), "{expected}: {found:#?}");
    }
    assert!(parse("", Path::new("f")).is_err() && parse("issuers: {}", Path::new("f")).is_err());
    let two = "issuers: [{issuer: a, audiences: [b], algorithms: [ES256], jwks: {url: 'https://a/'}}, \
        {issuer: a, audiences: [c], algorithms: [ES256], jwks: {url: 'https://b/'}}]";
    assert!(parse(two, Path::new("f")).unwrap_err()[0].to_string().contains("is named before"));
}

#[test]
fn an_issuers_own_authorities_are_read_with_the_file() {
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let folder = tempfile::tempdir().unwrap();
    let parse_with = |jwks: &str| {
        let text =
            format!("issuers: [{{issuer: a, audiences: [b], algorithms: [ES256],\n  jwks: {{{jwks}}}}}]");
        let read = parse(&text, &folder.path().join("f"));
        read.map_err(|mistakes| mistakes.iter().map(Mistake::message).collect::<Vec<_>>())
    };
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &authority).unwrap();
    let read = parse_with("url: 'https://a/', ca: ca.pem").unwrap();
    assert!(matches!(&read.issuers[0].jwks, JwksSource::Url { roots: Some(_), .. }));
    assert_eq!(parse_with("url: 'https://a/', ca: ca.pem"), Ok(read), "the same file is the same settings");
    let ca = "issuers[0].jwks.ca: ";
    for (jwks, text, expected) in [
        ("url: 'https://a/', ca: nowhere.pem", &*authority, "nowhere.pem: cannot be read"),
        ("url: 'https://a/', ca: ca.pem", "", "ca.pem: has no certificate in it; name a PEM file"),
        ("url: 'https://a/', ca: ca.pem", "garbage", "ca.pem: has no certificate in it; name a PEM file"),
        ("url: 'https://a/', ca: ca.pem", &authority[..200], "ca.pem: is no sound PEM"),
        ("url: 'https://a/', ca: [ca.pem]", &authority, "is a list"),
        ("url: 'http://a/', insecure: true, ca: ca.pem", &authority, "stands beside an address without TLS"),
        ("file: ca.pem, ca: ca.pem", &authority, "stands beside file"),
    ] {
        std::fs::write(&file, text).unwrap();
        let found = parse_with(jwks).unwrap_err();
        assert!(
            found.iter().any(|told| told.strip_prefix(ca).is_some_and(|told| told.contains(expected))),
            "{expected}: {found:#?}"
        );
    }
}

#[test]
fn an_address_without_encryption_must_be_meant() {
    let url = "{url: https://id.example.com/jwks}";
    for fine in [
        "{url: 'http://127.0.0.1:8080/jwks'}",
        "{url: 'http://localhost/jwks'}",
        "{url: 'http://[::1]:80/jwks'}",
        "{url: 'http://id.mesh.svc/jwks', insecure: true}",
    ] {
        assert!(parse_with(url, fine).is_ok(), "{fine}");
    }
    for wrong in [
        "{url: 'http://127.0.0.1.evil.com/'}",
        "{url: 'http://localhost.evil.com/'}",
        "{url: 'http://10.0.0.1/'}",
    ] {
        assert!(mistake(url, wrong).contains("insecure: true"), "{wrong}");
    }
    let told = mistake(url, "{url: 'https://user:hunter2@id.example.com/'}");
    assert!(!told.contains("hunter2"), "{told}");
}
