//! A real browser as the third visitor: it sees its position and gets in by itself.

use std::time::Duration;

use serde_json::json;

use crate::harness::browser::Browser;
use crate::harness::{SOON, Scene, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_sees_its_position_and_gets_in_by_itself() {
    let limits = [("capacity", "2"), ("session_ttl", "5m"), ("claim_ttl", "60s")];
    let scene = Scene::with("a_browser_sees_its_position_and_gets_in_by_itself", |c| c.limits(&limits)).await;
    let (first, second) = (scene.inside().await, scene.inside().await);
    let (front, _) = scene.in_line().await;
    let browser = Browser::at(&scene.ports.url("/shop")).await;
    let words = |text: &str, word: &str| text.split(|c: char| !c.is_alphanumeric()).any(|each| each == word);
    until("the page shows position 2", SOON, || async { words(&browser.text().await, "2").then_some(()) })
        .await;
    browser.keep_screenshot(&scene.artifacts.join("waiting.png")).await;

    // A mark that a reload would wipe out: the page follows the line without one.
    browser.client.execute("window.stayed = true", vec![]).await.unwrap();
    first.leave().await;
    front.enters().await;
    until("the page shows position 1", SOON, || async { words(&browser.text().await, "1").then_some(()) })
        .await;
    let stayed = browser.client.execute("return window.stayed === true", vec![]).await.unwrap();
    assert_eq!(stayed, json!(true), "the page reloaded to show a new position");
    browser.keep_screenshot(&scene.artifacts.join("moved-up.png")).await;

    second.leave().await;
    until("the browser is in the shop", Duration::from_secs(30), || async {
        browser.text().await.contains("You are in the shop").then_some(())
    })
    .await;
    browser.keep_screenshot(&scene.artifacts.join("inside.png")).await;
    browser.client.clone().close().await.unwrap();
}
