//! What each verdict looks like to Envoy, the client and the backend.

use std::cell::Cell;

use prost_types::value::Kind;
use serde_json::{Value as Json, json};

use super::*;
use crate::page::View;
use crate::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use crate::pb::envoy::service::auth::v3::check_response::HttpResponse;
use crate::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, DeniedHttpResponse, OkHttpResponse,
};
use crate::room::decision::{Admission, Bypass, Limited, Refusal, Wait};
use crate::room::name::RoomName;
use crate::room::standing::Standing;
use crate::room::standing::{Eta, Place, Status as StandingStatus};

const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");
const BROWSER: (&str, &str) = ("accept", "text/html,*/*;q=0.8");

fn asked(method: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let http = HttpRequest { method: method.into(), headers, ..Default::default() };
    let request = Some(Request { http: Some(http) });
    CheckRequest { attributes: Some(AttributeContext { request, ..Default::default() }) }
}

fn answer(verdict: &Verdict, method: &str, headers: &[(&str, &str)]) -> CheckResponse {
    let cookies = CookiePolicy { secure: true, domain: None };
    let request = asked(method, headers);
    let origins = Origins::parse("https://app.example.com");
    let message = request.encode_to_vec();
    let question = Question::read(&message).unwrap();
    let answer = render(verdict, &question, origins.as_ref(), &cookies, &|waiting| {
        let body = match waiting {
            View::Standing(standing) => format!("page {}", standing.position),
            View::Hold { room, retry_after } => format!("hold {room} {retry_after}"),
        };
        Html { body, content_security_policy: "default-src 'none'".into() }
    });
    let mut encoded = Vec::new();
    answer.encode(&mut encoded);
    CheckResponse::decode(encoded.as_slice()).unwrap()
}

fn denied(response: &CheckResponse) -> (&DeniedHttpResponse, i32) {
    match &response.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => (denied, denied.status.unwrap().code),
        other => panic!("not denied: {other:?}"),
    }
}

fn allowed(response: &CheckResponse) -> &OkHttpResponse {
    assert_eq!(response.status.as_ref().unwrap().code, 0);
    match &response.http_response {
        Some(HttpResponse::OkResponse(ok)) => ok,
        other => panic!("not let through: {other:?}"),
    }
}

fn values<'a>(headers: &'a [HeaderValueOption], name: &str) -> Vec<&'a str> {
    let headers = headers.iter().map(|header| header.header.as_ref().unwrap());
    headers.filter(|header| header.key == name).map(|header| header.value.as_str()).collect()
}

fn code(response: &CheckResponse) -> tonic::Code {
    response.status.as_ref().unwrap().code.into()
}

fn json(body: &str) -> Json {
    serde_json::from_str(body).unwrap()
}

fn noted(response: &CheckResponse) -> Vec<(&str, Json)> {
    let fields = &response.dynamic_metadata.as_ref().unwrap().fields;
    let value = |kind: &Option<Kind>| match kind {
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::NumberValue(number)) => json!(number),
        other => panic!("neither text nor number: {other:?}"),
    };
    fields.iter().map(|(key, field)| (key.as_str(), value(&field.kind))).collect()
}

fn room() -> RoomName {
    RoomName::parse("shop").unwrap()
}

fn admitted(fresh: bool) -> Verdict {
    Verdict::Admit(Admission {
        room: room(),
        place: Place { generation: 1, number: 17 },
        pass: "the.pass".into(),
        expires_at: 1_700_000_000_999,
        max_age: 240,
        fresh,
    })
}

fn waiting() -> Verdict {
    let eta = Some(Eta { seconds: 12, low: 9, high: 18, confidence: 0.8 });
    let standing = Standing {
        status: StandingStatus::Waiting,
        room: room(),
        number: 17,
        position: 3,
        waiting: 10,
        eta,
        poll_after: 5,
    };
    Verdict::Wait(Wait { standing, status: 429, ticket: Some(("the.ticket".into(), 180)) })
}

#[test]
fn the_backend_gets_our_headers_and_no_forged_ones() {
    let sent = [("x-anteroom-number", "1"), ("X-Anteroom-Vip", "yes"), ("x-other", "1")];
    let response = answer(&admitted(false), "GET", &sent);
    let ok = allowed(&response);
    assert_eq!(values(&ok.headers, "x-anteroom-room"), ["shop"]);
    assert_eq!(values(&ok.headers, "x-anteroom-number"), ["17"]);
    assert_eq!(values(&ok.headers, "x-anteroom-expires"), ["1700000000"]);
    assert_eq!(values(&ok.headers, "x-anteroom-pass"), ["the.pass"]);
    let overwrite = i32::from(HeaderAppendAction::OverwriteIfExistsOrAdd);
    assert!(ok.headers.iter().all(|header| header.append_action == overwrite));
    // Envoy removes after it has set: what is set must not be removed.
    assert_eq!(ok.headers_to_remove, ["x-anteroom-ticket", "x-anteroom-vip"]);
    assert!(ok.response_headers_to_add.is_empty());
    assert_eq!(
        noted(&response),
        [("number", json!(17.0)), ("room", json!("shop")), ("verdict", json!("admit"))]
    );
}

#[test]
fn a_fresh_pass_takes_the_tickets_place() {
    let response = answer(&admitted(true), "GET", &[("cookie", "anteroom_ticket_shop=old")]);
    let added = &allowed(&response).response_headers_to_add;
    assert_eq!(
        values(added, "set-cookie"),
        [
            "anteroom_pass_shop=the.pass; Path=/; Max-Age=240; HttpOnly; SameSite=Lax; Secure",
            "anteroom_ticket_shop=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure",
        ]
    );
    // Anything else would replace the backend's cookies, or our first by our second.
    let append = i32::from(HeaderAppendAction::AppendIfExistsOrAdd);
    assert!(added.iter().all(|header| header.append_action == append));
    assert!(values(added, "x-anteroom-pass").is_empty());

    let without_ticket = answer(&admitted(true), "GET", &[]);
    assert_eq!(values(&allowed(&without_ticket).response_headers_to_add, "set-cookie").len(), 1);
}

#[test]
fn a_bypass_changes_nothing_but_forged_headers() {
    let response = answer(&Verdict::Bypass(Bypass::Off), "GET", &[("x-anteroom-pass", "forged")]);
    let ok = allowed(&response);
    assert!(ok.headers.is_empty() && ok.response_headers_to_add.is_empty());
    for name in ["x-anteroom-pass", "x-anteroom-number", "x-anteroom-room", "x-anteroom-expires"] {
        assert!(ok.headers_to_remove.iter().any(|removed| removed == name), "{name}");
    }
    assert_eq!(noted(&response), [("reason", json!("off")), ("verdict", json!("bypass"))]);
}

#[test]
fn a_program_in_line_gets_json() {
    let response = answer(&waiting(), "GET", &[]);
    let (denied, status) = denied(&response);
    assert_eq!((status, code(&response)), (429, tonic::Code::ResourceExhausted));
    assert_eq!(values(&denied.headers, "retry-after"), ["5"]);
    assert_eq!(values(&denied.headers, "cache-control"), ["no-store"]);
    assert_eq!(values(&denied.headers, "content-type"), ["application/json"]);
    assert_eq!(values(&denied.headers, "vary").len(), 1);
    assert_eq!(
        values(&denied.headers, "set-cookie"),
        ["anteroom_ticket_shop=the.ticket; Path=/; Max-Age=180; HttpOnly; SameSite=Lax; Secure"]
    );
    assert!(values(&denied.headers, "x-anteroom-ticket").is_empty());
    assert_eq!(
        json(&denied.body),
        json!({"status": "waiting", "room": "shop", "number": 17, "position": 3, "waiting": 10,
            "eta": {"seconds": 12, "low": 9, "high": 18, "confidence": 0.8}, "poll_after": 5,
            "ticket": "the.ticket"})
    );
    let noted = noted(&response);
    assert!(noted.contains(&("position", json!(3.0))) && noted.contains(&("verdict", json!("wait"))));
    assert!(!format!("{noted:?}").contains("the.ticket"), "{noted:?}");
}

#[test]
fn a_browser_in_line_gets_the_page() {
    let response = answer(&waiting(), "GET", &[BROWSER]);
    let (denied, status) = denied(&response);
    assert_eq!((status, denied.body.as_str()), (429, "page 3"));
    assert_eq!(values(&denied.headers, "content-type"), ["text/html; charset=utf-8"]);
    assert_eq!(values(&denied.headers, "content-security-policy"), ["default-src 'none'"]);
    assert_eq!(values(&denied.headers, "set-cookie").len(), 1);
}

#[test]
fn a_websocket_gets_no_page() {
    let response = answer(&waiting(), "GET", &[BROWSER, ("upgrade", "websocket")]);
    assert_eq!(values(&denied(&response).0.headers, "content-type"), ["application/json"]);
}

#[test]
fn a_head_is_answered_like_a_get() {
    // Envoy leaves the body out, and needs it for `content-type` and `content-length`.
    for headers in [&[][..], &[BROWSER]] {
        assert_eq!(answer(&waiting(), "HEAD", headers), answer(&waiting(), "GET", headers));
    }
}

#[test]
fn a_grpc_client_gets_status_message_and_ticket() {
    let response = answer(&waiting(), "POST", &[GRPC, BROWSER]);
    let (denied, status) = denied(&response);
    assert_eq!((status, denied.body.as_str()), (429, ""));
    assert_eq!(values(&denied.headers, "grpc-status"), ["8"]);
    assert_eq!(values(&denied.headers, "content-type"), ["application/grpc"]);
    assert_eq!(values(&denied.headers, "x-anteroom-ticket"), ["the.ticket"]);
    let message = values(&denied.headers, "grpc-message");
    assert!(message[0].contains("position%203%20of%2010"), "{message:?}");

    let admitted = answer(&admitted(true), "POST", &[GRPC]);
    assert_eq!(values(&allowed(&admitted).response_headers_to_add, "x-anteroom-pass"), ["the.pass"]);
}

#[test]
fn a_grpc_web_client_gets_200_and_no_token_for_its_scripts() {
    let response = answer(&waiting(), "POST", &[("content-type", "application/grpc-web+proto")]);
    let (web, status) = denied(&response);
    assert_eq!((status, values(&web.headers, "grpc-status")), (200, vec!["8"]));
    assert_eq!(values(&web.headers, "content-type"), ["application/grpc-web"]);
    assert!(values(&web.headers, "x-anteroom-ticket").is_empty());

    let translated = answer(&waiting(), "POST", &[GRPC, ("x-grpc-web", "1")]);
    assert!(values(&denied(&translated).0.headers, "x-anteroom-ticket").is_empty());
}

#[test]
fn a_hold_is_a_wait_without_a_number() {
    let hold = Verdict::Hold { room: room(), status: 429, retry_after: 7 };
    let response = answer(&hold, "GET", &[]);
    let (plain, status) = denied(&response);
    assert_eq!((status, code(&response)), (429, tonic::Code::ResourceExhausted));
    assert_eq!(values(&plain.headers, "retry-after"), ["7"]);
    let body = json(&plain.body);
    assert_eq!((&body["status"], &body["number"]), (&json!("waiting"), &Json::Null));
    assert_eq!((&body["room"], &body["poll_after"]), (&json!("shop"), &json!(7)));
    assert_eq!(denied(&answer(&hold, "GET", &[BROWSER])).0.body, "hold shop 7");
}

#[test]
fn refusals_are_problems() {
    let limited = Limited {
        scope: "ip",
        counts: "for each ip",
        quota: "20/m burst 5".parse().unwrap(),
        retry_after: 2_999_999,
        reset: 14_000_001,
    };
    for (reason, status, grpc, retry) in [
        (Refusal::NoSubject, 401, "16", 0),
        (Refusal::Limited(limited), 429, "8", 1),
        (Refusal::NoKey, 400, "3", 0),
        (Refusal::Repeated, 409, "6", 0),
        (Refusal::Outage, 503, "14", 1),
    ] {
        let verdict = Verdict::refuse(Some(&room()), reason);
        let response = answer(&verdict, "GET", &[]);
        let (plain, sent) = denied(&response);
        assert_eq!(sent, status);
        // A browser is told the same on a page.
        let shown = answer(&verdict, "GET", &[BROWSER, ("accept-language", "ko")]);
        let (page, sent) = denied(&shown);
        assert_eq!((sent, code(&shown)), (status, code(&response)));
        assert_eq!(values(&page.headers, "content-type"), ["text/html; charset=utf-8"]);
        assert!(values(&page.headers, "content-security-policy")[0].starts_with("default-src 'none'"));
        assert_eq!(values(&page.headers, "retry-after"), values(&plain.headers, "retry-after"));
        assert!(page.body.contains("<html lang=\"ko\">") && !page.body.contains("shop"), "{}", page.body);
        let socket = answer(&verdict, "GET", &[BROWSER, ("upgrade", "websocket")]);
        assert_eq!(values(&denied(&socket).0.headers, "content-type"), ["application/problem+json"]);
        assert_eq!(i32::from(code(&response)).to_string(), grpc);
        assert_eq!(values(&plain.headers, "content-type"), ["application/problem+json"]);
        assert_eq!(values(&plain.headers, "retry-after").len(), retry);
        if let Refusal::Limited(_) = reason {
            assert_eq!(values(&plain.headers, "retry-after"), ["3"]);
            assert_eq!(values(&plain.headers, "ratelimit-policy"), ["\"ip\";q=20;w=60"]);
            assert_eq!(values(&plain.headers, "ratelimit"), ["\"ip\";r=0;t=15"]);
        }
        let body = json(&plain.body);
        assert_eq!((&body["status"], &body["room"]), (&json!(status), &json!("shop")));
        let twin = answer(&verdict, "POST", &[GRPC]);
        assert_eq!(values(&denied(&twin).0.headers, "grpc-status"), [grpc]);
    }
}

#[test]
fn an_error_is_an_error_response() {
    let verdict = Verdict::Error { message: "room shop: capacty: is not a known key; 용량?".into() };
    let response = answer(&verdict, "GET", &[]);
    let Some(HttpResponse::ErrorResponse(error)) = &response.http_response else { panic!("{response:?}") };
    assert_eq!((error.status.unwrap().code, code(&response)), (503, tonic::Code::Unavailable));
    assert!(json(&error.body)["detail"].as_str().unwrap().contains("capacty"));
    assert_eq!(noted(&response), [("verdict", json!("error"))]);
    let shown = answer(&verdict, "GET", &[BROWSER]);
    let Some(HttpResponse::ErrorResponse(page)) = &shown.http_response else { panic!("{shown:?}") };
    assert!(
        page.body.contains("<html lang=\"en\">") && !page.body.contains("capacty"),
        "none of a visitor's concern"
    );

    let twin = answer(&verdict, "POST", &[GRPC]);
    let Some(HttpResponse::ErrorResponse(error)) = &twin.http_response else { panic!("{twin:?}") };
    assert_eq!(values(&error.headers, "grpc-status"), ["14"]);
    assert!(values(&error.headers, "grpc-message")[0].is_ascii());
}

#[test]
fn the_page_is_rendered_only_when_it_is_shown() {
    let rendered = Cell::new(0);
    let cookies = CookiePolicy { secure: true, domain: None };
    for headers in [&[][..], &[GRPC], &[BROWSER]] {
        let message = asked("GET", headers).encode_to_vec();
        render(&waiting(), &Question::read(&message).unwrap(), None, &cookies, &|_| {
            rendered.set(rendered.get() + 1);
            Html { body: String::new(), content_security_policy: String::new() }
        });
    }
    assert_eq!(rendered.get(), 1);
}

#[test]
fn denials_can_be_read_by_the_origins_that_are_allowed() {
    let error = Verdict::Error { message: "out of order".into() };
    let outage = Verdict::refuse(Some(&room()), Refusal::Outage);
    let hold = Verdict::Hold { room: room(), status: 429, retry_after: 7 };
    for verdict in [waiting(), hold, outage, error] {
        let headers = |origin| match answer(&verdict, "GET", &[("origin", origin)]).http_response {
            Some(HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied)) => {
                denied.headers
            }
            other => panic!("{other:?}"),
        };
        let read = headers("https://app.example.com");
        assert_eq!(values(&read, "access-control-allow-origin"), ["https://app.example.com"]);
        assert_eq!(values(&read, "access-control-allow-credentials"), ["true"]);
        assert!(values(&read, "access-control-expose-headers")[0].contains("retry-after"));
        let overwrite = i32::from(HeaderAppendAction::OverwriteIfExistsOrAdd);
        assert!(
            read.iter()
                .filter(|h| h.header.as_ref().unwrap().key.starts_with("access-"))
                .all(|h| h.append_action == overwrite)
        );
        for headers in [read, headers("https://evil.example.com")] {
            assert!(values(&headers, "vary")[0].ends_with("origin"));
            let named = values(&headers, "access-control-allow-origin").contains(&"https://evil.example.com");
            assert!(!named, "{headers:?}");
        }
    }
}

#[test]
fn whoever_shows_a_token_by_header_gets_the_new_one_so() {
    for (shown, told) in [("x-anteroom-pass", 1), ("x-anteroom-ticket", 1), ("cookie", 0)] {
        let response = answer(&admitted(true), "GET", &[(shown, "a=b")]);
        let headers = &allowed(&response).response_headers_to_add;
        assert_eq!(values(headers, "x-anteroom-pass").len(), told, "{shown}");
    }
    // A script of the page adds the header, and the browser its cookie: the script gets no pass to read.
    let both = [("x-anteroom-ticket", "a"), ("cookie", "anteroom_pass_shop=b")];
    let response = answer(&admitted(true), "GET", &both);
    assert!(values(&allowed(&response).response_headers_to_add, "x-anteroom-pass").is_empty());
}
