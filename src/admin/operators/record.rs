//! An operator's call, and the line of it in the audit log.

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use super::refusal::{Answer, Refusal};
use crate::listen::Remote;
use crate::room::name::RoomName;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::label::{Label as _, OperatorCall, OperatorResult};

/// The longest request id that is taken over into the audit log, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// A call, and who makes it.
pub(super) struct Asked {
    pub(super) call: OperatorCall,
    /// As the path has it; empty where that is no text.
    name: String,
    pub(super) token: Option<Vec<u8>>,
    pub(super) peer: Remote,
    request_id: Option<String>,
}

impl Asked {
    pub(super) fn new(call: OperatorCall, name: String, request: &Request) -> Self {
        let headers = request.headers();
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        Self {
            call,
            name,
            token: bearer(headers),
            peer: request.extensions().get().copied().unwrap_or_default(),
            request_id: id.filter(|id| id.len() <= MAX_REQUEST_ID).map(str::to_owned),
        }
    }

    fn is_about_a_room(&self) -> bool {
        !matches!(
            self.call,
            OperatorCall::List
                | OperatorCall::DenyList
                | OperatorCall::DenyAdd
                | OperatorCall::DenyRemove
                | OperatorCall::Other
        )
    }

    pub(super) fn room(&self) -> Answer<RoomName> {
        let rule = || Refusal::wrong(format!("a room name is {}", RoomName::RULE));
        RoomName::parse(&self.name).ok_or_else(rule)
    }
}

fn bearer(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii().to_vec())
}

/// The line of a control in the audit log. It is written once: when the control is over, or when this is dropped before,
/// as the operator hung up.
pub(super) struct Record<'a> {
    of: &'a Asked,
    metrics: &'a Metrics,
    /// What was asked for, beside the call itself, as far as it was understood.
    pub(super) asked: Option<String>,
    /// The limits before and after, as far as they were seen.
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    written: bool,
}

impl<'a> Record<'a> {
    pub(super) fn of(of: &'a Asked, metrics: &'a Metrics) -> Self {
        Self { of, metrics, asked: None, before: None, after: None, written: false }
    }

    /// Says who has asked for what of which room, and what came of it.
    pub(super) fn write<T>(mut self, came: &Answer<T>) {
        match came {
            Ok(_) => self.line(OperatorResult::Done, None),
            Err(refusal) => self.line(refusal.counted, Some(&refusal.detail)),
        }
    }

    fn line(&mut self, result: OperatorResult, reason: Option<&str>) {
        self.written = true;
        tracing::info!(
            target: "anteroom::audit",
            op = self.of.call.as_str(),
            // Whatever stands in a path: shown only as far as a name may go.
            room = self.of.is_about_a_room().then(|| {
                RoomName::parse(&self.of.name).map_or_else(|| "(no room name)".to_owned(), |name| name.to_string())
            }),
            asked = self.asked,
            result = result.as_str(),
            reason,
            before = self.before,
            after = self.after,
            peer = %self.of.peer,
            request = self.of.request_id,
            "an operator's call"
        );
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if self.written {
            return;
        }
        // Nobody is answered, so it is not counted elsewhere.
        self.metrics.operator_called(self.of.call, OperatorResult::HungUp);
        self.line(OperatorResult::HungUp, Some("nobody waited for the answer: it may have been done or not"));
    }
}
