//! The polling API that Anteroom replaces, through the real Envoy, nginx and Caddy, at its old path.

use reqwest::Method;
use serde_json::json;

use crate::harness::{SOON, Scene, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_an_old_client_moves_over_without_a_change() {
    old_client(&Scene::new("tracer_envoy").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_an_old_client_moves_over_without_a_change() {
    old_client(&Scene::behind_nginx("tracer_nginx", &[], |config| config).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_an_old_client_moves_over_without_a_change() {
    old_client(&Scene::behind_caddy("tracer_caddy", &[]).await).await;
}

async fn old_client(scene: &Scene) {
    // The room has a policy from its first Check on, where it is not in the rooms file.
    let first = scene.inside().await;
    let _second = scene.inside().await;
    let poll = async |user: &str| {
        let path =
            format!("/tracer?host=shop.example.com&ip=192.0.2.1&loginId={user}&port=443&pageUrl=MENU01");
        // No cookies are kept: each poll is a stranger's.
        let answer = scene.visitor().get(&path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let told = poll("ann").await;
    let domain = format!("127.0.0.1:{}", scene.ports.public);
    assert_eq!(
        told,
        json!({
            "host": "shop.example.com", "ip": "192.0.2.1", "loginId": "ann", "port": "443", "pageUrl": "MENU01",
            "isWait": "T", "waitCnt": 1, "limitCnt": 2, "session_time_out": 30, "waitQueueSize": 1, "waitMyCnt": 1,
            "userAgent": "", "tracer_domain": domain
        })
    );
    let body = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(scene.visitor().send(Method::POST, "/tracer", &body).await.status, 400, "who is it?");
    assert_eq!(poll("bob").await["waitCnt"], 2);
    assert_eq!(poll("ann").await["waitCnt"], 1);
    first.leave().await;
    until("ann may go on", SOON, || async { (poll("ann").await["isWait"] == "F").then_some(()) }).await;
    let told = poll("ann").await;
    assert_eq!((&told["waitCnt"], &told["waitMyCnt"]), (&0.into(), &1.into()));
    let told = poll("bob").await;
    assert_eq!((&told["isWait"], &told["waitCnt"], &told["waitMyCnt"]), (&"T".into(), &1.into(), &2.into()));
}
