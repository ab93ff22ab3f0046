//! Requests from the scripts of other origins: preflights, what they may read, and what they may not do.

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, COOKIE, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, VARY,
};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Desk, Name};
use crate::cors;
use crate::position::problem::problem;
use crate::room::origins::Grant;
use crate::room::policy::Policy;

/// Answers preflights, and says on every other answer who may read it. What a browser marks as coming from an origin
/// that is not allowed changes nothing.
///
/// Cookies are `SameSite=Lax`, so a foreign site cannot use them; but a neighbour below the same domain could, and any
/// site could have its visitors take places: both are refused by what browsers say of themselves (`Sec-Fetch-Site`).
pub(super) async fn guard(desk: State<Desk>, room: Name, mut request: Request, next: Next) -> Response {
    let sender = Sender::of(request.headers());
    if sender.origin.is_none() {
        return next.run(request).await;
    }
    let policy = match desk.room_in(room).await {
        Ok(room) => room.policy(),
        // What is wrong is told by the call itself.
        Err(_) => None,
    };
    let grant = sender.grant(policy.as_deref());
    if request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        let mut response = StatusCode::NO_CONTENT.into_response();
        add(&mut response, grant.into_iter().flat_map(cors::of_preflight));
        return response;
    }
    if sender.is_refused(policy.as_deref()) && !request.method().is_safe() {
        return refusal();
    }
    if sender.is_elsewhere && grant == Some(Grant::Anonymous) {
        request.headers_mut().remove(COOKIE);
    }
    let mut response = next.run(request).await;
    sender.may_read(&mut response, policy.as_deref());
    response
}

/// Lets every origin read a document that is the same for all.
pub(super) async fn public(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// What a browser says of the page that has sent a request; other clients say nothing.
pub(in crate::position) struct Sender {
    /// Its origin, where it is said; empty: not to be read.
    origin: Option<String>,
    /// Whether another origin's page has sent this. Old browsers, and all of them on plain HTTP, do not say; there
    /// `SameSite` has to do.
    is_elsewhere: bool,
}

impl Sender {
    pub(in crate::position) fn of(headers: &HeaderMap) -> Self {
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default().to_owned());
        Self { origin, is_elsewhere: matches!(site, Some(b"cross-site" | b"same-site")) }
    }

    /// What a room with this policy grants it; no policy: not known yet.
    fn grant(&self, policy: Option<&Policy>) -> Option<Grant<'_>> {
        policy?.allow_origins.grant(self.origin.as_deref()?)
    }

    /// Whether it may change nothing in a room with this policy.
    pub(in crate::position) fn is_refused(&self, policy: Option<&Policy>) -> bool {
        self.is_elsewhere && policy.is_some() && self.grant(policy).is_none()
    }

    /// Says on the answer whether it may be read.
    pub(in crate::position) fn may_read(&self, response: &mut Response, policy: Option<&Policy>) {
        if self.origin.is_some() {
            add(response, self.grant(policy).into_iter().flat_map(cors::of_answer));
        }
    }
}

/// The answer to who is refused.
pub(in crate::position) fn refusal() -> Response {
    let detail = "pages of this origin may not do this; the room's allow_origins would have to name it";
    problem(StatusCode::FORBIDDEN, detail)
}

/// The answer to preflights where only the request itself names the room: everybody may send it, no cookie counts, and
/// the room's policy decides then.
pub(in crate::position) async fn any_preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    add(&mut response, cors::of_preflight(Grant::Anonymous));
    response
}

fn add<'a>(response: &mut Response, headers: impl Iterator<Item = cors::Header<'a>>) {
    let all = response.headers_mut();
    all.append(VARY, HeaderValue::from_static("origin"));
    for (name, value) in headers {
        // Our own texts, and an origin that came as a header's value.
        if let Ok(value) = HeaderValue::from_str(value) {
            all.insert(HeaderName::from_static(name), value);
        }
    }
}
