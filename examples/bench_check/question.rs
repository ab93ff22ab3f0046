//! What Envoy asks: a browser's request for a shop's page, with 18 headers and a pass among its cookies.

use std::collections::HashMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use prost::Message as _;

/// The room's limits, as a route states them. Sessions outlast any run, so that the pass is always in the first half
/// of its life: the way of nearly all requests.
pub(crate) const POLICY: [(&str, &str); 6] = [
    ("room", "shop"),
    ("capacity", "500"),
    ("rate", "50/s"),
    ("burst", "100"),
    ("session_ttl", "31d"),
    ("claim_ttl", "60s"),
];

/// The question as a gRPC message with its prefix.
pub(crate) fn framed(pass: &str) -> Bytes {
    let message = question(pass).encode_to_vec();
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

fn question(pass: &str) -> CheckRequest {
    let cookie = format!(
        "_ga=GA1.1.1740923561.1763640000; _ga_4KQX8T2M7Z=GS2.1.s1763640000$o3$g1$t1763641200; theme=dark; \
         session=9f1c2e7ab4d84c0fb6d1a6a3e6c8d5f0b7a9; anteroom_pass_shop={pass}; consent=necessary"
    );
    let headers = [
        (":authority", "shop.example.com"),
        (":method", "GET"),
        (":path", "/shop/shoes?colour=red&size=42"),
        (":scheme", "https"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept-language", "ko-KR,ko;q=0.9,en;q=0.8"),
        ("cookie", &cookie),
        ("referer", "https://shop.example.com/shop"),
        ("sec-fetch-dest", "document"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-site", "same-origin"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
        ("upgrade-insecure-requests", "1"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "7f2c6f5e-93a4-4d0b-9c6e-0f2d3c4b5a69"),
    ];
    let http = HttpRequest {
        id: "1234567890123456789".into(),
        method: "GET".into(),
        headers: texts(&headers),
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
            context_extensions: texts(&POLICY),
            ..Default::default()
        }),
    }
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
