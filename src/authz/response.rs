//! The answer to Envoy: a verdict rendered as a `CheckResponse`. Pure; what the client sees is decided here.
//!
//! What Envoy does with `CheckResponse.status`: 0 lets the request through (and only then is `ok_response` read);
//! any other code denies it, or with an `error_response` counts as an error of this service. The code itself reaches
//! nobody, but it is set to what a gRPC client is told, so that traces and recordings read the same.

pub mod allowed;
mod denial;
mod metadata;

use allowed::Allowed;
use denial::Denial;
use prost::Message as _;

use super::request::{Grpc, Question};
use crate::cookie::{CookiePolicy, TokenCookie, cookie_values};
use crate::page::View;
use crate::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use crate::pb::envoy::service::auth::v3::CheckResponse;
use crate::room::decision::Verdict;
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

/// A rendered page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Html {
    /// The document.
    pub body: String,
    /// The `Content-Security-Policy` it needs.
    pub content_security_policy: String,
}

/// An answer to Envoy.
#[derive(Debug)]
pub enum Answer<'a> {
    /// Let through.
    Allowed(Allowed<'a>),
    /// Denied, or an error.
    Denied(CheckResponse),
}

impl Answer<'_> {
    /// Writes the `CheckResponse` as it goes to Envoy.
    pub fn encode(&self, message: &mut Vec<u8>) {
        match self {
            Self::Allowed(allowed) => allowed.encode(message),
            Self::Denied(response) => {
                message.reserve(response.encoded_len());
                response.encode_raw(message);
            }
        }
    }
}

/// Renders a verdict on a question. `origins` are those whose scripts may read a denial; `page` is called at most once,
/// for a browser that has to wait; one that is refused gets a page of its own.
pub fn render<'v>(
    verdict: &'v Verdict,
    question: &Question<'v>,
    origins: Option<&Origins>,
    cookies: &CookiePolicy,
    page: &dyn Fn(View<'_>) -> Html,
) -> Answer<'v> {
    let mut response = match verdict {
        Verdict::Admit(admission) => {
            return Answer::Allowed(Allowed::admitted(admission, question, cookies));
        }
        Verdict::Bypass(why) => return Answer::Allowed(Allowed::bypass(*why, question)),
        Verdict::Wait(wait) => {
            Denial::wait(wait, question, cookies, page).readable_by(origins, question).into_response()
        }
        Verdict::Hold { room, status, retry_after } => {
            let denial = Denial::hold(room, *status, *retry_after, question, page);
            denial.readable_by(origins, question).into_response()
        }
        Verdict::Refuse { room, reason, kept } => {
            let mut denial = Denial::refuse(room.as_ref(), *reason, question);
            if let Some(admission) = kept {
                denial.keep(admission, question, cookies);
            }
            denial.readable_by(origins, question).into_response()
        }
        Verdict::Error { message } => {
            Denial::error(message, question).readable_by(origins, question).into_error_response()
        }
    };
    response.dynamic_metadata = Some(metadata::of(verdict));
    Answer::Denied(response)
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
