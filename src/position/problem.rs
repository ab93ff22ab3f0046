//! Why a request gets no answer, as RFC 9457 problem documents.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::http::body::BodyError;
use crate::room::decision::Refusal;
use crate::room::name::RoomName;
use crate::room::standing::Standing;
use crate::rooms::visit::VisitError;
use crate::store::StoreError;

/// Why a request gets no answer.
pub(super) enum Problem {
    /// The path names no room.
    BadName,
    /// The body is not what the call takes.
    Body(BodyError),
    /// The rules, or the store behind them.
    Visit(VisitError),
}

impl From<VisitError> for Problem {
    fn from(error: VisitError) -> Self {
        Self::Visit(error)
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error = match self {
            Self::BadName => {
                return problem(StatusCode::BAD_REQUEST, &format!("a room name is {}", RoomName::RULE));
            }
            Self::Body(error) => return problem(error.status(), &error.to_string()),
            Self::Visit(error) => error,
        };
        let (status, standing): (_, Option<&Standing>) = match &error {
            VisitError::NoToken | VisitError::NoSubject => (StatusCode::UNAUTHORIZED, None),
            // One of ours is always a status.
            VisitError::Refused(reason) => {
                (StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::FORBIDDEN), None)
            }
            VisitError::NoNonce => (StatusCode::BAD_REQUEST, None),
            VisitError::UsedNonce => (StatusCode::CONFLICT, None),
            VisitError::NotCalled(standing) => (StatusCode::FORBIDDEN, Some(standing)),
            VisitError::Gone(standing) => (StatusCode::GONE, Some(standing)),
            VisitError::Store(StoreError::NoRoom(_)) => (StatusCode::NOT_FOUND, None),
            VisitError::TooManyStreams | VisitError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, None),
            VisitError::Signing(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let mut body = document(status, &error.told());
        if let Some(standing) = standing {
            body["standing"] = json!(standing);
        }
        let mut response = answer(status, &body);
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        match error {
            VisitError::Refused(Refusal::Limited(limited)) => {
                for (name, value) in limited.headers() {
                    // Our own texts and numbers.
                    if let Ok(value) = HeaderValue::from_str(&value) {
                        headers.insert(name, value);
                    }
                }
            }
            VisitError::Refused(Refusal::BadToken) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
            }
            VisitError::NoSubject => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

/// A problem document of this status; `detail` says what was wrong and what would be right.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    answer(status, &document(status, detail))
}

fn document(status: StatusCode, detail: &str) -> serde_json::Value {
    let title = status.canonical_reason().unwrap_or("Error");
    json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail})
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
