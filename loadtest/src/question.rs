//! What Envoy asks: a browser's request for a shop's page, with 18 headers; and what a right answer is.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, HeaderValueOption, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use prost::Message as _;
use serde::Deserialize;

use crate::h2::Answer;
use crate::h2::head::Head;

/// Where Envoy asks.
pub(crate) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// What a visitor's client says that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accept {
    /// An app's: the answer is JSON
    Json,
    /// A browser's: the answer is the waiting page
    Html,
}

/// A visitor's request as Envoy asks about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// The room's limits, as a route states them.
    pub(crate) limits: &'a [(&'a str, &'a str)],
    pub(crate) accept: Accept,
    /// A cookie besides a shop's usual ones: name and value.
    pub(crate) token: Option<(&'a str, &'a str)>,
    /// A user's token, a JWT.
    pub(crate) bearer: Option<&'a str>,
}

impl Question<'_> {
    /// As a gRPC message with its prefix.
    pub(crate) fn framed(&self) -> Vec<u8> {
        framed(&self.message().encode_to_vec())
    }

    /// The visitor's request as their client makes it: without what Envoy adds, and without TLS.
    pub(crate) fn page(&self) -> Head {
        let (mut pseudo, mut others) = (Vec::new(), Vec::new());
        for (name, value) in self.headers() {
            match name {
                "x-forwarded-for" | "x-forwarded-proto" | "x-request-id" => {}
                ":scheme" => pseudo.push((name, "http".to_owned())),
                _ if name.starts_with(':') => pseudo.push((name, value)),
                _ => others.push((name, value)),
            }
        }
        pseudo.append(&mut others);
        Head::new(pseudo)
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let token = self.token.map(|(name, value)| format!("{name}={value}; ")).unwrap_or_default();
        let cookie = format!(
            "_ga=GA1.1.1740923561.1763640000; _ga_4KQX8T2M7Z=GS2.1.s1763640000$o3$g1$t1763641200; theme=dark; \
             session=9f1c2e7ab4d84c0fb6d1a6a3e6c8d5f0b7a9; {token}consent=necessary"
        );
        let accept = match self.accept {
            Accept::Html => {
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
            }
            Accept::Json => "application/json",
        };
        [
            (":authority", "shop.example.com"),
            (":method", "GET"),
            (":path", "/shop/shoes?colour=red&size=42"),
            (":scheme", "https"),
            ("accept", accept),
            ("accept-encoding", "gzip, deflate, br"),
            ("accept-language", "ko-KR,ko;q=0.9,en;q=0.8"),
            ("cookie", cookie.as_str()),
            ("referer", "https://shop.example.com/shop"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-site", "same-origin"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
            ("upgrade-insecure-requests", "1"),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0",
            ),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "7f2c6f5e-93a4-4d0b-9c6e-0f2d3c4b5a69"),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .chain(self.bearer.map(|token| ("authorization", format!("Bearer {token}"))))
        .collect()
    }

    fn message(&self) -> CheckRequest {
        let http = HttpRequest {
            id: "1234567890123456789".into(),
            method: "GET".into(),
            headers: self.headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            path: "/shop/shoes?colour=red&size=42".into(),
            host: "shop.example.com".into(),
            scheme: "https".into(),
            protocol: "HTTP/2".into(),
            ..Default::default()
        };
        CheckRequest {
            attributes: Some(AttributeContext {
                source: Some(peer("203.0.113.7", 50_123)),
                destination: Some(peer("192.0.2.10", 443)),
                request: Some(Request { http: Some(http), ..Default::default() }),
                context_extensions: texts(self.limits),
                ..Default::default()
            }),
        }
    }
}

/// A gRPC message with its prefix.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], message].concat()
}

fn texts(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn peer(address: &str, port: u32) -> Peer {
    let socket = SocketAddress {
        address: address.into(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    Peer { address: Some(Address { address: Some(Kind::SocketAddress(socket)) }), ..Default::default() }
}

/// The message of a gRPC answer that is no failure.
pub(crate) fn message(answer: &Answer) -> Result<&[u8], String> {
    if answer.reset || answer.status != 200 || answer.grpc_status != Some(0) {
        let Answer { status, grpc_status, reset, .. } = answer;
        return Err(format!("no gRPC answer: HTTP {status}, grpc-status {grpc_status:?}, reset {reset}"));
    }
    answer.body.get(5..).ok_or_else(|| "an answer without a message".to_owned())
}

/// What a Check was answered.
pub(crate) enum Verdict {
    Ok(OkHttpResponse),
    Denied(DeniedHttpResponse),
}

impl Verdict {
    pub(crate) fn of(answer: &Answer) -> Result<Self, String> {
        let told = CheckResponse::decode(message(answer)?).map_err(|error| error.to_string())?;
        match (told.http_response, told.status.map(|status| status.code)) {
            (Some(HttpResponse::OkResponse(ok)), Some(0)) => Ok(Self::Ok(ok)),
            (Some(HttpResponse::DeniedResponse(denied)), Some(code)) if code != 0 => Ok(Self::Denied(denied)),
            (other, code) => Err(format!("neither let through nor made to wait: status {code:?}, {other:?}")),
        }
    }
}

/// The pass of a visitor who was admitted to this room.
pub(crate) fn admitted<'a>(ok: &'a OkHttpResponse, room: &str) -> Result<&'a str, String> {
    match (header(&ok.headers, "x-anteroom-room"), header(&ok.headers, "x-anteroom-pass")) {
        (Some(told), Some(pass)) if told == room => Ok(pass),
        (told, _) => Err(format!("let through, but not with a pass for room {room}: room {told:?}")),
    }
}

/// Where somebody stands who has to wait.
#[derive(Debug, Deserialize)]
pub(crate) struct Told<'a> {
    pub(crate) status: &'a str,
    pub(crate) number: u64,
    pub(crate) position: u64,
    pub(crate) waiting: u64,
    pub(crate) ticket: Option<&'a str>,
}

impl<'a> Told<'a> {
    /// Of a body in JSON.
    pub(crate) fn of(body: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(body)
            .map_err(|error| format!("not where one stands: {error}: {:?}", String::from_utf8_lossy(body)))
    }
}

/// Of a denied response: 429 with a ticket cookie.
pub(crate) fn is_waiting(denied: &DeniedHttpResponse) -> Result<(), String> {
    let status = denied.status.as_ref().map(|status| status.code);
    let has_ticket =
        header(&denied.headers, "set-cookie").is_some_and(|value| value.starts_with("anteroom_ticket_"));
    if status == Some(429) && has_ticket {
        Ok(())
    } else {
        Err(format!(
            "it should be 429 with a ticket: status {status:?}, a ticket: {has_ticket}, {}",
            denied.body
        ))
    }
}

pub(crate) fn header<'a>(headers: &'a [HeaderValueOption], name: &str) -> Option<&'a str> {
    let mut headers = headers.iter().filter_map(|option| option.header.as_ref());
    Some(headers.find(|header| header.key.eq_ignore_ascii_case(name))?.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(told: &CheckResponse, grpc_status: i32) -> Answer {
        let body = framed(&told.encode_to_vec());
        Answer { status: 200, grpc_status: Some(grpc_status), body, reset: false }
    }

    #[test]
    fn the_question_is_a_browsers() {
        let question =
            Question { limits: &[("room", "shop")], accept: Accept::Html, token: None, bearer: None }
                .message();
        let http = question.attributes.unwrap().request.unwrap().http.unwrap();
        assert_eq!(http.headers.len(), 18);
    }

    #[test]
    fn an_answer_that_is_not_right_is_noticed() {
        let yes = crate::serve::yes();
        let Ok(Verdict::Ok(ok)) = Verdict::of(&answer(&yes, 0)) else { panic!("a yes") };
        assert!(admitted(&ok, "shop").is_err(), "let through, but by nobody's room");
        assert!(Verdict::of(&answer(&yes, 13)).is_err());
        assert!(Verdict::of(&Answer { reset: true, ..answer(&yes, 0) }).is_err());
        assert!(Verdict::of(&Answer { status: 503, ..answer(&yes, 0) }).is_err());
        assert!(Verdict::of(&answer(&CheckResponse::default(), 0)).is_err());
        assert!(is_waiting(&DeniedHttpResponse::default()).is_err());
    }
}
