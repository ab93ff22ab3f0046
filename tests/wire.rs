//! The wire, with Envoy's official types as the oracle: what Envoy encodes we read, what we encode Envoy reads, and
//! no bytes make us panic.

#[path = "wire/arbitrary.rs"]
mod arbitrary;
#[path = "wire/oracle.rs"]
mod oracle;
#[path = "wire/soup.rs"]
mod soup;

use std::collections::{BTreeMap, HashMap};

use anteroom::authz::request::Question;
use anteroom::authz::response::{Html, render};
use anteroom::cookie::{CookiePolicy, MAX_CANDIDATES, MAX_VALUE_LEN, TokenCookie, cookie_values};
use anteroom::page::View;
use anteroom::pb::FILE_DESCRIPTOR_SET;
use anteroom::pb::check::Asked;
use anteroom::pb::envoy::service::auth::v3 as ours;
use anteroom::room::decision::{Verdict, Wait};
use arbitrary::{question, verdict};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::auth::v3 as official;
use envoy_types::pb::google::protobuf as well_known;
use proptest::collection::vec;
use proptest::option::of as some;
use proptest::prelude::*;
use prost::Message as _;
use prost_types::MethodDescriptorProto;
use soup::soup;

fn answered(verdict: &Verdict, question: &Question<'_>) -> Vec<u8> {
    let cookies = CookiePolicy { secure: true, domain: None };
    let page = |_: View<'_>| Html { body: "<p>".into(), content_security_policy: "none".into() };
    let mut encoded = Vec::new();
    render(verdict, question, None, &cookies, &page).encode(&mut encoded);
    encoded
}

/// Asks everything there is to ask; the answers do not matter, that there are some does.
fn ask_everything(question: &Question<'_>) {
    let texts = [question.method(), question.authority()];
    let options = [
        question.path(),
        question.path_and_query(),
        question.request_id(),
        question.accept_language(),
        question.traceparents().next(),
    ];
    let flags = [
        question.is_http(),
        question.is_preflight(),
        question.is_websocket(),
        question.accepts_html(),
        question.is_grpc_from_browser(),
    ];
    let names: Vec<_> = question.anteroom_headers().collect();
    let cookies: Vec<_> = cookie_values(question.cookies(), "anteroom_ticket_shop").collect();
    assert!(cookies.len() <= MAX_CANDIDATES && cookies.iter().all(|value| value.len() <= MAX_VALUE_LEN));
    let policy = question.context_extensions();
    let everything = (texts, options, flags, names, policy, question.grpc());
    let metadata = (question.route_metadata(), question.subject(None), question.subject(Some("a")));
    assert!(!format!("{everything:?}{metadata:?}").is_empty());
}

/// The headers, actions included, as the official types see them.
fn seen(headers: &[core::HeaderValueOption]) -> Vec<(String, String, i32)> {
    let each = |option: &core::HeaderValueOption| {
        let header = option.header.clone().unwrap_or_default();
        (header.key, header.value, option.append_action)
    };
    headers.iter().map(each).collect()
}

fn value_of<'a>(headers: &'a [(String, String, i32)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, ..)| key == name).map(|(_, value, _)| value.as_str())
}

proptest! {
    #[test]
    fn what_envoy_asks_we_read(asked in question()) {
        let message = asked.encode_to_vec();
        let question = Question::read(&message).unwrap();
        let attributes = asked.attributes.unwrap();
        let http = attributes.request.and_then(|request| request.http);
        prop_assert_eq!(question.is_http(), http.is_some());
        if let Some(http) = http {
            prop_assert_eq!(question.method(), &http.method);
            prop_assert_eq!(question.path_and_query().unwrap_or(""), &http.path);
            prop_assert_eq!(question.authority(), &http.host);
            let mut expected: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
            for (name, value) in http.headers {
                expected.entry(name).or_default().push(value.into_bytes());
            }
            for header in http.header_map.map(|map| map.headers).unwrap_or_default() {
                let raw = if header.raw_value.is_empty() { header.value.into_bytes() } else { header.raw_value };
                expected.entry(header.key).or_default().push(raw);
            }
            for (name, values) in &expected {
                let found: Vec<_> = question.header_values(&name.to_uppercase()).collect();
                prop_assert_eq!(&found, values, "{}", name);
            }
            prop_assert_eq!(question.header("no-such-header"), None);
            if !expected.contains_key("x-request-id") {
                prop_assert_eq!(question.request_id().unwrap_or(""), &http.id);
            }
        }
        let extensions: HashMap<_, _> =
            question.context_extensions().iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        prop_assert_eq!(extensions, attributes.context_extensions);
        ask_everything(&question);
    }

    #[test]
    fn route_metadata_is_read_whole_or_reported(asked in question()) {
        use well_known::value::Kind;
        let message = asked.encode_to_vec();
        let question = Question::read(&message).unwrap();
        let context = asked.attributes.unwrap().route_metadata_context.unwrap_or_default();
        let fields = context.filter_metadata.get("anteroom").cloned().unwrap_or_default().fields;
        let is_plain = |value: &well_known::Value| {
            matches!(value.kind, Some(Kind::StringValue(_) | Kind::NumberValue(_) | Kind::BoolValue(_)))
        };
        let odd = fields.values().filter(|value| !is_plain(value)).count();
        match question.route_metadata() {
            Err(mistakes) => prop_assert!(odd > 0 && mistakes.len() == odd),
            Ok(pairs) => {
                prop_assert_eq!((odd, pairs.len()), (0, fields.len()));
                for (key, value) in pairs {
                    let same = match fields[key].kind.as_ref().unwrap() {
                        Kind::StringValue(text) => *text == value,
                        Kind::BoolValue(truth) => truth.to_string() == value,
                        Kind::NumberValue(number) => {
                            let read: f64 = value.parse().unwrap();
                            read.total_cmp(number).is_eq() || (read.is_nan() && number.is_nan())
                        }
                        other => panic!("not plain: {other:?}"),
                    };
                    prop_assert!(same, "{}: {}", key, value);
                }
            }
        }
    }

    #[test]
    fn what_we_answer_envoy_reads(asked in question(), verdict in verdict()) {
        use official::check_response::HttpResponse;
        let message = asked.encode_to_vec();
        let question = Question::read(&message).unwrap();
        let answer = answered(&verdict, &question);
        let read = official::CheckResponse::decode(answer.as_slice()).unwrap();
        // Nothing is lost or changed on the way.
        let plain = ours::CheckResponse::decode(answer.as_slice()).unwrap();
        prop_assert_eq!(ours::CheckResponse::decode(read.encode_to_vec().as_slice()).unwrap(), plain);

        let code = read.status.unwrap().code;
        prop_assert!(read.dynamic_metadata.unwrap().fields.contains_key("verdict"));
        match (&verdict, read.http_response.unwrap()) {
            (Verdict::Admit(admission), HttpResponse::OkResponse(ok)) => {
                prop_assert_eq!(code, 0);
                let headers = seen(&ok.headers);
                let number = admission.place.number.to_string();
                prop_assert_eq!(value_of(&headers, "x-anteroom-number"), Some(number.as_str()));
                prop_assert_eq!(value_of(&headers, "x-anteroom-pass"), Some(admission.pass.as_str()));
                for (name, ..) in &headers {
                    prop_assert!(!ok.headers_to_remove.contains(name), "{} is set and removed", name);
                }
                let added = seen(&ok.response_headers_to_add);
                let pass = format!("{}={}", TokenCookie::Pass.name(&admission.room), admission.pass);
                let set = value_of(&added, "set-cookie").is_some_and(|cookie| cookie.starts_with(&pass));
                prop_assert_eq!(set, admission.fresh);
                for name in question.anteroom_headers() {
                    let gone = ok.headers_to_remove.iter().any(|removed| removed == name);
                    prop_assert!(gone || value_of(&headers, name).is_some(), "{} comes through", name);
                }
            }
            (Verdict::Bypass(_), HttpResponse::OkResponse(ok)) => {
                prop_assert_eq!((code, ok.headers.len()), (0, 0));
                for name in question.anteroom_headers() {
                    prop_assert!(ok.headers_to_remove.iter().any(|removed| removed == name));
                }
            }
            (Verdict::Wait(Wait { status, .. }) | Verdict::Hold { status, .. }, HttpResponse::DeniedResponse(denied)) => {
                prop_assert_eq!(code, 8);
                let headers = seen(&denied.headers);
                let is_web = value_of(&headers, "content-type") == Some("application/grpc-web");
                let expected = if is_web { 200 } else { i32::from(*status) };
                prop_assert_eq!(denied.status.unwrap().code, expected);
                prop_assert!(value_of(&headers, "retry-after").is_some());
                prop_assert_eq!(value_of(&headers, "cache-control"), Some("no-store"));
                let is_grpc = value_of(&headers, "grpc-status").is_some();
                prop_assert_eq!(denied.body.is_empty(), is_grpc);
            }
            (Verdict::Refuse { .. }, HttpResponse::DeniedResponse(_)) => prop_assert!([7, 14, 16].contains(&code)),
            (Verdict::Error { .. }, HttpResponse::ErrorResponse(error)) => {
                prop_assert_eq!(code, 14);
                // Envoy refuses values with control characters.
                for (name, value, _) in seen(&error.headers) {
                    prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}: {:?}", name, value);
                }
            }
            (verdict, other) => prop_assert!(false, "{:?} became {:?}", verdict, other),
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(question) = Question::read(&bytes) {
            ask_everything(&question);
        }
        prop_assert_eq!(oracle::difference(&bytes), None);
    }

    #[test]
    fn damaged_questions_never_panic(
        asked in question(),
        verdict in verdict(),
        cut in any::<prop::sample::Index>(),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = asked.encode_to_vec();
        for (index, byte) in hits {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(question) = Question::read(&bytes) {
            ask_everything(&question);
            answered(&verdict, &question);
        }
    }

    #[test]
    fn what_envoy_asks_is_read_as_prost_reads_it_damaged_or_not(
        asked in question(),
        more in some(question()),
        cut in some(any::<prop::sample::Index>()),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        // Two messages one after the other are one, merged.
        let mut bytes = asked.encode_to_vec();
        bytes.extend(more.map(|more| more.encode_to_vec()).unwrap_or_default());
        prop_assert_eq!(oracle::difference(&bytes), None);
        prop_assert!(Asked::read(&bytes).is_ok());
        for (index, byte) in hits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len() + 1)));
        prop_assert_eq!(oracle::difference(&bytes), None);
    }

    #[test]
    fn what_nobody_asks_is_read_or_refused_as_prost_does(bytes in soup()) {
        prop_assert_eq!(oracle::difference(&bytes), None);
    }

    #[test]
    fn cookies_of_any_bytes_never_panic(
        headers in vec(vec(prop_oneof![any::<u8>(), prop::sample::select(&b"t=;, \"\\"[..])], 0..60), 0..4),
    ) {
        let found: Vec<_> = cookie_values(headers.iter().map(Vec::as_slice), "t").collect();
        prop_assert!(found.len() <= MAX_CANDIDATES);
        prop_assert!(found.iter().all(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic())));
    }
}

#[test]
fn reflection_knows_both_services() {
    let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let mut methods = Vec::new();
    for file in &files {
        for service in &file.service {
            let names = service.method.iter().map(MethodDescriptorProto::name);
            methods.extend(names.map(|name| format!("{}.{}/{name}", file.package(), service.name())));
        }
        for dependency in &file.dependency {
            assert!(files.iter().any(|other| other.name() == dependency), "{dependency} is missing");
        }
    }
    methods.sort_unstable();
    assert_eq!(
        methods,
        [
            "anteroom.v1.WaitingRoom/Enter",
            "anteroom.v1.WaitingRoom/GetPosition",
            "anteroom.v1.WaitingRoom/Join",
            "anteroom.v1.WaitingRoom/Leave",
            "anteroom.v1.WaitingRoom/WatchPosition",
            "envoy.service.auth.v3.Authorization/Check",
        ]
    );
}
