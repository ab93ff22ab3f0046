//! A site with a waiting room that does what the test says: the page at `/shop`, positions and a stream.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::page::{Lang, Page, View, content_security_policy};
use anteroom::room::name::RoomName;
use anteroom::room::standing::{Eta, Standing, Status};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use futures_util::stream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

const NONCE: &str = "dGVzdC1ub25jZQ==";

/// What the stream does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stream {
    /// Tells every standing.
    Live,
    /// Tells one standing and ends.
    BreaksOff,
    /// Is not there: 404.
    Missing,
}

/// What the site does at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// What page, stream and poll tell; `None` is a store that is out.
    pub(crate) standing: Option<Standing>,
    /// Whether `/shop` lets the visitor in.
    pub(crate) open: bool,
    /// What the page says, if that is not the standing.
    pub(crate) page: Option<Standing>,
    pub(crate) stream: Stream,
    /// The status of a poll.
    pub(crate) poll: u16,
    /// `Retry-After` of a poll, in seconds.
    pub(crate) retry_after: Option<u32>,
    pub(crate) lang: Lang,
    /// The status of a check-in; 200 lets the visitor in.
    pub(crate) enter: u16,
}

/// When requests came, by what they asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pages: Vec<Instant>,
    pub(crate) streams: Vec<Instant>,
    pub(crate) polls: Vec<Instant>,
    /// `Last-Event-ID` of each stream, "" without one.
    pub(crate) last_ids: Vec<String>,
    /// The ticket that came by header with each poll, "" without one.
    pub(crate) tickets: Vec<String>,
    /// What pages said when they were closed.
    pub(crate) farewells: Vec<String>,
    /// The nonce that came with each check-in, "" without one.
    pub(crate) nonces: Vec<String>,
}

struct Inner {
    page: Page,
    script: watch::Sender<Script>,
    seen: Mutex<Seen>,
}

/// The running site; dropping it ends it.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    /// Held for its drop.
    _server: JoinSet<()>,
}

/// Somebody waiting at `position`, to ask again every second.
pub(crate) fn waiting(number: u64, position: u64) -> Standing {
    let eta = Some(Eta { seconds: 180, low: 120, high: 300, confidence: 0.8 });
    let room = RoomName::parse("shop").unwrap();
    Standing { status: Status::Waiting, room, number, position, waiting: position, eta, poll_after: 1 }
}

/// The same visitor with another status.
pub(crate) fn become_(status: Status, number: u64) -> Standing {
    Standing { status, position: 0, eta: None, ..waiting(number, 1) }
}

impl Site {
    pub(crate) async fn start(standing: Standing, stream: Stream) -> Self {
        let script = Script {
            standing: Some(standing),
            open: false,
            page: None,
            stream,
            poll: 200,
            retry_after: None,
            lang: Lang::En,
            enter: 404,
        };
        let inner = Arc::new(Inner {
            page: Page::builtin(),
            script: watch::channel(script).0,
            seen: Mutex::default(),
        });
        let router = Router::new()
            .route("/shop", get(shop))
            .route("/anteroom/v1/rooms/shop/stream", get(events))
            .route("/anteroom/v1/rooms/shop/position", get(position))
            .route("/anteroom/v1/rooms/shop/away", post(away))
            .route("/anteroom/v1/rooms/shop/enter", post(enter))
            .route("/anteroom/v1/anteroom.js", get(client))
            .route("/blank", get(|| async { Html("<!doctype html><title>Blank</title>") }))
            .with_state(Arc::clone(&inner));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        });
        Self { address, inner, _server: server }
    }

    pub(crate) fn shop(&self) -> String {
        format!("http://{}/shop", self.address)
    }

    /// A page without script of its own.
    pub(crate) fn blank(&self) -> String {
        format!("http://{}/blank", self.address)
    }

    pub(crate) fn now(&self, change: impl FnOnce(&mut Script)) {
        self.inner.script.send_modify(change);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.inner.seen.lock().clone()
    }

    /// No two of the page's requests came within a second (less what the network may close up).
    pub(crate) fn assert_never_hammered(&self) {
        let seen = self.seen();
        let mut all = [seen.pages, seen.streams, seen.polls].concat();
        all.sort();
        for pair in all.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(gap >= Duration::from_millis(900), "two requests within {gap:?}");
        }
    }
}

async fn shop(State(site): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    // Only what the visitor's browser loads counts, not what the test fetches to compare.
    if !headers.contains_key("x-test") {
        site.seen.lock().pages.push(Instant::now());
    }
    let script = site.script.borrow().clone();
    if script.open {
        let inside = "<!doctype html><title>Inside</title><h1 id=inside>Inside</h1>";
        return ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], inside).into_response();
    }
    let room = RoomName::parse("shop").unwrap();
    let standing = script.page.or(script.standing);
    let view = match &standing {
        Some(standing) => View::Standing(standing),
        None => View::Hold { room: &room, retry_after: 1 },
    };
    let html = site.page.render(script.lang, &view, NONCE);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::CONTENT_SECURITY_POLICY, content_security_policy(NONCE)),
    ];
    (StatusCode::TOO_MANY_REQUESTS, headers, html).into_response()
}

async fn position(State(site): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    {
        let mut seen = site.seen.lock();
        seen.polls.push(Instant::now());
        seen.tickets.push(text(&headers, "x-anteroom-ticket"));
    }
    let script = site.script.borrow().clone();
    let mut answer = (StatusCode::from_u16(script.poll).unwrap(), Json(script.standing)).into_response();
    if let Some(seconds) = script.retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

async fn enter(State(site): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    site.seen.lock().nonces.push(text(&headers, "x-anteroom-nonce"));
    let script = site.script.borrow().clone();
    let status = StatusCode::from_u16(script.enter).unwrap();
    if status == StatusCode::OK {
        site.script.send_modify(|script| script.open = true);
    }
    let told = script.standing.map(|standing| Standing { status: Status::Admitted, ..standing });
    (status, Json(told)).into_response()
}

async fn away(State(site): State<Arc<Inner>>, said: String) -> StatusCode {
    site.seen.lock().farewells.push(said);
    StatusCode::NO_CONTENT
}

async fn client() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript")], include_str!("../../web/anteroom.js")).into_response()
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
}

async fn events(State(site): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    {
        let mut seen = site.seen.lock();
        seen.streams.push(Instant::now());
        seen.last_ids.push(text(&headers, "last-event-id"));
    }
    let mut script = site.script.subscribe();
    let mode = script.borrow().stream;
    if mode == Stream::Missing {
        return StatusCode::NOT_FOUND.into_response();
    }
    script.mark_changed();
    let told = stream::unfold((script, false), move |(mut script, told_one)| async move {
        if told_one && mode == Stream::BreaksOff {
            return None;
        }
        script.changed().await.ok()?;
        let standing = script.borrow_and_update().standing.clone()?;
        let event = match standing.status {
            Status::Waiting => "position",
            Status::Called | Status::Admitted => "admitted",
            Status::Gone => "gone",
        };
        let id = standing.position;
        let text =
            format!("retry: 1000\nid: {id}\nevent: {event}\ndata: {}\n\n", serde_json::json!(standing));
        Some((Ok::<_, Infallible>(text), (script, true)))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(told)).into_response()
}
