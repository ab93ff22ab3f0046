//! The visitors: places taken, streams opened, and when each of them was told what.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anteroom::pb::anteroom::v1 as pb;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Kind;
use crate::service::Service;

/// Requests of the client under way at once, so that it measures the service and not its own queue.
const AT_ONCE: usize = 256;
/// How long anything may take before the run fails.
const PATIENCE: Duration = Duration::from_mins(2);

/// Who was told that they are called, by number, and when.
type Call = (u64, Instant);

/// Visitors with places, and later with streams.
pub(crate) struct Crowd {
    http: Vec<SendRequest<Full<Bytes>>>,
    grpc: Vec<SendRequest<Full<Bytes>>>,
    /// By number, which is their order.
    tickets: Vec<(u64, String)>,
    streams: JoinSet<()>,
    connections: JoinSet<()>,
    words: Arc<AtomicU64>,
    first_words: (mpsc::Sender<()>, mpsc::Receiver<()>),
    called: (mpsc::UnboundedSender<Call>, mpsc::UnboundedReceiver<Call>),
}

impl Crowd {
    /// As many visitors as asked for, each with a place.
    pub(crate) async fn join(service: &Service, count: u32, connections: u16) -> Self {
        let mut crowd = Self {
            http: Vec::new(),
            grpc: Vec::new(),
            tickets: Vec::new(),
            streams: JoinSet::new(),
            connections: JoinSet::new(),
            words: Arc::default(),
            first_words: mpsc::channel(1_024),
            called: mpsc::unbounded_channel(),
        };
        for _ in 0..connections {
            let (http, grpc) = (crowd.connect(service.http).await, crowd.connect(service.grpc).await);
            crowd.http.push(http);
            crowd.grpc.push(grpc);
        }
        let mut joining = JoinSet::new();
        for at in 0..count as usize {
            if joining.len() >= AT_ONCE {
                crowd.tickets.push(joining.join_next().await.unwrap().unwrap());
            }
            let sender = crowd.http[at % crowd.http.len()].clone();
            joining.spawn(join(sender));
        }
        while let Some(joined) = joining.join_next().await {
            crowd.tickets.push(joined.unwrap());
        }
        crowd.tickets.sort_unstable();
        crowd
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
            let senders = if kind == Kind::Sse { &self.http } else { &self.grpc };
            let mut listener = Listener {
                number,
                kind,
                words: self.words.clone(),
                called: self.called.0.clone(),
                first: Some(self.first_words.0.clone()),
            };
            let sender = senders[at % senders.len()].clone();
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
                self.words.fetch_add(1, Ordering::Relaxed);
                if let Some(first) = self.first.take() {
                    first.send(()).await.unwrap();
                }
                if called {
                    self.called.send((self.number, Instant::now())).unwrap();
                }
            }
            // An idle listener holds no buffer: a hundred thousand of them share this machine with the service.
            if unread.is_empty() {
                unread = BytesMut::new();
            }
        }
    }

    /// The next whole word, if it has come: whether it says that the visitor is called. It must be their own.
    fn word(&self, unread: &mut BytesMut) -> Option<bool> {
        if self.kind == Kind::Sse {
            let end = unread.windows(2).position(|pair| pair == b"\n\n")? + 2;
            let event = unread.split_to(end);
            let event = std::str::from_utf8(&event).unwrap();
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data {
                let told: serde_json::Value = serde_json::from_str(data).unwrap();
                assert_eq!(told["number"], self.number, "told of somebody else");
                return Some(told["status"] == "called");
            }
            return Some(false);
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
