//! Getting in: the first enter, the others wait in line, and a place that frees goes to the visitor in front.

use std::time::Duration;

use reqwest::Method;

use crate::harness::{SOON, Scene, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_enter_and_the_third_waits() {
    let scene = Scene::new("two_enter_and_the_third_waits").await;
    let (first, second) = (scene.inside().await, scene.inside().await);

    let third = scene.visitor();
    let answer = third.get("/shop").await;
    assert_eq!(answer.status, 429);
    let retry_after: u32 = answer.header("retry-after").parse().expect("Retry-After in seconds");
    assert!((1..=60).contains(&retry_after), "{retry_after}");
    assert!(answer.header("cache-control").contains("no-store"));
    let cookie = answer.set_cookie("anteroom_ticket_shop").expect("a ticket cookie").to_lowercase();
    assert!(cookie.contains("httponly") && cookie.contains("samesite=lax"), "{cookie}");
    let standing = answer.json();
    assert_eq!(standing["status"], "waiting");
    assert_eq!(standing["room"], "shop");
    assert_eq!(standing["position"], 1);
    assert_eq!(standing["waiting"], 1);
    assert_eq!(standing["number"], 3);

    let (_, position) = scene.in_line().await;
    assert_eq!(position, 2);
    assert_eq!(third.get("/shop").await.json()["position"], 1, "asking again changes nothing");
    assert_eq!(scene.backend.requests(), 2, "the backend sees only those let in");
    for visitor in [first, second] {
        assert_eq!(visitor.get("/shop/cart").await.status, 200, "inside, one stays inside");
    }
    let log = until("the access log tells verdict and room", SOON, || async {
        let log = scene.envoy_log();
        (log.contains(r#""verdict":"wait""#) && log.contains(r#""room":"shop""#)).then_some(log)
    })
    .await;
    assert!(!log.contains(&third.cookie("anteroom_ticket_shop").unwrap()), "a ticket in the access log");
    assert!(!scene.service_log().contains(&third.cookie("anteroom_ticket_shop").unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_gets_the_page() {
    let scene = Scene::new("a_browser_gets_the_page").await;
    let _inside = (scene.inside().await, scene.inside().await);
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    for (language, word) in [("en-GB,en;q=0.9", "lang=\"en\""), ("ko-KR,ko;q=0.9,en;q=0.5", "lang=\"ko\"")] {
        let headers = [("accept", accept), ("accept-language", language)];
        let answer = scene.visitor().send(Method::GET, "/shop", &headers).await;
        assert_eq!(answer.status, 429);
        assert!(answer.header("content-type").starts_with("text/html"), "{}", answer.header("content-type"));
        assert!(answer.text.contains(word), "{language}: {}", answer.text);
        assert!(answer.set_cookie("anteroom_ticket_shop").is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_given_up_goes_to_the_visitor_in_front() {
    let scene = Scene::new("a_place_given_up_goes_to_the_visitor_in_front").await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let (front, position) = scene.in_line().await;
    assert_eq!(position, 1);
    let (behind, position) = scene.in_line().await;
    assert_eq!(position, 2);

    first.leave().await;
    front.enters().await;
    until("the one behind moves up", SOON, || async {
        (behind.standing().await["position"] == 1).then_some(())
    })
    .await;
    let answer = behind.get("/shop").await;
    assert_eq!((answer.status, answer.json()["position"].as_u64()), (429, Some(1)));

    // Who has left has left: the old cookies open nothing.
    let answer = first.get("/shop").await;
    assert_eq!((answer.status, answer.json()["position"].as_u64()), (429, Some(2)));
    first.leave().await;
    assert_eq!(first.send(Method::DELETE, "/anteroom/v1/rooms/shop/ticket", &[]).await.status, 204);
    assert_eq!(first.send(Method::DELETE, "/anteroom/v1/rooms/shop/ticket", &[]).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_by_time_and_lives_by_use() {
    let limits = [("capacity", "1"), ("session_ttl", "5s"), ("claim_ttl", "20s")];
    let scene = Scene::with("a_session_ends_by_time_and_lives_by_use", |config| config.limits(&limits)).await;
    let first = scene.inside().await;
    let (next, _) = scene.in_line().await;

    // In use, the session outlives its five seconds twice.
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..12 {
        ticks.tick().await;
        assert_eq!(first.get("/shop").await.status, 200);
        assert_eq!(next.get("/shop").await.status, 429);
    }
    next.enters().await;
    let answer = first.get("/shop").await;
    assert_eq!(answer.status, 429, "a pass must not outlive its slot");
    assert_eq!(answer.json()["position"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_not_answered_goes_to_the_next() {
    let limits = [("capacity", "1"), ("session_ttl", "60s"), ("claim_ttl", "1s")];
    let scene = Scene::with("a_call_not_answered_goes_to_the_next", |config| config.limits(&limits)).await;
    let first = scene.inside().await;
    let (absent, _) = scene.in_line().await;
    let (patient, _) = scene.in_line().await;
    first.leave().await;
    // Looking at one's position is not entering; only the one behind asks for /shop.
    patient.enters().await;
    assert_eq!(absent.standing().await["status"], "gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_never_waits() {
    let scene = Scene::new("open_never_waits").await;
    let _inside = (scene.inside().await, scene.inside().await);
    let (waiting, _) = scene.in_line().await;
    for path in ["/open", "/open/more", "/healthz", "/"] {
        assert_eq!(waiting.get(path).await.status, 200, "{path}");
        assert_eq!(scene.visitor().get(path).await.status, 200, "{path}");
    }
    assert_eq!(scene.visitor().get("/elsewhere").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_of_one_visitor_take_one_place() {
    let scene = Scene::new("many_requests_of_one_visitor_take_one_place").await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let (visitor, position) = scene.in_line().await;
    assert_eq!(position, 1);
    let asked = (0..20).map(|_| {
        let visitor = visitor.clone();
        async move { visitor.get("/shop").await }
    });
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!((answer.status, answer.json()["position"].as_u64()), (429, Some(1)));
    }
    let (_, position) = scene.in_line().await;
    assert_eq!(position, 2, "twenty requests hold one place");

    // All at once when the turn has come: one session, and the one behind keeps waiting.
    first.leave().await;
    visitor.enters().await;
    let asked = (0..20).map(|_| {
        let visitor = visitor.clone();
        async move { visitor.get("/shop").await.status }
    });
    assert!(futures_util::future::join_all(asked).await.iter().all(|status| *status == 200));
    until("two inside, one waiting", SOON, || async {
        let (inside, waiting) =
            (scene.metric("anteroom_sessions").await, scene.metric("anteroom_waiting").await);
        ((inside, waiting) == (2.0, 1.0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_may_come_from_route_metadata() {
    let scene = Scene::with("limits_may_come_from_route_metadata", |config| {
        config.limits_as_route_metadata(&[("capacity", "1"), ("session_ttl", "60s")])
    })
    .await;
    let _inside = scene.inside().await;
    let (_, position) = scene.in_line().await;
    assert_eq!(position, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_the_protected_route_can_join_and_enter() {
    let scene = Scene::new("a_client_without_the_protected_route_can_join_and_enter").await;
    // The room is known from the first Check on; its settings are Envoy's.
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let app = scene.visitor();
    let room = "/anteroom/v1/rooms/shop";
    let answer = app.send(Method::POST, &format!("{room}/join"), &[]).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (201, Some("waiting")), "{}", answer.text);
    assert!(answer.json()["ticket"].is_string());
    let answer = app.send(Method::POST, &format!("{room}/join"), &[]).await;
    assert_eq!((answer.status, answer.json()["position"].as_u64()), (200, Some(1)), "the place is kept");
    assert_eq!(app.send(Method::POST, &format!("{room}/enter"), &[]).await.status, 403, "not called yet");
    first.leave().await;
    let entered = until("the app may enter", SOON, || async {
        let answer = app.send(Method::POST, &format!("{room}/enter"), &[]).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    let pass = entered.json()["pass"].as_str().expect("a pass").to_owned();
    // As a header, without any cookie.
    let answer = scene.visitor().send(Method::GET, "/shop", &[("x-anteroom-pass", &pass)]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["headers"]["x-anteroom-room"], "shop");
}
