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

/// Answers preflights, and says on every other answer who may read it. What a browser marks as coming from an origin
/// that is not allowed changes nothing.
///
/// Cookies are `SameSite=Lax`, so a foreign site cannot use them; but a neighbour below the same domain could, and any
/// site could have its visitors take places: both are refused by what browsers say of themselves (`Sec-Fetch-Site`).
pub(super) async fn guard(desk: State<Desk>, room: Name, mut request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(ORIGIN).cloned() else { return next.run(request).await };
    let policy = match desk.room_in(room).await {
        Ok(room) => room.policy(),
        // What is wrong is told by the call itself.
        Err(_) => None,
    };
    let origin = origin.to_str().unwrap_or_default();
    let grant = policy.as_ref().and_then(|policy| policy.allow_origins.grant(origin));
    if request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        let mut response = StatusCode::NO_CONTENT.into_response();
        add(&mut response, grant.into_iter().flat_map(cors::of_preflight));
        return response;
    }
    let elsewhere = is_from_elsewhere(request.headers());
    if elsewhere && grant.is_none() && policy.is_some() && !request.method().is_safe() {
        let detail = "pages of this origin may not do this; the room's allow_origins would have to name it";
        return problem(StatusCode::FORBIDDEN, detail);
    }
    if elsewhere && grant == Some(Grant::Anonymous) {
        request.headers_mut().remove(COOKIE);
    }
    let mut response = next.run(request).await;
    add(&mut response, grant.into_iter().flat_map(cors::of_answer));
    response
}

/// Lets every origin read a document that is the same for all.
pub(super) async fn public(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Whether the browser says that another origin's page has sent this. Old ones, and all of them on plain HTTP, say
/// nothing; there `SameSite` has to do.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    matches!(site, Some(b"cross-site" | b"same-site"))
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
