//! Check-in with a nonce: a request that was recorded and is sent again gives nothing.

use reqwest::Method;

use crate::harness::browser::Browser;
use crate::harness::visitor::{Answer, Visitor};
use crate::harness::{SOON, Scene, until};

const ENTER: &str = "/anteroom/v1/rooms/shop/enter";

async fn scene(test: &str) -> Scene {
    let limits = [("capacity", "1"), ("rate", "100/s"), ("claim_ttl", "60s"), ("checkin", "nonce")];
    Scene::with(test, |config| config.limits(&limits)).await
}

async fn enter(visitor: &Visitor, ticket: &str, nonce: &str) -> Answer {
    let headers = [("x-anteroom-ticket", ticket), ("x-anteroom-nonce", nonce)];
    visitor.send(Method::POST, ENTER, &headers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_request_gives_nothing_when_it_is_sent_again() {
    let scene = scene("a_recorded_request_gives_nothing_when_it_is_sent_again").await;
    let first = scene.inside().await;
    let (visitor, _) = scene.in_line().await;
    let ticket = visitor.cookie("anteroom_ticket_shop").expect("a ticket");
    let nonce = uuid::Uuid::new_v4().to_string();
    assert_eq!(enter(&visitor, &ticket, &nonce).await.status, 403, "not called yet");
    first.leave().await;
    until("the turn has come", SOON, || async {
        (visitor.get("/shop").await.json()["status"] == "called").then_some(())
    })
    .await;

    // Whoever has recorded the Checks of the visitor comes in by none of them.
    let by_cookie = [("cookie", format!("anteroom_ticket_shop={ticket}"))];
    let by_cookie = [(by_cookie[0].0, by_cookie[0].1.as_str())];
    let thief = scene.visitor();
    let replayed = thief.send(Method::GET, "/shop", &by_cookie).await;
    assert_eq!((replayed.status, &replayed.json()["status"]), (429, &"called".into()), "{replayed:?}");
    assert_eq!(visitor.send(Method::POST, ENTER, &[]).await.status, 400, "no nonce");
    let entered = enter(&visitor, &ticket, &nonce).await;
    assert_eq!(entered.status, 200, "{entered:?}");
    assert_eq!(visitor.get("/shop").await.status, 200);

    let replayed = enter(&thief, &ticket, &nonce).await;
    assert_eq!(replayed.status, 409, "{replayed:?}");
    assert!(replayed.set_cookie("anteroom_pass_shop").is_none() && !replayed.text.contains("pass\""));
    let replayed = thief.send(Method::GET, "/shop", &by_cookie).await;
    assert_eq!((replayed.status, replayed.set_cookie("anteroom_pass_shop")), (429, None), "{replayed:?}");
    assert_eq!(scene.backend.requests(), 2, "the first, and the visitor once");
    assert!(!scene.service_log().contains(&nonce), "a nonce in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_checks_in_by_itself() {
    let scene = scene("a_browser_checks_in_by_itself").await;
    let first = scene.inside().await;
    let browser = Browser::at(&scene.ports.url("/shop")).await;
    until("the page shows a position", SOON, || async { browser.text().await.contains('1').then_some(()) })
        .await;
    first.leave().await;
    until("the browser is in the shop", SOON, || async {
        browser.text().await.contains("You are in the shop").then_some(())
    })
    .await;
    browser.client.clone().close().await.unwrap();
}
