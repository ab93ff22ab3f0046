//! Requests that are not a plain GET: preflights, HEAD, upgrades, CONNECT, raw header values.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::Scene;

/// Sends these bytes and gives back what comes until the head of the answer is whole or the connection closed.
pub(crate) async fn raw(port: u16, request: &[u8]) -> String {
    let exchange = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            match socket.read(&mut chunk).await {
                Ok(n @ 1..) => answer.extend_from_slice(&chunk[..n]),
                Ok(0) | Err(_) => break,
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await.expect("an answer within 10 s")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflights_pass_free() {
    let scene = Scene::new("preflights_pass_free").await;
    let _inside = (scene.inside().await, scene.inside().await);
    let (_waiting, _) = scene.in_line().await;
    // An origin that Envoy knows is answered by Envoy; any other goes through the service to the backend.
    for (origin, allowed) in [("http://localhost:3000", true), ("http://unknown.example", false)] {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        let answer = scene.visitor().send(Method::OPTIONS, "/shop", &headers).await;
        assert_eq!(answer.status, 200, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin") == origin, allowed);
        assert!(answer.set_cookie("anteroom_ticket_shop").is_none(), "a preflight takes no place");
    }
    assert_eq!(scene.backend.requests(), 3);
    // OPTIONS alone is no preflight.
    assert_eq!(scene.visitor().send(Method::OPTIONS, "/shop", &[]).await.status, 429);
    // The refusal itself can be read by a script of a known origin.
    let answer = scene.visitor().send(Method::GET, "/shop", &[("origin", "http://localhost:3000")]).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("access-control-allow-origin"), "http://localhost:3000");
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_gets_the_head_only() {
    let scene = Scene::new("head_gets_the_head_only").await;
    let inside = scene.inside().await;
    let _second = scene.inside().await;
    let request = "HEAD /shop HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = raw(scene.ports.public, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("\r\nretry-after: ") && answer.contains("\r\nset-cookie: "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "a body after the head: {answer}");
    assert_eq!(inside.send(Method::HEAD, "/shop", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_waits_like_everybody() {
    let scene = Scene::new("a_websocket_waits_like_everybody").await;
    let _inside = (scene.inside().await, scene.inside().await);
    let request = "GET /shop/live HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = raw(scene.ports.public, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("retry-after"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_and_requests_without_a_path_lead_nowhere() {
    let scene = Scene::new("connect_and_requests_without_a_path_lead_nowhere").await;
    for request in [
        "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET  HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET shop HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        let answer = raw(scene.ports.public, request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 40"), "{request:?}: {answer}");
    }
    assert_eq!(scene.backend.requests(), 0);
    assert_eq!(scene.visitor().get("/shop").await.status, 200, "all is well after it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_header_values_are_read_too() {
    let scene = Scene::with("raw_header_values_are_read_too", |config| {
        config.replace("encode_raw_headers: false", "encode_raw_headers: true")
    })
    .await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    assert_eq!(first.get("/shop").await.status, 200, "its cookie was read");
    let (waiting, _) = scene.in_line().await;
    assert_eq!(waiting.get("/shop").await.json()["position"], 1);
    first.leave().await;
    waiting.enters().await;
}
