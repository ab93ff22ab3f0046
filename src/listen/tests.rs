//! Binds, serves and overloads real sockets on the loopback.

// Said again for those who tell tests by it.
#[cfg(test)]
mod closing;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures_util::stream::{self, Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::*;
use crate::drain::{DrainError, DrainTimes, Tasks};
use crate::telemetry::metrics::label::ListenerLabel;
use crate::telemetry::metrics::{ListenerMetrics, Metrics};

/// How long anything here may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);
const TIMES: DrainTimes = DrainTimes { lead: Duration::ZERO, grace: Duration::from_millis(300) };

fn metrics() -> ListenerMetrics {
    Metrics::new(0).listener(ListenerLabel::Client)
}

async fn bound() -> (Bound, SocketAddr) {
    let bound = "127.0.0.1:0".parse::<Listen>().unwrap().bind("--test").await.unwrap();
    let Listen::Tcp(address) = *bound.local_addr() else { panic!("{bound:?}") };
    (bound, address)
}

/// A server, and what ends it.
struct Serving {
    address: SocketAddr,
    stop: mpsc::UnboundedSender<&'static str>,
    ended: JoinHandle<Result<(), DrainError>>,
}

impl Serving {
    async fn start(router: Router, limits: Limits, metrics: ListenerMetrics) -> Self {
        let (bound, address) = bound().await;
        let mut tasks = Tasks::new();
        tasks.spawn("http", serve_http(bound, router, limits, metrics, tasks.shutdown()));
        let (stop, stops) = mpsc::unbounded_channel();
        let stops = tokio_stream::wrappers::UnboundedReceiverStream::new(stops);
        let ended = tokio::spawn(tasks.run_until_drained(TIMES, stops));
        Self { address, stop, ended }
    }

    async fn end(self) -> Result<(), DrainError> {
        self.stop.send("the test").unwrap();
        timeout(PATIENCE, self.ended).await.unwrap().unwrap()
    }
}

/// Reads until the server closes; what it sent.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    // A reset ends it as well as an orderly end does.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut received)).await.expect("the server never closed");
    received
}

#[test]
fn addresses_are_read_and_shown() {
    for good in ["127.0.0.1:50051", "[::1]:1", "0.0.0.0:0", "unix:/run/anteroom/authz.sock"] {
        assert_eq!(good.parse::<Listen>().unwrap().to_string(), good);
    }
    let long = format!("unix:/{}", "x".repeat(107));
    for bad in [
        "",
        "50051",
        ":80",
        "localhost:80",
        "127.0.0.1",
        "127.0.0.1:65536",
        "unix:",
        "unix:a",
        "unix:/",
        &long,
    ] {
        assert!(bad.parse::<Listen>().unwrap_err().starts_with("write "), "{bad:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    let (_bound, address) = bound().await;
    let error = Listen::Tcp(address).bind("--client-listen").await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--client-listen"), "{error}");
    assert!(error.contains("stop what listens there"), "{error}");
}

#[tokio::test]
async fn a_unix_socket_replaces_only_one_that_nobody_listens_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let listen = Listen::Unix(path.clone());
    let first = listen.bind("--authz").await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let error = listen.bind("--authz").await.unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse, "{error}");
    assert!(path.exists(), "the live one stays");
    drop(first);
    assert!(!path.exists(), "its file goes with it");

    // A listener of the standard library leaves its file behind, as a killed process does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let second = listen.bind("--authz").await.unwrap();
    // Somebody else's socket in its place is not removed.
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(second);
    assert!(path.exists(), "not ours");

    let file = directory.path().join("notes.txt");
    std::fs::write(&file, "precious").unwrap();
    let error = Listen::Unix(file.clone()).bind("--authz").await.unwrap_err().to_string();
    assert!(error.contains("not a socket") && error.contains("remove that file"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let nowhere = Listen::Unix(directory.path().join("none/a.sock"));
    let error = nowhere.bind("--authz").await.unwrap_err().to_string();
    assert!(error.contains("create the socket's directory"), "{error}");
}

#[tokio::test]
async fn both_versions_of_http_are_served() {
    let router = Router::new().route("/", get(async |version: axum::http::Version| format!("{version:?}")));
    let serving = Serving::start(router, Limits::default(), metrics()).await;
    let url = format!("http://{}/", serving.address);
    let one = reqwest::Client::builder().no_proxy().http1_only().build().unwrap();
    let two = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    assert_eq!(one.get(&url).send().await.unwrap().text().await.unwrap(), "HTTP/1.1");
    assert_eq!(two.get(&url).send().await.unwrap().text().await.unwrap(), "HTTP/2.0");
    // Both clients keep their connections open: the drain must not wait for them.
    serving.end().await.unwrap();
}

#[tokio::test]
async fn clients_that_say_nothing_or_half_are_hung_up_on() {
    let limits = Limits { header_read: Duration::from_millis(100), ..Limits::default() };
    let router = Router::new().route("/", get(async || "hello"));
    let serving = Serving::start(router, limits, metrics()).await;
    for said in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM", "G", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let received = closed(&mut stream).await;
        assert!(!received.windows(5).any(|part| part == b"hello"), "{said:?}: {received:?}");
    }
    serving.end().await.unwrap();
}

#[tokio::test]
async fn clients_that_never_read_are_hung_up_on() {
    let metrics = Metrics::new(0);
    let limits = Limits { write_stall: Duration::from_millis(100), ..Limits::default() };
    let (held, mut released) = mpsc::unbounded_channel::<()>();
    let endless = async move || {
        let held = held.clone();
        let chunk = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
        Body::from_stream(stream::repeat_with(move || {
            let _kept_as_long_as_the_body = &held;
            Ok::<_, Infallible>(chunk.clone())
        }))
    };
    let router = Router::new().route("/", get(endless));
    let serving = Serving::start(router, limits, metrics.listener(ListenerLabel::Client)).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    wait_for(&metrics, r#"anteroom_connections_open{listener="client"} 1"#).await;
    wait_for(&metrics, r#"anteroom_connections_open{listener="client"} 0"#).await;
    serving.end().await.unwrap();
    assert_eq!(timeout(PATIENCE, released.recv()).await, Ok(None), "the body was left behind");
}

async fn wait_for(metrics: &Metrics, line: &str) {
    timeout(PATIENCE, async {
        while !metrics.encode().unwrap().lines().any(|shown| shown == line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never seen: {line}"));
}

#[tokio::test]
async fn connections_past_the_bound_are_closed_at_once_and_counted() {
    let metrics = Metrics::new(0);
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let router = Router::new().route("/", get(async || "hello"));
    let serving = Serving::start(router, limits, metrics.listener(ListenerLabel::Client)).await;
    let first = TcpStream::connect(serving.address).await.unwrap();
    wait_for(&metrics, r#"anteroom_connections_open{listener="client"} 1"#).await;
    let mut second = TcpStream::connect(serving.address).await.unwrap();
    assert_eq!(closed(&mut second).await, b"");
    wait_for(&metrics, r#"anteroom_connections_refused_total{listener="client"} 1"#).await;
    drop(first);
    wait_for(&metrics, r#"anteroom_connections_open{listener="client"} 0"#).await;
    let url = format!("http://{}/", serving.address);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(client.get(url).send().await.unwrap().text().await.unwrap(), "hello");
    serving.end().await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_is_served_until_closing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let bound = Listen::Unix(path.clone()).bind("--test").await.unwrap();
    let mut tasks = Tasks::new();
    let router = Router::new().route("/", get(|| async { "over unix" }));
    tasks.spawn("http", serve_http(bound, router, Limits::default(), metrics(), tasks.shutdown()));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("over unix"), "{answer}");
    let stops = stream::iter(["the test"]).chain(stream::pending());
    tasks.run_until_drained(TIMES, stops).await.unwrap();
    assert!(!path.exists(), "it still listens");
}

/// Says something every few milliseconds, and tells when it is dropped.
struct Chatter {
    progress: Progress,
    timer: Pin<Box<Sleep>>,
    dropped: mpsc::UnboundedSender<()>,
}

impl Stream for Chatter {
    type Item = Result<&'static str, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.timer.as_mut().poll(cx);
        if polled.is_ready() {
            self.timer.as_mut().reset(Instant::now() + Duration::from_millis(5));
        }
        self.progress.made_until(self.timer.deadline());
        polled.map(|()| Some(Ok("on and on and on")))
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        self.dropped.send(()).ok();
    }
}

#[tokio::test]
async fn an_http2_stream_that_is_not_read_is_cut_off_and_no_other() {
    let (dropped, mut cut_off) = mpsc::unbounded_channel();
    let chatter = move || {
        let progress = Progress::of_this_stream(Duration::from_millis(300));
        let timer = Box::pin(sleep(Duration::ZERO));
        let chatter = Chatter { progress, timer, dropped: dropped.clone() };
        async { Body::from_stream(chatter) }
    };
    let serving = Serving::start(Router::new().route("/", get(chatter)), Limits::default(), metrics()).await;
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    // Room for a few words of one stream; the connection has room for all.
    builder.initial_stream_window_size(64).initial_connection_window_size(1 << 20);
    let socket = TcpStream::connect(serving.address).await.unwrap();
    let (mut sender, connection) = builder.handshake(TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let ask = || ::http::Request::get("http://x/").body(String::new()).unwrap();
    let mut read = sender.send_request(ask()).await.unwrap().into_body();
    let unread = sender.send_request(ask()).await.unwrap().into_body();
    let until_cut_off = async {
        loop {
            tokio::select! {
                frame = read.frame() => assert!(frame.unwrap().is_ok(), "the one that is read goes on"),
                gone = cut_off.recv() => return gone.unwrap(),
            }
        }
    };
    timeout(PATIENCE, until_cut_off).await.expect("the silent stream was not cut off");
    for _ in 0..100 {
        timeout(PATIENCE, read.frame()).await.unwrap().unwrap().expect("the other goes on");
    }
    drop((read, unread, sender));
    connection.await.unwrap().unwrap();
    serving.end().await.unwrap();
}
