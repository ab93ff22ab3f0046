//! Live positions through Envoy: what a stream says, and that those who do not read harm nobody.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{SOON, Scene, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_says_position_then_admitted() {
    let scene = Scene::new("a_stream_says_position_then_admitted").await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let (third, _) = scene.in_line().await;
    let mut stream = third.stream().await;
    let event = stream.next(SOON).await.expect("an event");
    assert_eq!((event.name.as_str(), event.data["position"].as_u64()), ("position", Some(1)));
    assert_eq!(event.data["status"], "waiting");
    assert_eq!(event.data["room"], "shop");

    first.leave().await;
    let event = stream.next_named("admitted", SOON).await;
    assert!(["called", "admitted"].contains(&event.data["status"].as_str().unwrap()), "{event:?}");
    assert_eq!(third.get("/shop").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_says_gone_when_the_place_is_given_up() {
    let scene = Scene::new("a_stream_says_gone_when_the_place_is_given_up").await;
    let _inside = (scene.inside().await, scene.inside().await);
    let (front, _) = scene.in_line().await;
    let (behind, _) = scene.in_line().await;
    let (mut of_front, mut of_behind) = (front.stream().await, behind.stream().await);
    assert_eq!(of_behind.next_named("position", SOON).await.data["position"], 2);
    let answer = front.send(reqwest::Method::DELETE, "/anteroom/v1/rooms/shop/ticket", &[]).await;
    assert_eq!(answer.status, 204);
    assert_eq!(of_front.next_named("gone", SOON).await.data["status"], "gone");
    assert_eq!(of_behind.next_named("position", SOON).await.data["position"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_ticket_is_refused() {
    let scene = Scene::new("a_stream_without_a_ticket_is_refused").await;
    let _inside = scene.inside().await;
    for path in ["stream", "position"] {
        let answer = scene.visitor().get(&format!("/anteroom/v1/rooms/shop/{path}")).await;
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(answer.header("content-type").starts_with("application/problem+json"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_or_hang_up_harm_nobody() {
    let scene = Scene::new("clients_that_never_read_or_hang_up_harm_nobody").await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let (waiting, _) = scene.in_line().await;
    let mut stream = waiting.stream().await;
    stream.next_named("position", SOON).await;
    let before = scene.metric("anteroom_streams_open").await;
    assert!(before >= 1.0, "{before}");

    let mut silent = Vec::new();
    for _ in 0..100 {
        let (visitor, _) = scene.in_line().await;
        let ticket = visitor.cookie("anteroom_ticket_shop").unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", scene.ports.public)).await.unwrap();
        let request = format!(
            "GET /anteroom/v1/rooms/shop/stream HTTP/1.1\r\nhost: x\r\ncookie: anteroom_ticket_shop={ticket}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        silent.push(socket);
    }
    until("all streams are open", SOON, || async {
        (scene.metric("anteroom_streams_open").await >= before + 100.0).then_some(())
    })
    .await;

    // The one who listens hears at once, whatever the silent ones do.
    first.leave().await;
    stream.next_named("admitted", Duration::from_secs(5)).await;
    waiting.enters().await;

    drop(silent);
    until("the streams of those who hung up are closed", SOON, || async {
        (scene.metric("anteroom_streams_open").await <= before).then_some(())
    })
    .await;
}
