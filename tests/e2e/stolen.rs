//! Bound tokens: a copied cookie is worth nothing in another browser or on another network.

use reqwest::Method;

use crate::harness::Scene;
use crate::harness::visitor::{Answer, Visitor};

/// Room for one, its tokens bound to this.
async fn scene(test: &str, bind: &str) -> Scene {
    let limits = [("capacity", "1"), ("rate", "100/s"), ("bind", bind)];
    Scene::with(test, |config| config.limits(&limits)).await
}

/// Asks with this browser.
async fn with(visitor: &Visitor, method: Method, path: &str, browser: &str) -> Answer {
    visitor.send(method, path, &[("user-agent", browser)]).await
}

/// Takes over the cookies of somebody else.
fn copy(from: &Visitor, to: &Visitor) {
    for name in ["anteroom_pass_shop", "anteroom_ticket_shop"] {
        if let Some(cookie) = from.cookie(name) {
            to.set_cookie(name, &cookie);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_bound_to_a_network_is_worth_nothing_on_another() {
    let scene = scene("a_cookie_bound_to_a_network_is_worth_nothing_on_another", "ip").await;
    // Not 127.0.0.1, for which Envoy writes its machine's address.
    let (inside, waiting) = (scene.visitor_from([127, 0, 0, 3]), scene.visitor_from([127, 0, 0, 2]));
    assert_eq!(inside.get("/shop").await.status, 200);
    assert_eq!(waiting.get("/shop").await.json()["number"], 2);

    let neighbour = scene.visitor_from([127, 0, 0, 99]);
    copy(&inside, &neighbour);
    assert_eq!(neighbour.get("/shop").await.status, 200, "the same network");

    for (victim, number) in [(&inside, 3), (&waiting, 4)] {
        let thief = scene.visitor_from([127, 0, 1, 1]);
        copy(victim, &thief);
        // What the client says of its way is not believed.
        let forged = [("x-forwarded-for", "127.0.0.3")];
        let answer = thief.send(Method::GET, "/shop", &forged).await;
        assert_eq!((answer.status, answer.json()["number"].as_u64()), (429, Some(number)), "a newcomer");
        let thief = scene.visitor_from([127, 0, 1, 1]);
        copy(victim, &thief);
        let asked = thief.get("/anteroom/v1/rooms/shop/position").await;
        assert_eq!(asked.status, 401, "{asked:?}");
        let left = thief.send(Method::POST, "/anteroom/v1/rooms/shop/leave", &[]).await;
        assert_eq!(left.status, 401, "a thief gives up nobody's place: {left:?}");
    }
    assert_eq!(inside.get("/shop").await.status, 200);
    assert_eq!(waiting.standing().await["number"], 2);
    assert!(scene.metric("anteroom_tokens_refused_total").await >= 4.0);

    inside.leave().await;
    waiting.enters().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_bound_to_a_browser_is_worth_nothing_in_another() {
    let scene = scene("a_cookie_bound_to_a_browser_is_worth_nothing_in_another", "user_agent").await;
    let (inside, waiting) = (scene.visitor(), scene.visitor());
    assert_eq!(with(&inside, Method::GET, "/shop", "one/1.0").await.status, 200);
    assert_eq!(with(&waiting, Method::GET, "/shop", "two/2.0").await.status, 429);
    for victim in [&inside, &waiting] {
        let thief = scene.visitor();
        copy(victim, &thief);
        let answer = with(&thief, Method::GET, "/shop", "three/3.0").await;
        assert_eq!(answer.status, 429);
        assert!(answer.json()["number"].as_u64() > Some(2), "a newcomer: {answer:?}");
    }
    assert_eq!(with(&inside, Method::GET, "/shop", "one/1.0").await.status, 200);
    let mine = with(&waiting, Method::GET, "/anteroom/v1/rooms/shop/position", "two/2.0").await;
    assert_eq!((mine.status, mine.json()["number"].as_u64()), (200, Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_got_by_the_client_api_is_bound_as_its_ticket_was() {
    let scene = scene("a_pass_got_by_the_client_api_is_bound_as_its_ticket_was", "ip").await;
    let first = scene.inside().await;
    let waiting = scene.visitor();
    let joined = waiting.send(Method::POST, "/anteroom/v1/rooms/shop/join", &[]).await;
    assert_eq!(joined.status, 201, "{joined:?}");
    first.leave().await;
    crate::harness::until("the turn has come", crate::harness::SOON, || async {
        let entered = waiting.send(Method::POST, "/anteroom/v1/rooms/shop/enter", &[]).await;
        (entered.status == 200).then_some(())
    })
    .await;
    let thief = scene.visitor_from([127, 0, 1, 1]);
    copy(&waiting, &thief);
    assert_eq!(thief.get("/shop").await.status, 429);
    assert_eq!(waiting.get("/shop").await.status, 200);
}
