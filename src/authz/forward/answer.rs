//! A Check's answer as HTTP, in the form that each proxy can use.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Door, TICKET_HEADER, Unclear};
use crate::authz::request::Question;
use crate::pb::envoy::config::core::v3::HeaderValueOption;
use crate::pb::envoy::service::auth::v3::check_response::HttpResponse;
use crate::pb::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use crate::room::decision::Verdict;

/// The `Set-Cookie` of a pass, where a proxy can hand on one value of a header only.
const SET_PASS: HeaderName = HeaderName::from_static("x-anteroom-set-pass");
/// The `Set-Cookie` that drops a ticket, likewise.
const SET_TICKET: HeaderName = HeaderName::from_static("x-anteroom-set-ticket");

/// The answer that needs no page or JSON: for nginx, whoever is not let in.
pub(super) fn in_short(door: Door, verdict: &Verdict) -> Option<Response> {
    let ticket = match verdict {
        Verdict::Admit(_) | Verdict::Bypass(_) => return None,
        Verdict::Wait(wait) => wait.ticket.as_ref().map(|(ticket, _)| ticket),
        Verdict::Hold { .. } | Verdict::Refuse { .. } | Verdict::Error { .. } => None,
    };
    (door == Door::Nginx).then(|| {
        let mut response = uncached(StatusCode::UNAUTHORIZED, Body::empty());
        // A JWS is always a header value.
        if let Some(ticket) = ticket.and_then(|ticket| HeaderValue::from_str(ticket).ok()) {
            response.headers_mut().insert(TICKET_HEADER, ticket);
        }
        response
    })
}

/// The whole answer.
pub(super) fn in_full(door: Door, response: CheckResponse, question: &Question<'_>) -> Response {
    match response.http_response {
        Some(HttpResponse::OkResponse(ok)) if door == Door::NginxAnswer => come_in(ok, question),
        Some(HttpResponse::OkResponse(ok)) => admitted(door, ok),
        Some(HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied)) => {
            refused(door, denied)
        }
        // The gate always says one of them.
        None => uncached(StatusCode::SERVICE_UNAVAILABLE, Body::empty()),
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
fn admitted(door: Door, ok: OkHttpResponse) -> Response {
    let mut response = uncached(StatusCode::OK, Body::empty());
    put(response.headers_mut(), ok.headers);
    put(response.headers_mut(), ok.response_headers_to_add);
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
fn come_in(ok: OkHttpResponse, question: &Question<'_>) -> Response {
    let mut response = uncached(StatusCode::TEMPORARY_REDIRECT, Body::empty());
    let cookies = ok.response_headers_to_add.into_iter();
    let cookies =
        cookies.filter(|option| option.header.as_ref().is_some_and(|header| header.key == "set-cookie"));
    put(response.headers_mut(), cookies.collect());
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
    put(response.headers_mut(), denied.headers);
    if door == Door::NginxAnswer {
        // The ticket shown was handed over by nginx: no word on whether the client keeps cookies. JSON holds it anyway.
        response.headers_mut().remove(TICKET_HEADER);
    }
    response
}

fn uncached(status: StatusCode, body: Body) -> Response {
    (status, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], body).into_response()
}

/// Puts a Check's headers into an answer: cookies beside each other, of others the last.
fn put(headers: &mut HeaderMap, options: Vec<HeaderValueOption>) {
    for header in options.into_iter().filter_map(|option| option.header) {
        // Ours are tokens, numbers, checked names and fixed texts: always names and values of headers.
        let (Ok(name), Ok(value)) = (HeaderName::try_from(header.key), HeaderValue::try_from(header.value))
        else {
            continue;
        };
        if name == SET_COOKIE {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    }
}
