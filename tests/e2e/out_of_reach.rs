//! What is for operators is at the admin listener alone: nothing of it is reached through what clients reach.

use reqwest::{Client, Method};

use crate::harness::visitor::plain_client;
use crate::harness::{SOON, Scene};

/// What the admin listener has, or is likely to get.
const PATHS: [&str; 7] = [
    "/metrics",
    "/readyz",
    "/livez",
    "/debug/profile?seconds=1&format=text",
    "/rooms",
    "/rooms/shop",
    "/rooms/shop/pause",
];

/// Fails the test if this is anything but "there is no such thing".
async fn is_not_there(client: &Client, method: &Method, url: &str) {
    let answer = client.request(method.clone(), url).send().await.unwrap();
    let status = answer.status().as_u16();
    let unimplemented = answer.headers().get("grpc-status").is_some_and(|status| status == "12");
    let text = answer.text().await.unwrap();
    assert!(status == 404 || unimplemented, "{method} {url}: {status}: {text}");
    for word in ["anteroom_", "ready", "ok\n", "/livez"] {
        assert!(!text.contains(word), "{method} {url}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_reach_nothing_of_the_admin_listener() {
    let test = "clients_reach_nothing_of_the_admin_listener";
    let scene = Scene::with_flags(test, &["--profile", "true"], |config| config).await;
    let _inside = scene.inside().await;
    let plain = plain_client();
    for path in &PATHS[..4] {
        let answer = plain.get(scene.ports.admin_url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path} is there for operators");
    }

    let http2 = Client::builder().no_proxy().timeout(SOON).http2_prior_knowledge().build().unwrap();
    let direct = [scene.ports.http, scene.ports.authz, scene.ports.grpc];
    for path in PATHS {
        for method in [Method::GET, Method::POST] {
            for before in ["", "/anteroom", "/anteroom/v1", "/anteroom.v1.WaitingRoom"] {
                is_not_there(&plain, &method, &scene.ports.url(&format!("{before}{path}"))).await;
            }
            is_not_there(&plain, &method, &scene.ports.url(&format!("/anteroom/..%2F{}", &path[1..]))).await;
            for port in direct {
                for client in [&plain, &http2] {
                    is_not_there(client, &method, &format!("http://127.0.0.1:{port}{path}")).await;
                }
            }
        }
    }
}
