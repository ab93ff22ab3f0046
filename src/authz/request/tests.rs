//! What a question tells, bullet by bullet. The wire itself is tested against the official types in `tests/wire.rs`.

use std::collections::HashMap;

use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::*;
use crate::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use crate::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use crate::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};

fn asked(http: HttpRequest) -> CheckRequest {
    let request = Some(Request { http: Some(http) });
    CheckRequest { attributes: Some(AttributeContext { request, ..Default::default() }) }
}

fn with_headers(method: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    asked(HttpRequest { method: method.to_owned(), headers, ..Default::default() })
}

/// The same headers, sent raw.
fn with_raw_headers(method: &str, headers: &[(&str, &[u8])]) -> CheckRequest {
    let headers = headers.iter().map(|(key, value)| HeaderValue {
        key: (*key).to_owned(),
        raw_value: value.to_vec(),
        ..Default::default()
    });
    let header_map = Some(HeaderMap { headers: headers.collect() });
    asked(HttpRequest { method: method.to_owned(), header_map, ..Default::default() })
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

fn structure(fields: &[(&str, Value)]) -> Value {
    Value { kind: Some(Kind::StructValue(fields_of(fields))) }
}

fn fields_of(fields: &[(&str, Value)]) -> Struct {
    Struct { fields: fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect() }
}

fn metadata(namespace: &str, fields: &[(&str, Value)]) -> Metadata {
    Metadata { filter_metadata: HashMap::from([(namespace.to_owned(), fields_of(fields))]) }
}

#[test]
fn nothing_at_all_is_a_question() {
    let empty = CheckRequest::default();
    let hollow = CheckRequest { attributes: Some(AttributeContext::default()) };
    for request in [&empty, &hollow] {
        let message = request.encode_to_vec();
        let question = Question::read(&message).unwrap();
        assert!(!question.is_http());
        assert_eq!((question.method(), question.path(), question.authority()), ("", None, ""));
        assert_eq!((question.authority(), question.request_id()), ("", None));
        assert_eq!(question.header("cookie"), None);
        assert_eq!((question.grpc(), question.accepts_html()), (Grpc::No, false));
        assert_eq!(question.context_extensions(), []);
        assert_eq!(question.route_metadata(), Ok(Vec::new()));
        assert_eq!(question.subject(None), None);
    }
}

#[test]
fn a_connect_has_no_path() {
    let request = asked(HttpRequest {
        method: "CONNECT".into(),
        host: "shop.example:443".into(),
        ..Default::default()
    });
    let message = request.encode_to_vec();
    let question = Question::read(&message).unwrap();
    assert!(question.is_http());
    assert_eq!((question.path_and_query(), question.path()), (None, None));
}

#[test]
fn paths_lose_query_and_fragment() {
    for (sent, path) in [
        ("/", "/"),
        ("/shop?a=/b?c", "/shop"),
        ("/shop#x?y", "/shop"),
        ("?a", ""),
        ("*", "*"),
        ("/%3F", "/%3F"),
    ] {
        let request = asked(HttpRequest { path: sent.into(), ..Default::default() });
        let message = request.encode_to_vec();
        let question = Question::read(&message).unwrap();
        assert_eq!((question.path_and_query(), question.path()), (Some(sent), Some(path)));
    }
}

#[test]
fn headers_are_found_in_any_case_in_both_forms() {
    let plain = with_headers("GET", &[("X-One", "1")]);
    let raw = with_raw_headers("GET", &[("x-ONE", b"1"), ("x-one", b"2")]);
    assert_eq!(Question::read(&plain.encode_to_vec()).unwrap().header("x-one"), Some("1"));
    let message = raw.encode_to_vec();
    let question = Question::read(&message).unwrap();
    assert_eq!(question.header("X-one"), Some("1"));
    assert_eq!(question.header_values("x-one").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(question.header("x-on"), None);
}

#[test]
fn raw_headers_may_come_as_text_and_need_not_be_text() {
    let mut request = with_raw_headers("GET", &[("bytes", b"\xff"), ("cookie", b"a=\xff; t=1")]);
    let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    let as_text = HeaderValue { key: "text".into(), value: "yes".into(), raw_value: Vec::new() };
    http.header_map.as_mut().unwrap().headers.push(as_text);
    let message = request.encode_to_vec();
    let question = Question::read(&message).unwrap();
    assert_eq!((question.header("text"), question.header("bytes")), (Some("yes"), None));
    assert_eq!(crate::cookie::cookie_values(question.cookies(), "t").collect::<Vec<_>>(), ["1"]);
}

#[test]
fn the_request_id_is_the_header_or_the_streams() {
    let mut request = with_headers("GET", &[("x-request-id", "abc")]);
    assert_eq!(Question::read(&request.encode_to_vec()).unwrap().request_id(), Some("abc"));
    let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.id = "123".into();
    let both = request.encode_to_vec();
    let both = Question::read(&both).unwrap();
    assert_eq!((both.request_id(), both.stream_id()), (Some("abc"), Some("123")));
    let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.headers.clear();
    assert_eq!(Question::read(&request.encode_to_vec()).unwrap().request_id(), Some("123"));
}

#[test]
fn grpc_and_grpc_web_are_told_apart() {
    for (content_type, grpc) in [
        ("application/grpc", Grpc::Native),
        ("Application/gRPC+proto", Grpc::Native),
        ("application/grpc; charset=utf-8", Grpc::Native),
        ("application/grpc-web", Grpc::Web),
        ("application/grpc-web+proto", Grpc::Web),
        ("application/grpc-web-text+proto", Grpc::Web),
        ("application/grpcx", Grpc::No),
        ("application/grp", Grpc::No),
        ("application/grp\u{20ac}", Grpc::No),
        ("application/json", Grpc::No),
    ] {
        let request = with_headers("POST", &[("content-type", content_type)]);
        assert_eq!(Question::read(&request.encode_to_vec()).unwrap().grpc(), grpc, "{content_type}");
    }
    let translated = with_headers("POST", &[("content-type", "application/grpc+proto"), ("x-grpc-web", "1")]);
    assert!(Question::read(&translated.encode_to_vec()).unwrap().is_grpc_from_browser());
}

#[test]
fn only_real_preflights_are_preflights() {
    const BOTH: [(&str, &str); 2] =
        [("origin", "https://a.example"), ("access-control-request-method", "PUT")];
    assert!(Question::read(&with_headers("OPTIONS", &BOTH).encode_to_vec()).unwrap().is_preflight());
    for request in [
        with_headers("GET", &BOTH),
        with_headers("options", &BOTH),
        with_headers("OPTIONS", &BOTH[..1]),
        with_headers("OPTIONS", &BOTH[1..]),
        with_headers("OPTIONS", &[("origin", " "), BOTH[1]]),
        with_headers("OPTIONS", &[]),
        with_headers("OPTIONS", &[BOTH[0], BOTH[1], ("X-HTTP-Method-Override", "POST")]),
    ] {
        assert!(!Question::read(&request.encode_to_vec()).unwrap().is_preflight(), "{request:?}");
    }
}

#[test]
fn websockets_and_head() {
    let yes = [
        with_headers("GET", &[("upgrade", "WebSocket"), ("connection", "Upgrade")]),
        with_headers("GET", &[("upgrade", "h2c, websocket")]),
        with_headers("CONNECT", &[(":protocol", "websocket")]),
    ];
    let no = [with_headers("GET", &[("upgrade", "h2c")]), with_headers("GET", &[(":protocol", "websocket")])];
    assert!(yes.iter().all(|request| Question::read(&request.encode_to_vec()).unwrap().is_websocket()));
    assert!(!no.iter().any(|request| Question::read(&request.encode_to_vec()).unwrap().is_websocket()));
}

#[test]
fn our_own_headers_are_noticed_in_any_case() {
    let request =
        with_raw_headers("GET", &[("X-Anteroom-Number", b"1"), ("x-anteroom-", b""), ("x-ante", b"")]);
    let message = request.encode_to_vec();
    let question = Question::read(&message).unwrap();
    let mut names: Vec<_> = question.anteroom_headers().collect();
    names.sort_unstable();
    assert_eq!(names, ["X-Anteroom-Number", "x-anteroom-"]);
}

#[test]
fn the_policy_in_the_routes_metadata() {
    let plain = [
        ("room", text("shop")),
        ("capacity", Value { kind: Some(Kind::NumberValue(5.0)) }),
        ("half", Value { kind: Some(Kind::NumberValue(0.5)) }),
        ("truth", Value { kind: Some(Kind::BoolValue(true)) }),
    ];
    let mut request = asked(HttpRequest::default());
    let attributes = request.attributes.as_mut().unwrap();
    attributes.route_metadata_context = Some(metadata("anteroom", &plain));
    let message = request.encode_to_vec();
    let question = Question::read(&message).unwrap();
    let pairs = question.route_metadata().unwrap();
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (*key, value.as_ref())).collect();
    assert_eq!(pairs, [("capacity", "5"), ("half", "0.5"), ("room", "shop"), ("truth", "true")]);

    let wrong = [
        ("a", structure(&[])),
        ("b", Value { kind: Some(Kind::ListValue(ListValue::default())) }),
        ("c", Value { kind: Some(Kind::NullValue(0)) }),
        ("d", Value { kind: None }),
        ("room", text("shop")),
    ];
    request.attributes.as_mut().unwrap().route_metadata_context = Some(metadata("anteroom", &wrong));
    let mistakes = Question::read(&request.encode_to_vec()).unwrap().route_metadata().unwrap_err();
    assert_eq!(mistakes.len(), 4);
    assert_eq!(
        mistakes[0].to_string(),
        "a: is a nested value in the route's metadata; write a text, a number, true or false"
    );

    request.attributes.as_mut().unwrap().route_metadata_context = Some(metadata("other", &wrong));
    assert_eq!(Question::read(&request.encode_to_vec()).unwrap().route_metadata(), Ok(Vec::new()));
}

#[test]
fn the_verified_user() {
    let long = "x".repeat(1025);
    let payloads = [
        ("a_header", structure(&[("alg", text("RS256"))])),
        ("b_payload", structure(&[("iss", text("https://id")), ("sub", text("alice"))])),
        ("c_other", structure(&[("sub", text("bob"))])),
        ("d_odd", structure(&[("sub", text(""))])),
        ("e_long", structure(&[("sub", text(&long))])),
        ("f_number", structure(&[("sub", Value { kind: Some(Kind::NumberValue(1.0)) })])),
        ("g_issuer", structure(&[("iss", structure(&[])), ("sub", text("eve"))])),
        ("h_flat", text("carol")),
        ("i_lines", structure(&[("sub", text("eve\r\nx-user-id: root"))])),
        ("j_blank", structure(&[("sub", text("root "))])),
    ];
    let mut request = asked(HttpRequest::default());
    request.attributes.as_mut().unwrap().metadata_context =
        Some(metadata("envoy.filters.http.jwt_authn", &payloads));
    let message = request.encode_to_vec();
    let question = Question::read(&message).unwrap();
    assert_eq!(question.subject(None), Some(Subject { issuer: "https://id", name: "alice" }));
    assert_eq!(question.subject(Some("c_other")), Some(Subject { issuer: "", name: "bob" }));
    for key in
        ["a_header", "d_odd", "e_long", "f_number", "g_issuer", "h_flat", "i_lines", "j_blank", "missing"]
    {
        assert_eq!(question.subject(Some(key)), None, "{key}");
    }
    request.attributes.as_mut().unwrap().metadata_context = Some(metadata("another.filter", &payloads));
    assert_eq!(Question::read(&request.encode_to_vec()).unwrap().subject(None), None);
}

#[test]
fn context_extensions_are_read() {
    let context_extensions = HashMap::from([("room".to_owned(), "shop".to_owned())]);
    let attributes = AttributeContext { context_extensions, ..Default::default() };
    let request = CheckRequest { attributes: Some(attributes) };
    let message = request.encode_to_vec();
    let question = Question::read(&message).unwrap();
    assert_eq!(question.context_extensions(), [("room", "shop")]);
}
