//! The operators' calls are out of visitors' reach.

use reqwest::Method;

use crate::harness::{Scene, visitor};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_through_envoy_leads_to_the_operators_calls() {
    let scene = Scene::new("no_path_through_envoy_leads_to_the_operators_calls").await;
    let _inside = scene.inside().await;
    for path in [
        "/rooms",
        "/rooms/shop",
        "/rooms/shop/pause",
        "/anteroom/rooms",
        "/anteroom/rooms/shop/pause",
        "/anteroom/v1/rooms",
        "/anteroom/v1/rooms/shop",
        "/anteroom/v1/rooms/shop/pause",
        "/anteroom/v1/rooms/shop/reset",
        "/anteroom/../rooms/shop/pause",
        "/anteroom/v1/..%2f..%2frooms/shop/pause",
        "/anteroom//rooms",
        "/metrics",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let token = [("authorization", "Bearer a-token-that-nobody-has")];
            let answer = scene.visitor().send(method.clone(), path, &token).await;
            if path.starts_with("/anteroom/") && !path.contains("..") {
                assert!([404, 405].contains(&answer.status), "{method} {path}: {answer:?}");
            }
            // Whatever else is not Anteroom's is the backend's, or refused by Envoy.
            for word in ["admin-token-file", "\"counts\"", "operators' token", "anteroom_operator_calls"] {
                assert!(!answer.text.contains(word), "{method} {path}: {}", answer.text);
            }
        }
    }
    assert!(scene.metric("anteroom_operator_calls_total").await < 1.0, "none of them was even asked");
    let direct = visitor::plain_client().get(scene.ports.admin_url("/rooms")).send().await.unwrap();
    assert_eq!(direct.status(), 403, "where they belong, they are refused without a token to show");
    assert!(scene.metric("anteroom_operator_calls_total").await > 0.0);
}
