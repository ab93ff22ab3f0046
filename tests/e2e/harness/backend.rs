//! The backend behind Envoy: counts the requests that reach it, and tells each what it was told about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::task::JoinHandle;

/// A running backend; ends when dropped.
pub(crate) struct Backend {
    pub(crate) port: u16,
    requests: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", super::ports::free())).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&requests);
        let app = axum::Router::new().fallback(move |request: Request| {
            // Envoy's health probes of a test are not visitors.
            if request.uri().path() != "/healthz" {
                count.fetch_add(1, Ordering::SeqCst);
            }
            async move { answer(&request) }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { port, requests, task }
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

fn answer(request: &Request) -> Response {
    let headers: BTreeMap<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let title = if request.uri().path().to_ascii_lowercase().starts_with("/shop") {
        "You are in the shop"
    } else {
        "Backend"
    };
    let html = headers.get("accept").is_some_and(|accept| accept.contains("text/html"));
    if html {
        let page = format!("<!doctype html><title>{title}</title><h1>{title}</h1>");
        return ([("content-type", "text/html; charset=utf-8")], page).into_response();
    }
    Json(json!({ "title": title, "path": request.uri().path(), "headers": headers })).into_response()
}
