//! Documents that are the same for all and change with the program only: the JavaScript client, `web/anteroom.js`, and
//! the description of the API.

use std::borrow::Cow;
use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::page::compact;

/// The client without its comments. Browsers need not ask again for an hour: the API under `/v1/` stays the same, so
/// an old client goes on working.
static SCRIPT: LazyLock<Document> = LazyLock::new(|| {
    let text = compact::script(include_str!("../../web/anteroom.js"));
    Document::new("text/javascript; charset=utf-8", "public, max-age=3600", text.into())
});

static OPENAPI: LazyLock<Document> = LazyLock::new(|| {
    Document::new("application/json", "public, max-age=300", include_str!("http/openapi.json").into())
});

struct Document {
    kind: &'static str,
    cached: &'static str,
    text: Cow<'static, str>,
    tag: String,
}

/// The JavaScript client.
pub(super) async fn script(headers: HeaderMap) -> Response {
    SCRIPT.answer(&headers)
}

/// This API, described.
pub(super) async fn openapi(headers: HeaderMap) -> Response {
    OPENAPI.answer(&headers)
}

impl Document {
    fn new(kind: &'static str, cached: &'static str, text: Cow<'static, str>) -> Self {
        let tag = URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()));
        Self { kind, cached, text, tag: format!("\"{tag}\"") }
    }

    /// The document; 304 to whoever has it already.
    fn answer(&'static self, headers: &HeaderMap) -> Response {
        let about = [
            (CACHE_CONTROL.as_str(), self.cached),
            (ETAG.as_str(), &self.tag),
            ("cross-origin-resource-policy", "cross-origin"),
            ("x-content-type-options", "nosniff"),
        ];
        if headers.get_all(IF_NONE_MATCH).iter().any(|seen| names(seen.as_bytes(), &self.tag)) {
            return (StatusCode::NOT_MODIFIED, about).into_response();
        }
        (about, [(CONTENT_TYPE, self.kind)], &*self.text).into_response()
    }
}

/// Whether an `If-None-Match` names this entity: `*`, or it is in the list, weak or strong (proxies that compress
/// make tags weak).
fn names(header: &[u8], tag: &str) -> bool {
    header.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|each| {
        let each = each.strip_prefix(b"W/").unwrap_or(each);
        each == b"*" || each == tag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_sent_once() {
        for document in [&*SCRIPT, &*OPENAPI] {
            let first = document.answer(&HeaderMap::new());
            assert_eq!(first.status(), StatusCode::OK);
            assert_eq!(first.headers()[CONTENT_TYPE], document.kind);
            let tag = first.headers()[ETAG].clone();
            for (seen, status) in [
                (tag.to_str().unwrap().to_owned(), StatusCode::NOT_MODIFIED),
                (format!("\"other\", W/{}", tag.to_str().unwrap()), StatusCode::NOT_MODIFIED),
                ("*".into(), StatusCode::NOT_MODIFIED),
                ("\"other\"".into(), StatusCode::OK),
            ] {
                let headers = HeaderMap::from_iter([(IF_NONE_MATCH, seen.parse().unwrap())]);
                let answer = document.answer(&headers);
                assert_eq!((answer.status(), &answer.headers()[ETAG]), (status, &tag), "{seen}");
            }
        }
    }

    #[test]
    fn the_client_stays_small() {
        let text = &SCRIPT.text;
        assert!(text.len() < 9 * 1_024, "{} bytes", text.len());
        assert!(text.contains("export class Anteroom "), "this is no module");
    }
}
