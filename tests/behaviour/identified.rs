//! Who asks, in the Check: what the backend hears of users, who is refused, and that nobody refused takes a number.

use anteroom::authz::Gate;
use anteroom::identity::public::{PublicPath, PublicPaths, PublicPattern};
use anteroom::pb::envoy::service::auth::v3::check_response::HttpResponse;
use anteroom::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use serde_json::json;

use crate::gate::{ask, by, cookie, headers, question, status};
use crate::identity::{Users, url};
use crate::jwks_server::{JwksServer, Says};
use crate::signer::{Signer, claims_but, jwks};
use crate::world::World;

/// Limits of a room for one.
const ONE: &str = "room=shop capacity=1";

/// A world whose gate knows the users of one issuer.
struct Scene {
    world: World,
    users: Users,
    gate: Gate,
    signer: Signer,
    _server: JwksServer,
}

impl Scene {
    async fn new() -> Self {
        let signer = Signer::es256("a");
        let server = JwksServer::start(Says::Text(jwks(&[&signer]))).await;
        let users = Users::with(url(&server.url()), |settings| {
            let path = PublicPath::parse("/open/*").unwrap();
            settings.public = PublicPaths::new(vec![PublicPattern { methods: vec!["GET".into()], path }]);
        });
        users.is_user(&users.token(&signer, "nobody-yet"), "nobody-yet").await;
        let world = World::new();
        let gate = world.gate_knowing(users.identity.clone());
        Self { world, users, gate, signer, _server: server }
    }

    fn bearer(&self, user: &str) -> String {
        format!("Bearer {}", self.users.token(&self.signer, user))
    }

    async fn ask(&self, words: &str, headers: &[(&str, &str)]) -> CheckResponse {
        ask(&self.gate, question(words, headers)).await
    }
}

fn at(method: &str, path: &str, mut question: CheckRequest) -> CheckRequest {
    let http = question.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    (http.method, http.path) = (method.to_owned(), path.to_owned());
    question
}

fn removed(response: &CheckResponse) -> Vec<String> {
    match response.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(ok) => ok.headers_to_remove.clone(),
        other => panic!("not let in: {other:?}"),
    }
}

fn is_removed(response: &CheckResponse, name: &str) -> bool {
    removed(response).iter().any(|removed| removed == name)
}

#[tokio::test]
async fn the_backend_hears_of_the_user_and_of_nothing_that_the_client_says() {
    let scene = Scene::new().await;
    let now = anteroom::clock::Clock::system().now_ms() / 1_000;
    let vip = format!("Bearer {}", scene.signer.sign(&claims_but("ann", now, &json!({"user_type": "vip"}))));
    let forged = [("x-user-id", "root"), ("X-User-Type", "admin"), ("x_user_id", "root")];
    let with = |token: &str| {
        let all = forged.iter().copied().chain([("authorization", token)]);
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
    };
    for words in ["room=shop capacity=9", "room=shop mode=off capacity=1", ""] {
        let send = async |token: &str| {
            let headers = with(token);
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            scene.ask(words, &headers).await
        };
        let answer = send(&vip).await;
        let told = headers(&answer);
        assert_eq!((told["x-user-id"].as_str(), told["x-user-type"].as_str()), ("ann", "vip"), "{words}");
        assert!(is_removed(&answer, "x_user_id") && !is_removed(&answer, "x-user-id"), "{words}");

        let answer = send(&scene.bearer("bob")).await;
        assert_eq!(headers(&answer)["x-user-id"], "bob", "{words}");
        assert!(is_removed(&answer, "x-user-type") && !headers(&answer).contains_key("x-user-type"));

        // Removed also where Envoy did not show them.
        for answer in [send("Basic cm9vdDo=").await, scene.ask(words, &[]).await] {
            assert!(!headers(&answer).contains_key("x-user-id"), "{words}");
            assert!(is_removed(&answer, "x-user-id") && is_removed(&answer, "x-user-type"), "{words}");
        }
    }
    // Without an identity file these are no headers of ours.
    let plain = scene.world.gate(10);
    let answer = ask(&plain, question("", &forged)).await;
    assert!(!is_removed(&answer, "x-user-id"));
}

#[tokio::test]
async fn a_token_that_proves_nobody_is_refused_and_takes_no_number() {
    let scene = Scene::new().await;
    let forged = format!("Bearer {}", scene.users.token(&Signer::other_es256("a"), "ann"));
    for _ in 0..5 {
        for token in [forged.as_str(), "Bearer x", "Bearer a.b.c,Bearer d.e.f"] {
            let answer = scene.ask(ONE, &[("authorization", token)]).await;
            assert_eq!(status(&answer), (401, false), "{token}");
            assert_eq!(headers(&answer)["www-authenticate"], "Bearer error=\"invalid_token\"");
            assert!(!headers(&answer).contains_key("set-cookie"));
        }
        let answer = scene.ask("", &[("authorization", &forged)]).await;
        assert_eq!(status(&answer), (200, false), "nothing is stated for it");
        assert!(is_removed(&answer, "x-user-id"));
    }
    let first = scene.ask(ONE, &[("authorization", &scene.bearer("ann"))]).await;
    assert_eq!(headers(&first)["x-anteroom-number"], "1");
}

#[tokio::test]
async fn anonymous_requests_are_refused_where_the_route_says_so_but_on_public_paths() {
    let scene = Scene::new().await;
    let words = "room=shop capacity=100 anonymous=refuse";
    let answer = scene.ask(words, &[]).await;
    assert_eq!((status(&answer), headers(&answer)["www-authenticate"].as_str()), ((401, false), "Bearer"));
    assert_eq!(status(&scene.ask("anonymous=refuse", &[]).await), (401, false), "a route without a room");
    assert_eq!(status(&scene.ask(words, &[("authorization", &scene.bearer("ann"))]).await), (200, false));
    for (method, path, extra, expected) in [
        ("GET", "/open/a", ("accept", "*/*"), 200),
        ("GET", "/open/a", ("authorization", "Bearer x"), 200),
        ("GET", "/shop", ("accept", "*/*"), 401),
        ("GET", "//shop", ("accept", "*/*"), 401),
        ("GET", "/open/../shop", ("accept", "*/*"), 401),
        ("GET", "/open/..;/shop", ("accept", "*/*"), 401),
        ("GET", "/open/..%2Fshop", ("accept", "*/*"), 401),
        ("GET", "/OPEN/a", ("accept", "*/*"), 401),
        ("POST", "/open/a", ("accept", "*/*"), 401),
        ("GET", "/open/a", ("x-http-method-override", "DELETE"), 401),
        ("GET", "/open/a", ("X-Method-Override", "post"), 401),
        ("GET", "/open/a", ("x-http-method", "GET"), 200),
    ] {
        let answer = ask(&scene.gate, at(method, path, question(words, &[extra]))).await;
        assert_eq!(status(&answer), (expected, false), "{method} {path} {extra:?}");
        assert!(expected != 200 || is_removed(&answer, "x-user-id"), "{method} {path}");
    }
    // Without an identity file users are those of `jwt_authn`.
    let plain = scene.world.gate(10);
    assert_eq!(status(&ask(&plain, question(words, &[])).await), (401, false));
    assert_eq!(status(&ask(&plain, by("ann", question(words, &[]))).await), (200, false));
}

#[tokio::test]
async fn a_pass_is_not_enough_where_a_user_is_wanted() {
    let scene = Scene::new().await;
    let words = "room=shop capacity=100 anonymous=refuse";
    let ann = scene.bearer("ann");
    let first = scene.ask(words, &[("authorization", &ann)]).await;
    let pass = cookie(&first);
    for _ in 0..3 {
        let answer = scene.ask(words, &[("authorization", &ann), ("cookie", &pass)]).await;
        assert_eq!(headers(&answer)["x-user-id"], "ann");
        assert_eq!(headers(&answer)["x-anteroom-number"], "1");
        let answer = scene.ask(words, &[("cookie", &pass)]).await;
        assert_eq!(status(&answer), (401, false));
        let answer = scene.ask(words, &[("authorization", "Bearer x"), ("cookie", &pass)]).await;
        assert_eq!(status(&answer), (401, false));
    }
    // Where anonymous requests are let in, a bad token is refused beside a good pass too.
    let words = "room=shop capacity=100";
    scene.ask(words, &[("cookie", &pass)]).await;
    let answer = scene.ask(words, &[("authorization", "Bearer x"), ("cookie", &pass)]).await;
    assert_eq!(status(&answer), (401, false));
    assert_eq!(status(&scene.ask(words, &[("cookie", &pass)]).await), (200, false));
}

#[tokio::test]
async fn a_user_has_one_place_whoever_has_verified_the_token() {
    let scene = Scene::new().await;
    let words = "room=shop capacity=0 identity=subject";
    let first = scene.ask(words, &[("authorization", &scene.bearer("ann"))]).await;
    let again = scene.ask(words, &[("authorization", &scene.bearer("ann"))]).await;
    let other = scene.ask(words, &[("authorization", &scene.bearer("bob"))]).await;
    let number = |answer: &CheckResponse| match answer.http_response.as_ref().unwrap() {
        HttpResponse::DeniedResponse(denied) => {
            serde_json::from_str::<serde_json::Value>(&denied.body).unwrap()["number"].clone()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!([&first, &again, &other].map(number), [1, 1, 2]);
    assert_eq!(status(&scene.ask(words, &[]).await), (401, false));
    // Envoy's word counts where no token is shown, and the backend hears of it as well.
    let by_envoy = ask(&scene.gate, by("eve", question("room=shop mode=off capacity=1", &[]))).await;
    assert_eq!(headers(&by_envoy)["x-user-id"], "eve");
    // Also beside a token of an issuer whom only Envoy knows; but not beside one that is forged.
    let now = anteroom::clock::Clock::system().now_ms() / 1_000;
    let other = claims_but("eve", now, &json!({"iss": "https://id.example"}));
    let foreign = format!("Bearer {}", scene.signer.sign(&other));
    let forged = format!("Bearer {}", Signer::other_es256("a").sign(&claims_but("eve", now, &json!({}))));
    for (token, expected) in [(&foreign, 200), (&forged, 401)] {
        let asked = question("room=shop mode=off capacity=1", &[("authorization", token)]);
        let answer = ask(&scene.gate, by("eve", asked)).await;
        assert_eq!(status(&answer), (expected, false));
        assert!(expected != 200 || headers(&answer)["x-user-id"] == "eve");
    }
    let forged = scene.ask("room=shop mode=off capacity=1", &[("x-user-id", "eve")]).await;
    assert!(is_removed(&forged, "x-user-id"));
}

#[tokio::test]
async fn whoever_cannot_be_recognised_for_the_moment_is_told_to_come_again() {
    let signer = Signer::es256("a");
    let server = JwksServer::start(Says::Nothing).await;
    let users = Users::of_server(&server);
    let gate = World::new().gate_knowing(users.identity.clone());
    let token = format!("Bearer {}", users.token(&signer, "ann"));
    let answer = ask(&gate, question(ONE, &[("authorization", &token)])).await;
    assert_eq!((status(&answer), headers(&answer)["retry-after"].as_str()), ((503, false), "5"));
    assert_eq!(status(&ask(&gate, question(ONE, &[])).await), (200, false), "others are not held up");
}
