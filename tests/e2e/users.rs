//! Users through Envoy: one place for each, by Anteroom's own look at the token and by Envoy's `jwt_authn`; and what
//! becomes of them while their issuer lies.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Scene;
use crate::harness::config::EnvoyConfig;
use crate::harness::visitor::{Answer, Visitor};
use crate::identity::now;
use crate::jwks_server::{JwksServer, Says, lies};
use crate::signer::{AUDIENCE, ISSUER, Signer, claims, claims_but, jwks};

const LIMITS: [(&str, &str); 2] = [("capacity", "1"), ("identity", "subject")];

fn signer() -> Signer {
    Signer::es256("a")
}

/// A scene whose service knows these issuers by these keys; and the folder with the good keys in `jwks.json`.
async fn knowing(
    test: &str,
    limits: &[(&str, &str)],
    issuers: &[(String, String)],
) -> (Scene, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("jwks.json"), jwks(&[&signer()])).unwrap();
    let mut text = "issuers:\n".to_owned();
    for (name, keys) in issuers {
        let entry =
            format!("- {{issuer: '{name}', audiences: [{AUDIENCE}], jwks: {keys}, algorithms: [ES256]}}\n");
        text.push_str(&entry);
    }
    let file = folder.path().join("identity.yaml");
    std::fs::write(&file, text).unwrap();
    let flag = format!("--identity={}", file.display());
    let cookie = "                - exact: cookie\n";
    let shown = format!("{cookie}                - exact: authorization\n");
    let change = |config: EnvoyConfig| config.limits(limits).replace(cookie, &shown);
    (Scene::with_flags(test, &[&flag], change).await, folder)
}

async fn ask(visitor: &Visitor, user: &str) -> Answer {
    let bearer = format!("Bearer {}", signer().sign(&claims(user, now())));
    visitor.send(Method::GET, "/shop", &[("authorization", &bearer)]).await
}

fn number(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 429, "{answer:?}");
    answer.json()["number"].as_u64().unwrap()
}

/// All these visitors have one address.
async fn assert_a_place_is_its_users(scene: &Scene) {
    assert_eq!(ask(&scene.visitor(), "ann").await.status, 200);
    assert_eq!(ask(&scene.visitor(), "ann").await.status, 200, "inside is inside, whatever the browser");

    let (laptop, phone) = (scene.visitor(), scene.visitor());
    assert_eq!((number(&ask(&laptop, "bob").await), number(&ask(&phone, "bob").await)), (2, 2));
    assert_eq!(number(&ask(&scene.visitor(), "cleo").await), 3, "another user behind the same address");
    assert_eq!(number(&ask(&laptop, "bob").await), 2);
    // A browser that somebody else signs in with has that user's place, not the one of its cookie.
    assert_eq!(number(&ask(&laptop, "cleo").await), 3);

    let nobody = scene.visitor().get("/shop").await;
    assert_eq!(nobody.status, 401, "{nobody:?}");
    assert_eq!(scene.backend.requests(), 2, "ann's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_browsers_of_one_user_hold_one_place_and_two_users_two() {
    let test = "two_browsers_of_one_user_hold_one_place_and_two_users_two";
    let (scene, _folder) =
        knowing(test, &LIMITS, &[(ISSUER.to_owned(), "{file: jwks.json}".to_owned())]).await;
    assert_a_place_is_its_users(&scene).await;

    // By the client API they have the same ones.
    let join = async |bearer: Option<&str>| {
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", *bearer)).collect();
        scene.visitor().send(Method::POST, "/anteroom/v1/rooms/shop/join", &headers).await
    };
    for (user, place, status) in [("bob", 2, 200), ("cleo", 3, 200), ("dora", 4, 201)] {
        let joined = join(Some(&format!("Bearer {}", signer().sign(&claims(user, now()))))).await;
        assert_eq!((joined.status, joined.json()["number"].as_u64()), (status, Some(place)), "{joined:?}");
    }
    assert_eq!(number(&ask(&scene.visitor(), "dora").await), 4);
    let forged = format!("Bearer {}", Signer::other_es256("a").sign(&claims("bob", now())));
    for (bearer, how) in [(None, "Bearer"), (Some(&*forged), "Bearer error=\"invalid_token\"")] {
        let refused = join(bearer).await;
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, how), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_envoy_has_verified_has_one_place_too() {
    const HERE: &str = "          # With signed-in users (`identity: subject`), envoy.filters.http.jwt_authn goes here, before ext_authz.\n";
    let keys = Value::from(jwks(&[&signer()]));
    // As its documentation has it; a request without a token goes on, for Anteroom to refuse.
    let filter = format!(
        "          - name: envoy.filters.http.jwt_authn
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
              providers:
                id:
                  issuer: '{ISSUER}'
                  audiences: [{AUDIENCE}]
                  local_jwks: {{ inline_string: {keys} }}
                  payload_in_metadata: payload
              rules:
              - match: {{ prefix: / }}
                requires: {{ requires_any: {{ requirements: [{{ provider_name: id }}, {{ allow_missing: {{}} }}] }} }}
"
    );
    let test = "whom_envoy_has_verified_has_one_place_too";
    let scene = Scene::with(test, |config| config.limits(&LIMITS).replace(HERE, &filter)).await;
    assert_a_place_is_its_users(&scene).await;
    let forged = Signer::other_es256("a").sign(&claims("bob", now()));
    let bearer = format!("Bearer {forged}");
    let answer = scene.visitor().send(Method::GET, "/shop", &[("authorization", &bearer)]).await;
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_lies_makes_nobody_a_user_and_harms_no_others() {
    let keys = jwks(&[&signer()]);
    let elsewhere = JwksServer::start(Says::Text(keys.clone())).await;
    let lies = lies(&keys, &elsewhere);
    let (mut servers, mut issuers) = (Vec::new(), vec![(ISSUER.to_owned(), "{file: jwks.json}".to_owned())]);
    for (number, lie) in lies.iter().enumerate() {
        let server = JwksServer::start(lie.clone()).await;
        issuers.push((format!("https://{number}.example.com/"), format!("{{url: '{}'}}", server.url())));
        servers.push(server);
    }
    let test = "an_issuer_that_lies_makes_nobody_a_user_and_harms_no_others";
    let (scene, _folder) = knowing(test, &[("capacity", "100")], &issuers).await;
    for ((issuer, _), lie) in issuers[1..].iter().zip(&lies) {
        let token = signer().sign(&claims_but("ann", now(), &json!({"iss": issuer})));
        let bearer = format!("Bearer {token}");
        let answer = scene.visitor().send(Method::GET, "/shop", &[("authorization", &bearer)]).await;
        assert_eq!(answer.status, 503, "{lie:?}: {answer:?}");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0, "{lie:?}");
    }
    assert_eq!((scene.backend.requests(), elsewhere.asked()), (0, 0));
    assert_eq!(ask(&scene.visitor(), "ann").await.json()["headers"]["x-anteroom-number"], "1");
    assert_eq!(scene.visitor().get("/shop").await.status, 200);
    // At the start, for a token, and again after a while, each time after a longer one.
    for (server, lie) in servers.iter().zip(&lies) {
        assert!((1..=8).contains(&server.asked()), "{lie:?}: asked {} times", server.asked());
    }
}
