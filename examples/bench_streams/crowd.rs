//! The visitors: places taken, streams opened, and when each of them was told what.

// Each bench uses a part of it.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anteroom::pb::anteroom::v1 as pb;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use clap::ValueEnum;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::service::Service;

/// Requests of the client under way at once, so that it measures the service and not its own queue.
const AT_ONCE: usize = 256;
/// How long anything may take before the run fails.
const PATIENCE: Duration = Duration::from_mins(2);

/// A kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Server-sent events over HTTP/2
    Sse,
    /// `WatchPosition`
    Grpc,
}

/// Who was told that they are called, by number, and when.
type Call = (u64, Instant);

/// Visitors with places, and later with streams.
pub(crate) struct Crowd {
    senders: Vec<SendRequest<Full<Bytes>>>,
    /// By number, which is their order.
    tickets: Vec<(u64, String)>,
    streams: JoinSet<()>,
    connections: JoinSet<()>,
    words: Arc<AtomicU64>,
    first_words: (mpsc::Sender<()>, mpsc::Receiver<()>),
    called: (mpsc::UnboundedSender<Call>, mpsc::UnboundedReceiver<Call>),
}

impl Crowd {
    /// As many visitors as asked for, each with a place, by the client API on this port.
    pub(crate) async fn join(port: u16, count: u32, connections: u16) -> Self {
        let mut crowd = Self {
            senders: Vec::new(),
            tickets: Vec::new(),
            streams: JoinSet::new(),
            connections: JoinSet::new(),
            words: Arc::default(),
            first_words: mpsc::channel(1_024),
            called: mpsc::unbounded_channel(),
        };
        for _ in 0..connections {
            let sender = crowd.connect(port).await;
            crowd.senders.push(sender);
        }
        let mut joining = JoinSet::new();
        for at in 0..count as usize {
            if joining.len() >= AT_ONCE {
                crowd.tickets.push(joining.join_next().await.unwrap().unwrap());
            }
            let sender = crowd.senders[at % crowd.senders.len()].clone();
            joining.spawn(join(sender));
        }
        while let Some(joined) = joining.join_next().await {
            crowd.tickets.push(joined.unwrap());
        }
        crowd.tickets.sort_unstable();
        crowd
    }

    /// As many connections to another port, for what is opened from now on.
    pub(crate) async fn move_to(&mut self, port: u16) {
        for at in 0..self.senders.len() {
            self.senders[at] = self.connect(port).await;
        }
    }

    async fn connect(&mut self, port: u16) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut builder = Builder::new(TokioExecutor::new());
        builder.initial_connection_window_size(256 << 20).max_concurrent_streams(1 << 20);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        self.connections.spawn(async move {
            // Whoever asks over it hears of its end.
            let _ = connection.await;
        });
        sender
    }

    /// Opens a stream for everybody, and waits until each has said something.
    pub(crate) async fn watch(&mut self, kind: Kind) {
        let count = self.tickets.len();
        let mut heard = 0;
        for (at, (number, ticket)) in std::mem::take(&mut self.tickets).into_iter().enumerate() {
            let mut listener = self.listener(number, kind);
            listener.first = Some(self.first_words.0.clone());
            let sender = self.senders[at % self.senders.len()].clone();
            self.streams.spawn(async move {
                let body = open(sender, kind, &ticket).await;
                drop(ticket);
                listener.listen(body).await;
            });
            if at >= AT_ONCE {
                self.hear_first().await;
                heard += 1;
            }
        }
        for _ in heard..count {
            self.hear_first().await;
        }
    }

    /// Makes everybody ask for their position every so often, until they are called.
    pub(crate) fn poll(&mut self, every: Duration) {
        let begun = Instant::now();
        for (at, (number, ticket)) in std::mem::take(&mut self.tickets).into_iter().enumerate() {
            let listener = self.listener(number, Kind::Sse);
            let mut sender = self.senders[at % self.senders.len()].clone();
            // Spread evenly by the golden ratio, so that neighbours in line do not ask at the same time.
            let mut due = begun + every.mul_f64((at as f64 * 0.618_033_988_749_895).fract());
            self.streams.spawn(async move {
                loop {
                    tokio::time::sleep_until(due.into()).await;
                    let called = listener.is_called(&ask(&mut sender, &ticket).await);
                    listener.note(called);
                    if called {
                        return;
                    }
                    due += every;
                }
            });
        }
    }

    fn listener(&self, number: u64, kind: Kind) -> Listener {
        let (words, called) = (self.words.clone(), self.called.0.clone());
        Listener { number, kind, words, called, first: None }
    }

    /// Fails the run if somebody's stream has ended, or was told something wrong.
    pub(crate) fn all_must_wait(&mut self) {
        if let Some(ended) = self.streams.try_join_next() {
            panic!("nobody was called, and a visitor waits no more: {ended:?}");
        }
    }

    async fn hear_first(&mut self) {
        let first = tokio::time::timeout(PATIENCE, self.first_words.1.recv()).await;
        first.expect("every stream says something at once");
    }

    /// What all streams have said so far.
    pub(crate) fn words(&self) -> u64 {
        self.words.load(Ordering::Relaxed)
    }

    /// Raises the capacity, so that the next `count` are called; how long each of them took to hear of it.
    pub(crate) async fn call(&mut self, service: &Service, capacity: u32, count: u32) -> Vec<Duration> {
        let begun = Instant::now();
        service.state_capacity(capacity).await;
        let mut told = Vec::new();
        for _ in 0..count {
            let heard = tokio::time::timeout(PATIENCE, self.called.1.recv()).await;
            let (number, at) = heard.expect("everybody who is called hears of it").unwrap();
            assert!(
                number <= u64::from(capacity),
                "number {number} was told that it is called, of {capacity}"
            );
            told.push(at.saturating_duration_since(begun));
        }
        told
    }

    /// Ends all streams at once, without a word.
    pub(crate) fn hang_up(&mut self) {
        self.streams.abort_all();
        self.connections.abort_all();
    }
}

async fn join(mut sender: SendRequest<Full<Bytes>>) -> (u64, String) {
    let request = Request::post("http://bench/anteroom/v1/rooms/shop/join").body(Full::default()).unwrap();
    sender.ready().await.unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 201, "everybody gets a place");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (told["number"].as_u64().unwrap(), told["ticket"].as_str().unwrap().to_owned())
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, ticket: &str) -> Bytes {
    let request = Request::get("http://bench/anteroom/v1/rooms/shop/position")
        .header("accept", "application/json")
        .header("cookie", format!("anteroom_ticket_shop={ticket}"));
    sender.ready().await.unwrap();
    let answer = sender.send_request(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200, "every poll is answered");
    answer.into_body().collect().await.unwrap().to_bytes()
}

async fn open(mut sender: SendRequest<Full<Bytes>>, kind: Kind, ticket: &str) -> Incoming {
    let request = match kind {
        Kind::Sse => Request::get("http://bench/anteroom/v1/rooms/shop/stream")
            .header("accept", "text/event-stream")
            .header("cookie", format!("anteroom_ticket_shop={ticket}"))
            .body(Full::default()),
        Kind::Grpc => {
            let message =
                pb::WatchPositionRequest { room: "shop".into(), ticket: ticket.into() }.encode_to_vec();
            let mut framed = BytesMut::new();
            framed.put_u8(0);
            framed.put_u32(u32::try_from(message.len()).unwrap());
            framed.put_slice(&message);
            Request::post("http://bench/anteroom.v1.WaitingRoom/WatchPosition")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::from(framed.freeze()))
        }
    };
    sender.ready().await.unwrap();
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200, "every stream is taken");
    answer.into_body()
}

/// Somebody who listens to a stream.
struct Listener {
    number: u64,
    kind: Kind,
    words: Arc<AtomicU64>,
    called: mpsc::UnboundedSender<Call>,
    first: Option<mpsc::Sender<()>>,
}

impl Listener {
    async fn listen(&mut self, mut body: Incoming) {
        let mut unread = BytesMut::new();
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            unread.extend_from_slice(&data);
            while let Some(called) = self.word(&mut unread) {
                self.note(called);
                if let Some(first) = self.first.take() {
                    first.send(()).await.unwrap();
                }
            }
            // An idle listener holds no buffer: a hundred thousand of them share this machine with the service.
            if unread.is_empty() {
                unread = BytesMut::new();
            }
        }
    }

    fn note(&self, called: bool) {
        self.words.fetch_add(1, Ordering::Relaxed);
        if called {
            self.called.send((self.number, Instant::now())).unwrap();
        }
    }

    /// Whether these words say that the visitor is called. They must be their own.
    fn is_called(&self, told: &[u8]) -> bool {
        let told: serde_json::Value = serde_json::from_slice(told).unwrap();
        assert_eq!(told["number"], self.number, "told of somebody else");
        told["status"] == "called"
    }

    /// The next whole word, if it has come: whether it says that the visitor is called.
    fn word(&self, unread: &mut BytesMut) -> Option<bool> {
        if self.kind == Kind::Sse {
            let end = unread.windows(2).position(|pair| pair == b"\n\n")? + 2;
            let event = unread.split_to(end);
            let event = std::str::from_utf8(&event).unwrap();
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            return Some(data.is_some_and(|data| self.is_called(data.as_bytes())));
        }
        let length = unread.get(1..5)?.get_u32() as usize;
        if unread.len() < 5 + length {
            return None;
        }
        let message = unread.split_to(5 + length);
        let told = pb::WatchPositionResponse::decode(&message[5..]).unwrap().standing.unwrap();
        assert_eq!(told.number, self.number, "told of somebody else");
        Some(told.status() == pb::Status::Called)
    }
}
