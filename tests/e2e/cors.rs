//! Scripts of other origins through Envoy, whose own `cors` filter knows one of them and the room both.

use reqwest::Method;

use crate::harness::Scene;
use crate::harness::visitor::Answer;

/// Known to Envoy's filter and to the room.
const BOTH: &str = "http://localhost:3000";
/// Known to the room alone.
const ROOMS: &str = "https://app.example.com";
/// Known to nobody.
const EVIL: &str = "https://evil.example.com";

fn all<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

/// Each header once, naming the origin; or none of them.
fn check(answer: &Answer, origin: &str, what: &str) {
    let allowed = origin != EVIL;
    let expected = |value| if allowed { vec![value] } else { vec![] };
    assert_eq!(all(answer, "access-control-allow-origin"), expected(origin), "{what}: {answer:?}");
    assert_eq!(all(answer, "access-control-allow-credentials"), expected("true"), "{what}: {answer:?}");
    for (name, _) in &answer.headers {
        if name.as_str().starts_with("access-control-") {
            assert!(allowed && all(answer, name.as_str()).len() == 1, "{what}: {name} in {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_of_another_origin_reads_its_position_and_no_header_comes_twice() {
    let origins = format!("{BOTH}, {ROOMS}");
    let limits = [("capacity", "1"), ("allow_origins", origins.as_str())];
    let scene = Scene::with("a_script_of_another_origin_reads_its_position", |c| c.limits(&limits)).await;
    let _inside = scene.inside().await;
    for origin in [BOTH, ROOMS, EVIL] {
        let what = |call: &str| format!("{origin} {call}");
        let from = ("origin", origin);
        // From a preflight to leaving, with the token in a header, as across sites no cookie comes along.
        let preflight = [
            from,
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "x-anteroom-ticket"),
        ];
        let answer = scene.visitor().send(Method::OPTIONS, "/anteroom/v1/rooms/shop/enter", &preflight).await;
        assert!([200, 204].contains(&answer.status), "{answer:?}");
        check(&answer, origin, &what("preflight"));
        let allowed = all(&answer, "access-control-allow-headers");
        assert_eq!(allowed.iter().any(|names| names.contains("x-anteroom-ticket")), origin != EVIL);

        let answer = scene.visitor().send(Method::GET, "/shop", &[from]).await;
        assert_eq!(answer.status, 429, "{answer:?}");
        check(&answer, origin, &what("Check"));
        let exposed = all(&answer, "access-control-expose-headers");
        assert_eq!(exposed.iter().any(|names| names.contains("retry-after")), origin != EVIL);
        let body = answer.json();
        let (ticket, number) = (body["ticket"].as_str().unwrap(), &body["number"]);

        let shown = [from, ("x-anteroom-ticket", ticket)];
        let answer = scene.visitor().send(Method::GET, "/anteroom/v1/rooms/shop/position", &shown).await;
        assert_eq!((answer.status, &answer.json()["number"]), (200, number), "{answer:?}");
        check(&answer, origin, &what("position"));
        let answer = scene.visitor().send(Method::POST, "/anteroom/v1/rooms/shop/enter", &shown).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        check(&answer, origin, &what("problem"));
        let site = ("sec-fetch-site", "cross-site");
        let leave = scene
            .visitor()
            .send(Method::POST, "/anteroom/v1/rooms/shop/leave", &[from, site, shown[1]])
            .await;
        assert_eq!(leave.status, if origin == EVIL { 403 } else { 204 }, "{leave:?}");
        check(&leave, origin, &what("leave"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_without_cookies_goes_in_and_stays_in_by_headers() {
    let scene =
        Scene::with("an_app_without_cookies", |c| c.limits(&[("capacity", "1"), ("session_ttl", "4s")]))
            .await;
    let app = scene.visitor();
    let joined = scene.visitor().send(Method::POST, "/anteroom/v1/rooms/shop/join", &[]).await;
    assert_eq!(joined.status, 404, "a room is known from its first Check on: {joined:?}");
    let first = scene.inside().await;
    let answer = scene.visitor().send(Method::POST, "/anteroom/v1/rooms/shop/join", &[]).await;
    let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();
    first.leave().await;
    let entered = crate::harness::until("the app is called and enters", crate::harness::SOON, || async {
        let shown = [("x-anteroom-ticket", ticket.as_str())];
        let answer = scene.visitor().send(Method::POST, "/anteroom/v1/rooms/shop/enter", &shown).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    let pass = entered["pass"].as_str().unwrap().to_owned();
    // Renewed after a quarter of its life: by header too, as it came by one.
    let renewed = crate::harness::until("the pass is renewed", crate::harness::SOON, || async {
        let answer = app.send(Method::GET, "/shop", &[("x-anteroom-pass", &pass)]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        Some(answer.header("x-anteroom-pass").to_owned()).filter(|renewed| !renewed.is_empty())
    })
    .await;
    assert_ne!(renewed, pass);
    let answer = scene.visitor().send(Method::GET, "/shop", &[("x-anteroom-pass", &renewed)]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let left = scene
        .visitor()
        .send(Method::POST, "/anteroom/v1/rooms/shop/leave", &[("x-anteroom-pass", &renewed)])
        .await;
    assert_eq!(left.status, 204, "{left:?}");
}
