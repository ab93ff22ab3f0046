//! The JavaScript client, `web/anteroom.js`, as scripts import it: `GET /anteroom/v1/anteroom.js`.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::page::compact;

/// How long browsers need not ask again: the API under `/v1/` stays the same, so an old client goes on working.
const CACHED: &str = "public, max-age=3600";

/// The client without its comments, and its entity tag.
static CLIENT: LazyLock<(String, String)> = LazyLock::new(|| {
    let text = compact::script(include_str!("../../web/anteroom.js"));
    let tag = URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()));
    (text, format!("\"{tag}\""))
});

/// The client; 304 to whoever has it already.
pub(super) async fn client(headers: HeaderMap) -> Response {
    let (text, tag) = &*CLIENT;
    let about = [
        (CONTENT_TYPE.as_str(), "text/javascript; charset=utf-8"),
        (CACHE_CONTROL.as_str(), CACHED),
        (ETAG.as_str(), tag),
        ("cross-origin-resource-policy", "cross-origin"),
        ("x-content-type-options", "nosniff"),
    ];
    if headers.get_all(IF_NONE_MATCH).iter().any(|seen| names(seen.as_bytes(), tag)) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, text.as_str()).into_response()
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

    #[tokio::test]
    async fn it_is_sent_once() {
        let first = client(HeaderMap::new()).await;
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[ETAG].clone();
        for (seen, status) in [
            (tag.to_str().unwrap().to_owned(), StatusCode::NOT_MODIFIED),
            (format!("\"other\", W/{}", tag.to_str().unwrap()), StatusCode::NOT_MODIFIED),
            ("*".into(), StatusCode::NOT_MODIFIED),
            ("\"other\"".into(), StatusCode::OK),
        ] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, seen.parse().unwrap())]);
            let answer = client(headers).await;
            assert_eq!((answer.status(), &answer.headers()[ETAG]), (status, &tag), "{seen}");
        }
    }

    #[test]
    fn it_stays_small() {
        let (text, _) = &*CLIENT;
        assert!(text.len() < 9 * 1_024, "{} bytes", text.len());
        assert!(text.contains("export class Anteroom "), "this is no module");
    }
}
