//! Those who listen while others storm, and clients for both: HTTP/2 at the client listener, as Envoy speaks it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::beat::Beat;
use crate::redis::{SOON, until_true};

/// Requests under way at once, so that a client does not storm where it should not.
const AT_ONCE: usize = 128;
/// The longest silence of a stream that speaks every second.
const SILENCE: Duration = Duration::from_secs(4);

/// A connection with room for `window` unread bytes of each stream. It ends with `connections`.
pub(super) async fn connect(
    port: u16,
    window: u32,
    connections: &mut JoinSet<()>,
) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    // As Envoy has it: those who do not read must not fill up the connection that they share with others.
    builder.initial_stream_window_size(window).initial_connection_window_size(256 << 20);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    connections.spawn(async move {
        // Whoever asks over it hears of its end.
        let _ = connection.await;
    });
    sender
}

/// The tickets of so many new visitors.
pub(super) async fn join(port: u16, count: usize) -> VecDeque<String> {
    let mut connections = JoinSet::new();
    let sender = connect(port, 1 << 20, &mut connections).await;
    let mut joining = JoinSet::new();
    let mut tickets = VecDeque::new();
    for _ in 0..count {
        if joining.len() >= AT_ONCE {
            tickets.push_back(joining.join_next().await.unwrap().unwrap());
        }
        let mut sender = sender.clone();
        joining.spawn(async move {
            let request = Request::post("http://storm/anteroom/v1/rooms/shop/join").body(Full::default());
            sender.ready().await.unwrap();
            let answer = sender.send_request(request.unwrap()).await.unwrap();
            assert_eq!(answer.status(), 201, "everybody gets a place");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
            told["ticket"].as_str().unwrap().to_owned()
        });
    }
    tickets.extend(joining.join_all().await);
    tickets
}

/// What is answered to who asks for a stream.
pub(super) async fn ask(mut sender: SendRequest<Full<Bytes>>, ticket: &str) -> Response<Incoming> {
    let request = Request::get("http://storm/anteroom/v1/rooms/shop/stream")
        .header("accept", "text/event-stream")
        .header("x-anteroom-ticket", ticket)
        .body(Full::default());
    sender.ready().await.unwrap();
    sender.send_request(request.unwrap()).await.unwrap()
}

/// When each of them heard a word, in beats.
#[derive(Default)]
pub(super) struct Heard(Mutex<Vec<u64>>);

impl Heard {
    pub(super) fn note(&self, beats: &AtomicU64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(beats.load(Ordering::Relaxed));
    }

    fn words(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The longest silence between two words, or after the last one, in beats.
    fn silence(&self, now: u64) -> u64 {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        heard.push(now);
        heard.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(now)
    }
}

/// Visitors who listen, on a connection of their own and on those of others.
pub(super) struct Listeners {
    beat: Beat,
    heard: Vec<Arc<Heard>>,
    tasks: JoinSet<()>,
    connections: JoinSet<()>,
}

impl Listeners {
    /// So many, each with a stream of their own over one connection.
    pub(super) async fn listen(port: u16, count: usize) -> Self {
        let (tasks, connections) = (JoinSet::new(), JoinSet::new());
        let mut listeners = Self { beat: Beat::start(), heard: Vec::new(), tasks, connections };
        let sender = connect(port, 1 << 20, &mut listeners.connections).await;
        for ticket in join(port, count).await {
            let answer = ask(sender.clone(), &ticket).await;
            assert_eq!(answer.status(), 200);
            listeners.take(answer.into_body());
        }
        listeners
    }

    /// One more, who reads this.
    pub(super) fn take(&mut self, mut body: Incoming) {
        let (heard, beats) = (self.one_more(), self.beat.count());
        self.tasks.spawn(async move {
            let mut unread = Vec::new();
            while let Some(Ok(frame)) = body.frame().await {
                unread.extend_from_slice(&frame.into_data().unwrap_or_default());
                while let Some(end) = unread.windows(2).position(|pair| pair == b"\n\n") {
                    let word = String::from_utf8(unread.drain(..end + 2).collect()).unwrap();
                    assert!(word.contains("event: position\n"), "nobody is called here: {word}");
                    heard.note(&beats);
                }
            }
        });
    }

    /// One more, whose words are noted by whoever reads them.
    pub(super) fn one_more(&mut self) -> Arc<Heard> {
        let heard = Arc::new(Heard::default());
        self.heard.push(heard.clone());
        heard
    }

    /// What counts the beats.
    pub(super) fn beats(&self) -> Arc<AtomicU64> {
        self.beat.count()
    }

    /// Waits until each of them has heard so many more words.
    pub(super) async fn until_all_heard(&self, words: usize) {
        let wanted: Vec<_> = self.heard.iter().map(|heard| heard.words() + words).collect();
        until_true("everybody who listens hears more", SOON, || {
            self.heard.iter().zip(&wanted).all(|(heard, wanted)| heard.words() >= *wanted)
        })
        .await;
    }

    /// Fails the test if one of them heard nothing for far longer than the cadence has it.
    pub(super) fn kept_their_cadence(&self) {
        let now = self.beat.now();
        let silence = self.heard.iter().map(|heard| heard.silence(now)).max().unwrap();
        assert!(silence <= Beat::beats(SILENCE), "somebody heard nothing for {silence} beats");
    }
}
