//! A Check's answer as HTTP, in the form that each proxy can use.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Door, HANDED_PASS, PASS_HEADER, TICKET_HEADER, Unclear};
use crate::authz::request::Question;
use crate::authz::response::Answer;
use crate::authz::response::allowed::{Allowed, Told};
use crate::pb::envoy::service::auth::v3::DeniedHttpResponse;
use crate::pb::envoy::service::auth::v3::check_response::HttpResponse;
use crate::room::decision::Verdict;

/// The `Set-Cookie` of a pass, where a proxy can hand on one value of a header only.
const SET_PASS: HeaderName = HeaderName::from_static("x-anteroom-set-pass");
/// The `Set-Cookie` that drops a ticket, likewise.
const SET_TICKET: HeaderName = HeaderName::from_static("x-anteroom-set-ticket");

/// The answer that needs no page or JSON: for nginx, whoever is not let in.
pub(super) fn in_short(door: Door, verdict: &Verdict) -> Option<Response> {
    let handed = match verdict {
        Verdict::Admit(_) | Verdict::Bypass(_) => return None,
        Verdict::Wait(wait) => wait.ticket.as_ref().map(|(ticket, _)| Cow::from(ticket)),
        Verdict::Refuse { kept, .. } => {
            let fresh = kept.as_ref().filter(|admission| admission.fresh);
            fresh.map(|admission| Cow::from(format!("{HANDED_PASS}{}", admission.pass)))
        }
        Verdict::Hold { .. } | Verdict::Error { .. } => None,
    };
    (door == Door::Nginx).then(|| {
        let mut response = uncached(StatusCode::UNAUTHORIZED, Body::empty());
        // A JWS is always a header value.
        if let Some(handed) = handed.and_then(|token| HeaderValue::from_str(&token).ok()) {
            response.headers_mut().insert(TICKET_HEADER, handed);
        }
        response
    })
}

/// The whole answer.
pub(super) fn in_full(door: Door, answer: Answer<'_>, question: &Question<'_>) -> Response {
    match answer {
        Answer::Allowed(allowed) if door == Door::NginxAnswer => come_in(&allowed, question),
        Answer::Allowed(allowed) => admitted(door, &allowed),
        Answer::Denied(response) => match response.http_response {
            Some(HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied)) => {
                refused(door, denied)
            }
            // A denial always says one of them.
            Some(HttpResponse::OkResponse(_)) | None => {
                uncached(StatusCode::SERVICE_UNAVAILABLE, Body::empty())
            }
        },
    }
}

/// What is wrong with the proxy's question, as a problem document.
pub(super) fn unclear(unclear: &Unclear) -> Response {
    let Unclear { status, detail } = unclear;
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    let mut response = uncached(*status, Body::from(body.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// Let through: headers for the backend, and cookies for the client.
fn admitted(door: Door, allowed: &Allowed<'_>) -> Response {
    let mut response = uncached(StatusCode::OK, Body::empty());
    let headers = response.headers_mut();
    allowed.each_set(|name, value| put(headers, name, value));
    for Told { name, value } in allowed.told() {
        put(headers, name, value);
    }
    if door != Door::Plain {
        let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().cloned().collect();
        response.headers_mut().remove(SET_COOKIE);
        for cookie in cookies {
            let is_pass = cookie.as_bytes().starts_with(b"anteroom_pass_");
            response.headers_mut().insert(if is_pass { SET_PASS } else { SET_TICKET }, cookie);
        }
    }
    response
}

/// The turn came between nginx's two questions: the client asks once more, with the pass.
fn come_in(allowed: &Allowed<'_>, question: &Question<'_>) -> Response {
    let mut response = uncached(StatusCode::TEMPORARY_REDIRECT, Body::empty());
    for Told { name, value } in allowed.told().iter().filter(|told| told.name == SET_COOKIE) {
        put(response.headers_mut(), name, value);
    }
    // `//elsewhere` and `/\elsewhere` would lead to another site.
    let path = question.path_and_query().unwrap_or_default().trim_start_matches(['/', '\\']);
    if let Ok(location) = HeaderValue::try_from(format!("/{path}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Not let through, in the form that the client understands.
fn refused(door: Door, denied: DeniedHttpResponse) -> Response {
    let stated = denied.status.and_then(|status| StatusCode::from_u16(u16::try_from(status.code).ok()?).ok());
    let status = match stated {
        // To these proxies 2xx means "let in", whatever the body says: a `waiting_status` of 200 and gRPC-Web cannot
        // be had from them.
        Some(status) if status.is_success() && door != Door::NginxAnswer => StatusCode::TOO_MANY_REQUESTS,
        Some(status) => status,
        None => StatusCode::FORBIDDEN,
    };
    let mut response = uncached(status, Body::from(denied.body));
    for header in denied.headers.into_iter().filter_map(|option| option.header) {
        put(response.headers_mut(), &header.key, &header.value);
    }
    if door == Door::NginxAnswer {
        // The token shown was handed over by nginx: no word on whether the client keeps cookies. JSON holds it anyway.
        response.headers_mut().remove(TICKET_HEADER);
        response.headers_mut().remove(PASS_HEADER);
    }
    response
}

fn uncached(status: StatusCode, body: Body) -> Response {
    (status, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], body).into_response()
}

/// Puts a Check's header into an answer: cookies beside each other, of others the last.
fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    // Ours are tokens, numbers, checked names and fixed texts: always names and values of headers.
    let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else { return };
    if name == SET_COOKIE {
        headers.append(name, value);
    } else {
        headers.insert(name, value);
    }
}
