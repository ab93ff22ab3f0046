//! Why an operator's call is refused, as a problem document.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::store::StoreError;
use crate::telemetry::metrics::label::{Label as _, OperatorResult};

/// Why a call is refused.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) counted: OperatorResult,
    pub(super) detail: String,
}

pub(super) type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub(super) fn wrong(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, counted: OperatorResult::Wrong, detail: detail.into() }
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, counted: OperatorResult::Unavailable, detail: detail.into() }
    }

    /// As [`Refusal::unavailable`], where what was asked for may have been done all the same.
    pub(super) fn unsure(detail: impl Into<String>) -> Self {
        Self { counted: OperatorResult::Unsure, ..Self::unavailable(detail) }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoRoom(_) => Self {
                status: StatusCode::NOT_FOUND,
                counted: OperatorResult::NoRoom,
                detail: format!("{error}: a room is known from its first Check on, or from the rooms file"),
            },
            error => Self::unavailable(error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        // `result` tells our client that it is an admin listener who refuses; other listeners have none.
        let document = json!({
            "title": title,
            "status": self.status.as_u16(),
            "result": self.counted.as_str(),
            "detail": self.detail,
        });
        let kind = [(CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, kind, document.to_string()).into_response();
        let extra = match self.status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer realm=\"anteroom\"")),
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "1")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
