//! CORS: the response headers by which a browser lets another origin's scripts read our answers.
//!
//! Who may is a rule of the room (`room::origins`). Written here rather than taken from a middleware, because Checks
//! have no HTTP response that one could work on, and both must say the same.

use crate::room::origins::Grant;

/// What scripts may send to the client API.
const METHODS: &str = "GET, HEAD, POST, DELETE";
/// The request headers they may set.
const REQUEST_HEADERS: &str = "authorization, cache-control, content-type, last-event-id, traceparent, x-anteroom-nonce, x-anteroom-pass, x-anteroom-ticket, x-request-id";
/// The response headers they may read, beside those that everybody may.
const RESPONSE_HEADERS: &str =
    "ratelimit, ratelimit-policy, retry-after, x-anteroom-pass, x-anteroom-ticket, x-request-id";
/// How long browsers may remember a preflight, in seconds: as long as a change of the policy may take to be felt.
const MAX_AGE: &str = "600";

/// A header's name and value.
pub type Header<'a> = (&'static str, &'a str);

/// The headers of an answer that the origin may read.
pub fn of_answer(grant: Grant<'_>) -> impl Iterator<Item = Header<'_>> {
    allowed(grant).chain([("access-control-expose-headers", RESPONSE_HEADERS)])
}

/// The headers of the answer to a preflight of the client API.
pub fn of_preflight(grant: Grant<'_>) -> impl Iterator<Item = Header<'_>> {
    allowed(grant).chain([
        ("access-control-allow-methods", METHODS),
        ("access-control-allow-headers", REQUEST_HEADERS),
        ("access-control-max-age", MAX_AGE),
    ])
}

fn allowed(grant: Grant<'_>) -> impl Iterator<Item = Header<'_>> {
    let (origin, credentials) = match grant {
        Grant::Anonymous => ("*", None),
        Grant::Named(origin) => (origin, Some(("access-control-allow-credentials", "true"))),
    };
    [("access-control-allow-origin", origin)].into_iter().chain(credentials)
}
