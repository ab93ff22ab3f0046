//! Bodies of requests, bounded in size and time; and tokens in them: the way of `sendBeacon`, which can set no headers
//! and, across sites, brings no cookies.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use http_body_util::LengthLimitError;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The largest body read, in bytes: two tokens of 2 KiB fit many times.
const MAX_BODY: usize = 16 * 1024;

/// How long a body may take to come: a client that sends it by the byte must not hold a request for ever.
const TIME: Duration = Duration::from_secs(5);

/// The tokens that a body shows; other members are passed over.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Tokens {
    /// A ticket, as it came.
    pub(super) ticket: Option<String>,
    /// A pass, as it came.
    pub(super) pass: Option<String>,
}

/// A body that is not what the call takes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::position) enum BodyError {
    /// Over [`MAX_BODY`].
    #[error("the body is larger than {MAX_BODY} bytes")]
    TooLarge,
    /// Not said to be text or JSON.
    #[error("a body is JSON, sent as application/json or text/plain")]
    WrongType,
    /// No JSON object, or one with tokens that are no text.
    #[error("a body is a JSON object like {{\"ticket\":\"…\",\"pass\":\"…\"}}, each of them optional")]
    NotTokens,
    /// Not all of it came in time, or the client hung up.
    #[error("the body did not come whole within {} s", TIME.as_secs())]
    Incomplete,
}

impl BodyError {
    /// The HTTP status for it.
    pub(in crate::position) const fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::WrongType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotTokens => StatusCode::BAD_REQUEST,
            Self::Incomplete => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// Reads the tokens in a body; an empty one shows none, whatever it says it is.
pub(super) async fn tokens(headers: &HeaderMap, body: Body) -> Result<Tokens, BodyError> {
    let bytes = whole(body).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(Tokens::default());
    }
    if !is_json_or_text(headers) {
        return Err(BodyError::WrongType);
    }
    // An array would do for a struct.
    let object: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| BodyError::NotTokens)?;
    Tokens::deserialize(Value::Object(object)).map_err(|_| BodyError::NotTokens)
}

/// Reads a body to its end.
pub(in crate::position) async fn whole(body: Body) -> Result<Bytes, BodyError> {
    let read = tokio::time::timeout(TIME, to_bytes(body, MAX_BODY)).await;
    read.map_err(|_| BodyError::Incomplete)?.map_err(|error| {
        let too_large = error.source().is_some_and(<dyn Error>::is::<LengthLimitError>);
        if too_large { BodyError::TooLarge } else { BodyError::Incomplete }
    })
}

/// `text/plain` too: across origins a browser sends it without a preflight, for which a page that goes away has no time.
fn is_json_or_text(headers: &HeaderMap) -> bool {
    let stated = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = stated.split(';').next().unwrap_or_default().trim();
    ["application/json", "text/plain"].iter().any(|known| media_type.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content_type: &str, body: impl Into<Body>) -> Result<Tokens, BodyError> {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        tokens(&headers, body.into()).await
    }

    #[tokio::test]
    async fn json_in_either_type_is_read_and_nothing_is_no_token() {
        let both = Tokens { ticket: Some("t".into()), pass: Some("p".into()) };
        let text = r#"{"pass":"p","ticket":"t","status":"waiting"}"#;
        for kind in ["application/json", "text/plain", "Text/Plain;charset=UTF-8", "application/json ; x=1"] {
            assert_eq!(read(kind, text).await.as_ref(), Ok(&both), "{kind}");
        }
        for (kind, text) in [
            ("", ""),
            ("", " \n"),
            ("image/png", ""),
            ("text/plain", "{}"),
            ("text/plain", r#"{"pass":null}"#),
        ] {
            assert_eq!(read(kind, text).await, Ok(Tokens::default()), "{kind} {text:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_such_body_is_told_apart() {
        for kind in
            ["", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp"]
        {
            assert_eq!(read(kind, "{}").await, Err(BodyError::WrongType), "{kind}");
        }
        for text in [
            "{",
            "[]",
            r#"["t","p"]"#,
            "\"t\"",
            "null",
            r#"{"ticket":1}"#,
            r#"{"pass":["p"]}"#,
            "{} x",
            "\u{0}",
        ] {
            assert_eq!(read("text/plain", text).await, Err(BodyError::NotTokens), "{text}");
        }
        let fits = format!("{:<MAX_BODY$}", "{}");
        assert_eq!(read("text/plain", fits.clone()).await, Ok(Tokens::default()));
        assert_eq!(read("text/plain", fits + " ").await, Err(BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<&str, std::io::Error>>());
        assert_eq!(read("text/plain", never).await, Err(BodyError::Incomplete));
        let torn =
            Body::from_stream(futures_util::stream::iter([Ok("{"), Err(std::io::Error::other("reset"))]));
        assert_eq!(read("text/plain", torn).await, Err(BodyError::Incomplete));
    }
}
