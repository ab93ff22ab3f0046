//! The client HTTP API over a world, and its answers read whole.

use anteroom::position::http::router;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::world::World;

/// The API over a world.
pub(crate) struct Api {
    pub(crate) world: World,
    pub(crate) router: Router,
}

/// An answer, read whole.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Api {
    pub(crate) fn open(words: &str) -> Self {
        let world = World::new();
        world.room(words);
        Self::over(world)
    }

    pub(crate) fn over(world: World) -> Self {
        Self { router: router(world.desk()), world }
    }

    pub(crate) async fn send(&self, call: &str, headers: &[(&str, &str)]) -> Answered {
        self.send_with(call, headers, Body::empty()).await
    }

    pub(crate) async fn send_with(
        &self,
        call: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answered {
        let (method, path) = call.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answered { status: parts.status, headers: parts.headers, body }
    }

    /// A call on the room `shop`, like `POST join`.
    pub(crate) async fn shop(&self, call: &str, headers: &[(&str, &str)]) -> Answered {
        let (method, path) = call.split_once(' ').unwrap();
        self.send(&format!("{method} /anteroom/v1/rooms/shop/{path}"), headers).await
    }

    /// `POST` of a body to a call on the room `shop`; no `content-type` where the kind is empty.
    pub(crate) async fn post(&self, path: &str, kind: &str, body: impl Into<Body>) -> Answered {
        let kind = [("content-type", kind)];
        let headers = if kind[0].1.is_empty() { &[][..] } else { &kind };
        self.send_with(&format!("POST /anteroom/v1/rooms/shop/{path}"), headers, body).await
    }
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn cookies(&self) -> Vec<&str> {
        self.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect()
    }

    pub(crate) fn token(&self, kind: &str) -> String {
        self.json()[kind].as_str().unwrap_or_else(|| panic!("no {kind} in {}", self.body)).to_owned()
    }

    pub(crate) fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("cache-control"), "no-store");
        self
    }

    /// An RFC 9457 problem document of this status.
    pub(crate) fn is_problem(&self, status: u16) -> &Self {
        self.is(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!((&body["type"], &body["status"]), (&"about:blank".into(), &status.into()));
        assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()), "{body}");
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
        self
    }
}
