//! SIGTERM while clients have sent halves of requests: they are not waited for, and it is no failure.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::fleet::Fleet;
use crate::redis::{SOON, until};

const JOIN: &str = "/anteroom/v1/rooms/shop/join";
/// It reads a body, for five seconds.
const LEAVE: &str = "/anteroom/v1/rooms/shop/leave";
/// Some 90 KB.
const DOCUMENT: &str = "/anteroom/v1/openapi.json";
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

async fn says(port: u16, what: &str) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(what.as_bytes()).await.unwrap();
    socket
}

/// An HTTP/2 connection with a request whose body never ends.
async fn sends_for_ever(port: u16, path: &str, content: &str, connections: &mut JoinSet<()>) {
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let body = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let (mut sender, connection) =
        Builder::new(TokioExecutor::new()).handshake(TokioIo::new(socket)).await.unwrap();
    let request = Request::post(format!("http://closing{path}")).header("content-type", content);
    let answer = sender.send_request(request.body(body).unwrap());
    connections.spawn(async move {
        // It ends as the service sees fit.
        _ = tokio::join!(connection, answer);
    });
}

#[tokio::test]
async fn half_sent_requests_are_not_waited_for_and_are_no_failure() {
    let mut fleet =
        Fleet::new("closing", "memory", "rooms:\n  shop:\n    capacity: 0\n").with(&["--drain", "30s"]);
    fleet.add("serve");
    let service = &fleet.replicas()[0];
    service.until_ready().await;

    // Idle, as a browser leaves it.
    let idle = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://127.0.0.1:{}{JOIN}", service.http);
    let joined = idle.post(url).send().await.unwrap();
    assert_eq!(joined.status(), 201);
    // Read to its end, so that the connection is kept.
    joined.bytes().await.unwrap();
    let mut connections = JoinSet::new();
    let mut sockets = Vec::new();
    for port in [service.http, service.authz, service.admin] {
        sockets.push(says(port, "GET / HTTP/1.1\r\nhost: a").await);
    }
    let head = "host: a\r\ncontent-type: application/json\r\ncontent-length: 99";
    let half = format!("POST {LEAVE} HTTP/1.1\r\n{head}\r\n\r\n{{");
    sockets.push(says(service.http, &half).await);
    sends_for_ever(service.http, LEAVE, "application/json", &mut connections).await;
    sends_for_ever(service.authz, CHECK, "application/grpc", &mut connections).await;
    until("all are there", SOON, || async {
        // Seven, and the one that asks.
        (service.metric("anteroom_connections_open").await >= 8.0).then_some(())
    })
    .await;

    service.terminate().await;
    let log = service.log();
    assert!(log.contains("2 connections were cut off: without a whole request"), "ext_authz: {log}");
    assert!(log.contains("1 connection was cut off: without a whole request"), "admin: {log}");
    assert!(!log.contains("when time was up"), "nobody was waited for: {log}");
    connections.join_all().await;
    drop((idle, sockets));
}

/// A client that opens its window late, one that watches gRPC health, and one with HTTP/1: each is dealt with as it
/// should be, and nobody is waited for till time is up.
#[tokio::test]
async fn whole_requests_are_finished_and_watchers_of_health_let_go() {
    let mut fleet =
        Fleet::new("watched", "memory", "rooms:\n  shop:\n    capacity: 0\n").with(&["--drain", "30s"]);
    fleet.add("serve");
    let service = &fleet.replicas()[0];
    service.until_ready().await;

    let mut watched = Vec::new();
    for port in [service.authz, service.grpc] {
        let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await;
        let mut health = HealthClient::new(channel.unwrap());
        let mut states = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert!(states.message().await.unwrap().is_some());
        watched.push(states);
    }
    let socket = TcpStream::connect(("127.0.0.1", service.http)).await.unwrap();
    let (mut sender, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1_024)
        .handshake(TokioIo::new(socket))
        .await
        .unwrap();
    let mut connections = JoinSet::new();
    connections.spawn(async move { drop(connection.await) });
    let url = format!("http://closing{DOCUMENT}");
    let answer = sender.send_request(Request::get(url).body(String::new()).unwrap()).await.unwrap();
    let len: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert!(len > 64 * 1024, "more than the window and the buffers before it");

    let http = service.http;
    let late = async {
        until("the drain begins", SOON, || async { (service.admin("/readyz").await.0 == 503).then_some(()) })
            .await;
        // In the lead a connection still works, and ends with its answer.
        let told = reqwest::Client::builder().no_proxy().http1_only().build().unwrap();
        let told = told.get(format!("http://127.0.0.1:{http}{DOCUMENT}")).send().await.unwrap();
        assert_eq!(told.headers()["connection"], "close");
        // Long after the closing, the client begins to read.
        until("nothing new is taken in", SOON, || async {
            TcpStream::connect(("127.0.0.1", http)).await.is_err().then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), len);
    };
    tokio::join!(service.terminate(), late);
    assert!(!service.log().contains("cut off"), "{}", service.log());
    for mut states in watched {
        while states.message().await.is_ok_and(|state| state.is_some()) {}
    }
}
