//! What was decided about a request stands in Envoy's access log.

use serde_json::Value;

use crate::harness::visitor::Answer;
use crate::harness::{SOON, Scene, until};

/// The line of the access log about the request that got this answer.
async fn line(scene: &Scene, answer: &Answer) -> Value {
    let id = answer.header("x-request-id");
    assert!(!id.is_empty(), "{answer:?}");
    until("the request is in Envoy's log", SOON, || async {
        let log = scene.envoy_log();
        // The last line may be half written.
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["request_id"] == id)
    })
    .await
}

fn decided(line: &Value) -> (Option<&str>, Option<&str>, Option<f64>) {
    (line["room"].as_str(), line["verdict"].as_str(), line["number"].as_f64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_log_says_room_verdict_and_number() {
    let scene = Scene::new("the_access_log_says_room_verdict_and_number").await;
    let first = scene.visitor();
    let answer = first.get("/shop?card=4711").await;
    assert_eq!(answer.status, 200);
    let told = line(&scene, &answer).await;
    assert_eq!(decided(&told), (Some("shop"), Some("admit"), Some(1.0)), "{told}");
    assert_eq!((&told["status"], &told["path"]), (&200.into(), &"/shop".into()), "{told}");

    // With a pass.
    let told = line(&scene, &first.get("/shop").await).await;
    assert_eq!(decided(&told), (Some("shop"), Some("admit"), Some(1.0)), "{told}");

    let _second = scene.inside().await;
    let answer = scene.visitor().get("/shop").await;
    assert_eq!(answer.status, 429);
    let told = line(&scene, &answer).await;
    assert_eq!(decided(&told), (Some("shop"), Some("wait"), Some(3.0)), "{told}");
    assert_eq!(told["status"], 429, "{told}");

    let answer = scene.visitor().get("/open").await;
    assert_eq!(answer.status, 200);
    let told = line(&scene, &answer).await;
    assert_eq!(decided(&told), (None, None, None), "nobody was asked: {told}");

    let log = scene.envoy_log();
    let pass = first.cookie("anteroom_pass_shop").unwrap();
    assert!(!log.contains("4711") && !log.contains(&pass), "no queries, no tokens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_log_says_that_a_room_is_off() {
    let scene =
        Scene::with("the_access_log_says_that_a_room_is_off", |config| config.limits(&[("mode", "off")]))
            .await;
    let answer = scene.visitor().get("/shop").await;
    assert_eq!(answer.status, 200);
    let told = line(&scene, &answer).await;
    assert_eq!(decided(&told), (None, Some("bypass"), None), "{told}");
}
