//! Who a user is, through Envoy: what the backend hears, and everything that has been tried to be somebody else.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Scene;
use crate::harness::visitor::Answer;
use crate::protocols::raw;
use crate::signer::{AUDIENCE, ISSUER, Signer, claims, claims_but, jwks};

/// A scene whose service knows the users of one issuer.
struct Known {
    scene: Scene,
    signer: Signer,
    _folder: tempfile::TempDir,
}

impl Known {
    async fn new(test: &str, limits: &[(&str, &str)]) -> Self {
        let (folder, signer) =
            (tempfile::tempdir().unwrap(), Signer::rsa("a", jsonwebtoken::Algorithm::RS256));
        std::fs::write(folder.path().join("jwks.json"), jwks(&[&signer])).unwrap();
        let file = folder.path().join("identity.yaml");
        let text = format!(
            "issuers:\n- {{issuer: '{ISSUER}', audiences: [{AUDIENCE}], jwks: {{file: jwks.json}}, algorithms: [RS256, ES256]}}\n\
             public:\n- {{path: /shop/open/*}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let flag = format!("--identity={}", file.display());
        let cookie = "                - exact: cookie\n";
        let seen = "                - exact: authorization\n";
        let scene = Scene::with_flags(test, &[&flag], |config| {
            config.limits(limits).replace(cookie, &format!("{cookie}{seen}"))
        })
        .await;
        Self { scene, signer, _folder: folder }
    }

    fn bearer(&self, user: &str) -> String {
        format!("Bearer {}", self.signer.sign(&claims(user, now())))
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.scene.visitor().send(Method::GET, path, headers).await
    }
}

pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// What the backend was told under a name.
fn told(answer: &Answer, name: &str) -> Value {
    answer.json()["headers"][name].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_hears_who_asks_from_the_token_and_never_from_the_client() {
    let test = "the_backend_hears_who_asks_from_the_token_and_never_from_the_client";
    let known = Known::new(test, &[("capacity", "100")]).await;
    let vip = known.signer.sign(&claims_but("ann", now(), &json!({"user_type": "vip"})));
    let forged =
        [("X-USER-ID", "root"), ("x-user-id", "root"), ("X-User-Type", "admin"), ("x_user_id", "root")];
    let with = |token: &str| {
        [&forged[..], &[("authorization", token)]]
            .concat()
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect::<Vec<_>>()
    };
    let send = async |path: &str, token: &str| {
        let headers = with(token);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        known.get(path, &headers).await
    };
    let answer = send("/shop", &format!("Bearer {vip}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((told(&answer, "x-user-id"), told(&answer, "x-user-type")), ("ann".into(), "vip".into()));
    assert_eq!(told(&answer, "x_user_id"), Value::Null);

    let answer = send("/shop", &known.bearer("bob")).await;
    assert_eq!((told(&answer, "x-user-id"), told(&answer, "x-user-type")), ("bob".into(), Value::Null));

    // Nobody; and a route that is never checked.
    for path in ["/shop", "/open"] {
        let answer = known.get(path, &forged).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        for name in ["x-user-id", "x-user-type", "x_user_id"] {
            assert_eq!(told(&answer, name), Value::Null, "{path} {name}");
        }
    }
    let log = known.scene.service_log();
    assert!(!log.contains(&vip) && !log.contains("ann"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_proves_nobody_opens_nothing_and_takes_no_number() {
    let test = "a_token_that_proves_nobody_opens_nothing_and_takes_no_number";
    let known = Known::new(test, &[("capacity", "100")]).await;
    let (signer, thief) = (&known.signer, Signer::es256("a"));
    let good = claims("ann", now());
    let header = |change: Value| {
        let mut header = json!({"alg": "RS256", "kid": "a", "typ": "JWT"});
        header.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        header
    };
    let unsigned = signer.sign_with(&header(json!({"alg": "none"})), &good);
    let confused = {
        // HS256 with the public key for a secret.
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = Some("a".to_owned());
        let secret = jsonwebtoken::EncodingKey::from_secret(signer.jwk().to_string().as_bytes());
        jsonwebtoken::encode(&header, &good, &secret).unwrap()
    };
    let mut forged = vec![
        "x".to_owned(),
        format!("{}.", unsigned.rsplit_once('.').unwrap().0),
        unsigned,
        confused,
        thief.sign_with(&json!({"alg": "ES256", "kid": "a"}), &good),
        thief.sign_with(&json!({"alg": "ES256", "jwk": thief.jwk()}), &good),
        thief.sign_with(&json!({"alg": "ES256", "jku": "http://127.0.0.1/jwks.json"}), &good),
        signer.sign_with(&header(json!({"crit": ["exp"]})), &good),
        signer.sign_with(&header(json!({"typ": "logout+jwt"})), &good),
        signer.sign(&claims_but("ann", now(), &json!({"exp": now() - 31}))),
        signer.sign(&claims_but("ann", now(), &json!({"nbf": now() + 60}))),
        signer.sign(&claims_but("ann", now(), &json!({"aud": "another"}))),
        signer.sign(&claims_but("ann", now(), &json!({"iss": "https://evil.example.com/"}))),
        signer.sign(&claims_but("ann", now(), &json!({"sub": "ann\r\nx-user-id: root"}))),
        signer.sign(&claims_but("ann", now(), &json!({"pad": "x".repeat(8_192)}))),
    ];
    let cut = signer.sign(&good);
    forged.push(cut[..cut.len() - 1].to_owned());
    for token in &forged {
        let answer = known.get("/shop", &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!(answer.status, 401, "{token}: {answer:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.set_cookie("anteroom_pass_shop").is_none());
    }
    let two = [("authorization", known.bearer("ann")), ("authorization", known.bearer("bob"))];
    let answer = known.get("/shop", &two.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    assert_eq!(answer.status, 401, "two users at once: {answer:?}");
    assert_eq!(known.scene.backend.requests(), 0);
    let answer = known.get("/shop", &[("authorization", &known.bearer("ann"))]).await;
    assert_eq!(told(&answer, "x-anteroom-number"), "1", "nobody refused took a number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_of_writing_a_path_makes_it_public() {
    let test = "no_way_of_writing_a_path_makes_it_public";
    let known = Known::new(test, &[("capacity", "100"), ("anonymous", "refuse")]).await;
    let answer = known.get("/shop", &[]).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{answer:?}");
    assert_eq!(known.get("/shop", &[("authorization", &known.bearer("ann"))]).await.status, 200);
    assert_eq!(known.get("/shop/open/a", &[]).await.status, 200);
    let overridden = [("x-http-method-override", "DELETE")];
    assert_eq!(known.get("/shop/open/a", &overridden).await.status, 401);
    assert_eq!(known.scene.visitor().send(Method::POST, "/shop/open/a", &[]).await.status, 401);

    let reached = known.scene.backend.requests();
    for path in [
        "/shop/open/../pay",
        "/shop/open/%2e%2e/pay",
        "/shop/open/..;/pay",
        "/shop/open/..;x=1/pay",
        "/shop/open/..%2fpay",
        "/shop/open/..%5cpay",
        "/shop/open/..\\pay",
        "/shop/open/%252e%252e/pay",
        "/shop/open/..%252fpay",
        "/shop/open/..%3b/pay",
        "//shop/pay",
        "/shop//pay",
        "/SHOP/open/../pay",
        "/shop/Open/a",
        "/shop/open",
        "/shop/opens/a",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n\r\n");
        let answer = raw(known.scene.ports.public, request.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        // 307: Envoy wants the slash written plainly, and asks again.
        assert!(["401", "307", "400", "404"].contains(&status), "{path}: {answer}");
    }
    assert_eq!(known.scene.backend.requests(), reached, "nothing came through");
}
