//! The answer to Envoy: a verdict rendered as a `CheckResponse`. Pure; what the client sees is decided here.
//!
//! What Envoy does with `CheckResponse.status`: 0 lets the request through (and only then is `ok_response` read);
//! any other code denies it, or with an `error_response` counts as an error of this service. The code itself reaches
//! nobody, but it is set to what a gRPC client is told, so that traces and recordings read the same.

mod denial;
mod metadata;

use denial::Denial;

use super::request::{Grpc, Question};
use crate::cookie::{CookiePolicy, TokenCookie, cookie_values};
use crate::page::View;
use crate::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use crate::pb::envoy::service::auth::v3::check_response::HttpResponse;
use crate::pb::envoy::service::auth::v3::{CheckResponse, OkHttpResponse};
use crate::pb::google::rpc::Status;
use crate::room::decision::{Admission, Verdict};
use crate::room::name::RoomName;
use crate::room::origins::Origins;

/// Request header for the backend: the room.
pub const ROOM_HEADER: &str = "x-anteroom-room";
/// Request header for the backend: the visitor's number.
pub const NUMBER_HEADER: &str = "x-anteroom-number";
/// Request header for the backend: when the pass ends, seconds since the epoch.
pub const EXPIRES_HEADER: &str = "x-anteroom-expires";
/// Request header for the backend, and the way a client without cookies carries it: the pass.
pub const PASS_HEADER: &str = TokenCookie::Pass.header();
/// The way a client without cookies carries its ticket.
pub const TICKET_HEADER: &str = TokenCookie::Ticket.header();

/// Headers a backend may trust. A client's own are removed even where Envoy does not show them to us
/// (`allowed_headers`).
const OUR_HEADERS: [&str; 5] = [ROOM_HEADER, NUMBER_HEADER, EXPIRES_HEADER, PASS_HEADER, TICKET_HEADER];

/// A rendered page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Html {
    /// The document.
    pub body: String,
    /// The `Content-Security-Policy` it needs.
    pub content_security_policy: String,
}

/// Renders a verdict on a question. `origins` are those whose scripts may read a denial; `page` is called at most once, for a browser that has to wait.
pub fn render(
    verdict: &Verdict,
    question: &Question<'_>,
    origins: Option<&Origins>,
    cookies: &CookiePolicy,
    page: &dyn Fn(View<'_>) -> Html,
) -> CheckResponse {
    let mut response = match verdict {
        Verdict::Admit(admission) => ok(admit(admission, question, cookies)),
        Verdict::Bypass(_) => {
            ok(OkHttpResponse { headers_to_remove: foreign_headers(question, &[]), ..Default::default() })
        }
        Verdict::Wait(wait) => {
            Denial::wait(wait, question, cookies, page).readable_by(origins, question).into_response()
        }
        Verdict::Hold { room, status, retry_after } => {
            let denial = Denial::hold(room, *status, *retry_after, question, page);
            denial.readable_by(origins, question).into_response()
        }
        Verdict::Refuse { room, reason } => {
            Denial::refuse(room, *reason, question).readable_by(origins, question).into_response()
        }
        Verdict::Error { message } => {
            Denial::error(message, question).readable_by(origins, question).into_error_response()
        }
    };
    response.dynamic_metadata = Some(metadata::of(verdict));
    response
}

fn ok(ok: OkHttpResponse) -> CheckResponse {
    CheckResponse {
        status: Some(Status { code: tonic::Code::Ok.into(), message: String::new() }),
        http_response: Some(HttpResponse::OkResponse(ok)),
        dynamic_metadata: None,
    }
}

fn admit(admission: &Admission, question: &Question<'_>, cookies: &CookiePolicy) -> OkHttpResponse {
    let Admission { room, place, pass, expires_at, max_age, fresh } = admission;
    let headers = vec![
        set(ROOM_HEADER, room.as_str()),
        set(NUMBER_HEADER, place.number.to_string()),
        set(EXPIRES_HEADER, (expires_at / 1_000).to_string()),
        set(PASS_HEADER, pass.as_str()),
    ];
    let kept = [ROOM_HEADER, NUMBER_HEADER, EXPIRES_HEADER, PASS_HEADER];
    let mut response_headers_to_add = Vec::new();
    if *fresh {
        response_headers_to_add.push(set_cookie(TokenCookie::Pass.set(room, pass, *max_age, cookies)));
        // The ticket has done its work: nobody should line up with it once the pass is over.
        let ticket = TokenCookie::Ticket.name(room);
        if cookie_values(question.cookies(), &ticket).next().is_some() {
            response_headers_to_add.push(set_cookie(TokenCookie::Ticket.clear(room, cookies)));
        }
        if has_no_cookies(question, room) {
            response_headers_to_add.push(set(PASS_HEADER, pass.as_str()));
        }
    }
    OkHttpResponse { headers, headers_to_remove: foreign_headers(question, &kept), response_headers_to_add }
}

/// The `x-anteroom-*` request headers the backend must not get from a client, without those in `kept`: Envoy removes
/// after it has set, so a name in both would be gone.
fn foreign_headers(question: &Question<'_>, kept: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = question.anteroom_headers().map(str::to_ascii_lowercase).collect();
    names.extend(OUR_HEADERS.map(str::to_owned));
    names.retain(|name| !kept.contains(&name.as_str()));
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether tokens must also come as headers. A gRPC client keeps no cookies, nor does whoever shows a token by header
/// and no cookie; a browser does, and its scripts should not see tokens that they do not have.
fn has_no_cookies(question: &Question<'_>, room: &RoomName) -> bool {
    let shows_header = || [PASS_HEADER, TICKET_HEADER].iter().any(|name| question.header(name).is_some());
    let shows_cookie = || {
        let kinds = [TokenCookie::Ticket, TokenCookie::Pass];
        kinds.iter().any(|kind| cookie_values(question.cookies(), &kind.name(room)).next().is_some())
    };
    question.grpc() == Grpc::Native && !question.is_grpc_from_browser() || (shows_header() && !shows_cookie())
}

/// A header that replaces whatever is there.
fn set(name: &str, value: impl Into<String>) -> HeaderValueOption {
    header(name, value.into(), HeaderAppendAction::OverwriteIfExistsOrAdd)
}

/// A cookie beside those the backend sets and beside our other one.
fn set_cookie(value: String) -> HeaderValueOption {
    header("set-cookie", value, HeaderAppendAction::AppendIfExistsOrAdd)
}

fn header(name: &str, value: String, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value, raw_value: Vec::new() }),
        append_action: action.into(),
        keep_empty_value: false,
    }
}

#[cfg(test)]
mod tests;
