//! Any bytes as a `CheckRequest`: read as prost reads them, refused where it does, and no question panics.
#![no_main]

#[path = "../../tests/wire/oracle.rs"]
mod oracle;

use anteroom::authz::request::Question;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(difference) = oracle::difference(bytes) {
        panic!("{difference}");
    }
    if let Ok(question) = Question::read(bytes) {
        let _ = (
            question.path(),
            question.path_and_query(),
            question.request_id(),
            question.traceparents().count(),
        );
        let _ = (question.is_preflight(), question.is_websocket(), question.accepts_html(), question.grpc());
        let _ = (question.route_metadata(), question.subject(None), question.accept_language());
    }
});
