//! The backend behind Envoy: counts the requests that reach it, and tells each what it was told about it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A running backend; it and its connections end when it is dropped.
pub(crate) struct Backend {
    pub(crate) port: u16,
    requests: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", super::ports::free())).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let count = Arc::clone(&count);
                let service = service_fn(move |request: Request<Incoming>| {
                    // The probes of a scene that starts are not visitors.
                    if request.uri().path() != "/healthz" {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    async move { Ok::<_, Infallible>(answer(request).await) }
                });
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, requests, task }
    }

    /// The origin of the pages it serves by itself, without Envoy.
    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many requests have reached it.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(request: Request<Incoming>) -> Response<String> {
    let (request, body) = request.into_parts();
    // Read to its end, so that whoever sends it is not cut off.
    let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
    let headers: BTreeMap<_, _> = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let path = request.uri.path();
    // The example, as the demo serves it, and a page for scripts of the tests.
    let page = match path {
        "/open/spa" => Some(include_str!("../../../web/example/index.html")),
        "/open/blank" => Some("<!doctype html><title>Blank</title>"),
        _ => None,
    };
    if let Some(page) = page {
        return Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .body(page.into())
            .unwrap();
    }
    if headers.get("upgrade").is_some_and(|upgrade| upgrade == "websocket") {
        let switched = Response::builder().status(101).header("upgrade", "websocket");
        return switched.header("connection", "upgrade").body(String::new()).unwrap();
    }
    let shop = path.to_ascii_lowercase().starts_with("/shop");
    let title = if shop { "You are in the shop" } else { "Backend" };
    let html = headers.get("accept").is_some_and(|accept| accept.contains("text/html"));
    let (kind, body) = if html {
        ("text/html; charset=utf-8", format!("<!doctype html><title>{title}</title><h1>{title}</h1>"))
    } else {
        let facts = json!({ "title": title, "path": path, "length": length, "headers": headers });
        ("application/json", facts.to_string())
    };
    Response::builder().header("content-type", kind).body(body).unwrap()
}
