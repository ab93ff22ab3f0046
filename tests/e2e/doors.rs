//! The doors that have no `ext_authz`: the same visitors through a real nginx and a real Caddy.

use reqwest::Method;
use serde_json::Value;

use crate::harness::doors::replace;
use crate::harness::visitor::{Answer, Visitor};
use crate::harness::{SOON, Scene, until};
use crate::identity::now;
use crate::protocols::raw;
use crate::signer::{AUDIENCE, ISSUER, Signer, claims, jwks};
use crate::trespass::assert_all_lead_to_the_line;

async fn nginx(test: &str) -> Scene {
    Scene::behind_nginx(test, &[], |config| config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_two_enter_and_the_third_waits_polls_streams_and_enters() {
    the_whole_way(&nginx("nginx_the_whole_way").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_two_enter_and_the_third_waits_polls_streams_and_enters() {
    the_whole_way(&Scene::behind_caddy("caddy_the_whole_way", &[]).await).await;
}

async fn the_whole_way(scene: &Scene) {
    let first = scene.inside().await;
    let answer = first.get("/shop?x=1").await;
    assert_eq!((answer.status, &answer.json()["path"]), (200, &Value::from("/shop")));
    assert!(answer.headers.get("set-cookie").is_none(), "the pass is fresh: {answer:?}");
    let second = scene.inside().await;

    let third = scene.visitor();
    let waits = third.get("/shop").await;
    is_waiting(&waits, 3, 1);
    assert!(waits.set_cookie("anteroom_ticket_shop").is_some(), "{waits:?}");
    assert!(waits.json()["ticket"].is_string(), "for clients without cookies: {waits:?}");
    let again = third.get("/shop").await;
    is_waiting(&again, 3, 1);
    assert!(again.set_cookie("anteroom_ticket_shop").is_none(), "held already: {again:?}");

    // The next number is the next: nobody has taken two for one request.
    let fourth = scene.visitor();
    let html = [("accept", "text/html,*/*;q=0.8"), ("accept-language", "ko")];
    let page = fourth.send(Method::GET, "/shop", &html).await;
    assert_eq!(page.status, 429, "{page:?}");
    assert!(page.header("content-type").starts_with("text/html"), "{page:?}");
    assert!(page.text.contains("lang=\"ko\"") && !page.header("retry-after").is_empty(), "{page:?}");
    assert!(page.header("content-security-policy").contains("nonce-"), "{page:?}");
    assert!(page.set_cookie("anteroom_ticket_shop").is_some(), "{page:?}");
    assert_eq!(
        (&fourth.standing().await["number"], &third.standing().await["position"]),
        (&4.into(), &1.into())
    );
    let cookieless = scene.visitor().send(Method::POST, "/shop", &[("content-type", "text/plain")]).await;
    is_waiting(&cookieless, 5, 3);
    let ticket = cookieless.json()["ticket"].as_str().unwrap().to_owned();
    let by_header = Visitor::new(scene.ports.public);
    let by_header = by_header.send(Method::GET, "/shop", &[("x-anteroom-ticket", &ticket)]).await;
    is_waiting(&by_header, 5, 3);

    let mut stream = third.stream().await;
    assert_eq!(stream.next_named("position", SOON).await.data["position"], 1);
    second.leave().await;
    stream.next_named("admitted", SOON).await;
    third.enters().await;
    let pass = third.cookie("anteroom_pass_shop").expect("a pass");
    assert!(
        third.cookie("anteroom_ticket_shop").is_none_or(|ticket| ticket.is_empty()),
        "it has done its work"
    );
    let inside = third.get("/shop").await;
    assert_eq!((inside.status, &inside.json()["headers"]["x-anteroom-pass"]), (200, &pass.into()));
    assert_eq!(inside.json()["headers"]["x-anteroom-number"], "3");
    assert_eq!(scene.visitor().get("/open").await.status, 200, "nobody waits here");
    assert_eq!(scene.visitor().get("/elsewhere").await.status, 404);
}

fn is_waiting(answer: &Answer, number: u64, position: u64) {
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{answer:?}");
    let told = answer.json();
    assert_eq!((&told["number"], &told["position"]), (&number.into(), &position.into()), "{told}");
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("x-anteroom-")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_lets_nobody_say_who_they_are_or_walk_around() {
    nobody_walks_around(&nginx("nginx_nobody_walks_around").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_lets_nobody_say_who_they_are_or_walk_around() {
    nobody_walks_around(&Scene::behind_caddy("caddy_nobody_walks_around", &[]).await).await;
}

async fn nobody_walks_around(scene: &Scene) {
    let spoofed = [
        ("x-anteroom-room", "spoofed"),
        ("x-anteroom-number", "spoofed"),
        ("x-anteroom-expires", "spoofed"),
        ("x-anteroom-pass", "spoofed"),
        ("x-anteroom-ticket", "spoofed"),
        ("x-anteroom-handed", "spoofed"),
        ("x-user-id", "spoofed"),
        ("x-user-type", "spoofed"),
        ("x_user_id", "spoofed"),
    ];
    let inside = scene.visitor();
    for path in ["/shop", "/shop", "/open"] {
        let answer = inside.send(Method::GET, path, &spoofed).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.text.contains("spoofed"), "{path}: {}", answer.text);
    }
    assert_eq!(inside.get("/shop").await.json()["headers"]["x-anteroom-number"], "1");
    let _second = scene.inside().await;
    let reached = scene.backend.requests();
    let lies = [
        ("x-forwarded-uri", "/open"),
        ("x-forwarded-method", "OPTIONS"),
        ("x-forwarded-host", "elsewhere"),
        ("origin", "http://a.example"),
        ("x-anteroom-room", "other"),
    ];
    assert_eq!(scene.visitor().send(Method::GET, "/shop", &lies).await.status, 429);
    for path in
        ["/anteroom/v1/auth?room=shop", "/anteroom/v1/auth?door=nginx&room=shop", "/anteroom-ask/shop"]
    {
        assert_eq!(scene.visitor().send(Method::GET, path, &lies).await.status, 404, "{path}");
    }
    assert_all_lead_to_the_line(scene).await;
    assert_eq!(scene.backend.requests(), reached, "only the two inside reached the backend");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_and_caddy_the_backend_hears_who_asks_from_the_token() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::es256("a"));
    std::fs::write(folder.path().join("jwks.json"), jwks(&[&signer])).unwrap();
    let file = folder.path().join("identity.yaml");
    let text = format!(
        "issuers:\n- {{issuer: '{ISSUER}', audiences: [{AUDIENCE}], jwks: {{file: jwks.json}}, algorithms: [ES256]}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let flag = format!("--identity={}", file.display());
    let bearer = format!("Bearer {}", signer.sign(&claims("ann", now())));
    for scene in [
        Scene::behind_nginx("nginx_hears_who_asks", &[&flag], |config| config).await,
        Scene::behind_caddy("caddy_hears_who_asks", &[&flag]).await,
    ] {
        let spoofed = [("x-user-id", "root"), ("X-USER-TYPE", "root"), ("authorization", bearer.as_str())];
        let visitor = scene.visitor();
        for _ in 0..2 {
            let answer = visitor.send(Method::GET, "/shop", &spoofed).await;
            let headers = &answer.json()["headers"];
            assert_eq!((answer.status, &headers["x-user-id"]), (200, &"ann".into()), "{answer:?}");
            assert!(headers["x-user-type"].is_null(), "{headers}");
        }
        let nobody = visitor.send(Method::GET, "/shop", &spoofed[..2]).await;
        let headers = &nobody.json()["headers"];
        assert!(nobody.status == 200 && headers["x-user-id"].is_null(), "{headers}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_hands_on_heads_bodies_and_upgrades() {
    heads_bodies_and_upgrades(&nginx("nginx_heads_bodies_and_upgrades").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_hands_on_heads_bodies_and_upgrades() {
    heads_bodies_and_upgrades(&Scene::behind_caddy("caddy_heads_bodies_and_upgrades", &[]).await).await;
}

async fn heads_bodies_and_upgrades(scene: &Scene) {
    let inside = scene.inside().await;
    let _second = scene.inside().await;
    let pass = inside.cookie("anteroom_pass_shop").unwrap();
    let body = "x".repeat(200_000);
    let chunked = format!(
        "POST /shop/upload HTTP/1.1\r\nhost: localhost\r\nx-anteroom-pass: {pass}\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let answer = raw(scene.ports.public, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let socket = format!(
        "GET /shop/ws HTTP/1.1\r\nhost: localhost\r\nx-anteroom-pass: {pass}\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let answer = raw(scene.ports.public, socket.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let head = "HEAD /shop HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = raw(scene.ports.public, head.as_bytes()).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 429") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("\r\nretry-after: ") && answer.contains("\r\nset-cookie: "), "{answer}");
    let unread = format!(
        "POST /shop HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = raw(scene.ports.public, unread.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    let socket = socket.replace(&pass, "none");
    let answer = raw(scene.ports.public, socket.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert_eq!(scene.backend.requests(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_says_so_when_anteroom_is_gone_and_goes_on_when_it_is_back() {
    gone_and_back(nginx("nginx_gone_and_back").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_says_so_when_anteroom_is_gone_and_goes_on_when_it_is_back() {
    gone_and_back(Scene::behind_caddy("caddy_gone_and_back", &[]).await).await;
}

async fn gone_and_back(mut scene: Scene) {
    let inside = scene.inside().await;
    let _second = scene.inside().await;
    let (waiting, _) = scene.in_line().await;
    scene.kill_service();
    for visitor in [&inside, &waiting, &scene.visitor()] {
        let answer = visitor.get("/shop").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{answer:?}");
    }
    assert_eq!(scene.visitor().get("/open").await.status, 200);
    scene.restart_service().await;
    assert_eq!(inside.get("/shop").await.status, 200);
    assert_eq!(waiting.standing().await["position"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_lets_all_in_without_anteroom_where_it_is_told_to() {
    let mut scene = Scene::behind_nginx("nginx_lets_all_in_without_anteroom", &[], |config| {
        let config = replace(&config, "# proxy_intercept_errors on;", "proxy_intercept_errors on;");
        let line = "error_page 500 502 503 504 = @anteroom_open;";
        let config = replace(&config, &format!("# {line}"), line);
        replace(&config, "# location @anteroom_open {", "location @anteroom_open {")
    })
    .await;
    let _inside = (scene.inside().await, scene.inside().await);
    let (waiting, _) = scene.in_line().await;
    scene.kill_service();
    assert_eq!((waiting.get("/shop").await.status, scene.visitor().get("/shop").await.status), (200, 200));
    scene.restart_service().await;
    until("the line is in force again", SOON, || async {
        (scene.visitor().get("/shop").await.status == 429).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_nginx_costs_nobody_their_place_or_stream() {
    let scene = nginx("a_reload_of_nginx_costs_nobody_their_place").await;
    let first = scene.inside().await;
    let _second = scene.inside().await;
    let (waiting, _) = scene.in_line().await;
    let mut stream = waiting.stream().await;
    stream.next_named("position", SOON).await;
    scene.proxy().hang_up();
    // nginx closes idle connections.
    assert_eq!(waiting.anew().standing().await["position"], 1);
    is_waiting(&waiting.anew().get("/shop").await, 3, 1);
    first.anew().leave().await;
    stream.next_named("admitted", SOON).await;
    waiting.anew().enters().await;
}
