//! Arbitrary questions, in Envoy's official types, and arbitrary verdicts.

use anteroom::room::decision::{Admission, Bypass, Refusal, Verdict, Wait};
use anteroom::room::name::RoomName;
use anteroom::room::standing::{Eta, Place, Standing, Status};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::auth::v3 as official;
use envoy_types::pb::envoy::service::auth::v3::attribute_context as asked;
use envoy_types::pb::google::protobuf as well_known;
use proptest::collection::{btree_map, hash_map, vec};
use proptest::option::of as some;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ -~]{1,24}", "\\PC{1,12}"]
}

fn header_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z-]{1,12}",
        "x-anteroom-[a-z]{0,6}",
        "(accept|cookie|content-type|host|origin|upgrade|x-request-id|traceparent|accept-language)",
    ]
}

fn header_value() -> impl Strategy<Value = String> {
    prop_oneof![
        text(),
        "(text/html|application/json|\\*/\\*)(;q=[0-9.]{0,5})?(, ?(text/html|application/json|a/b);q=0.[0-9])?",
        "anteroom_(ticket|pass)_shop=[A-Za-z0-9._\"-]{0,30}; ?[a-z=;, ]{0,10}",
        "application/grpc(-web)?(-text)?(\\+proto)?",
    ]
}

fn value() -> impl Strategy<Value = well_known::Value> {
    use well_known::value::Kind;
    let leaf = prop_oneof![
        text().prop_map(Kind::StringValue),
        any::<f64>().prop_map(Kind::NumberValue),
        any::<bool>().prop_map(Kind::BoolValue),
        Just(Kind::NullValue(0)),
    ];
    let tree = leaf.prop_recursive(2, 8, 3, |inner| {
        let field = inner.prop_map(|kind| well_known::Value { kind: Some(kind) });
        prop_oneof![
            vec(field.clone(), 0..3).prop_map(|values| Kind::ListValue(well_known::ListValue { values })),
            hash_map("[a-z]{1,4}|sub|iss", field, 0..3)
                .prop_map(|fields| Kind::StructValue(well_known::Struct { fields })),
        ]
    });
    some(tree).prop_map(|kind| well_known::Value { kind })
}

fn metadata() -> impl Strategy<Value = core::Metadata> {
    let namespace = "anteroom|envoy\\.filters\\.http\\.jwt_authn|[a-z]{1,5}";
    let values = hash_map("[a-z_]{1,8}", value(), 0..4).prop_map(|fields| well_known::Struct { fields });
    let typed = btree_map("[a-z]{1,5}", vec(any::<u8>(), 0..8), 0..2);
    (hash_map(namespace, values, 0..3), typed).prop_map(|(filter_metadata, typed)| core::Metadata {
        filter_metadata,
        typed_filter_metadata: typed
            .into_iter()
            .map(|(key, value)| (key, well_known::Any { type_url: "a/b".into(), value }))
            .collect(),
    })
}

fn http() -> impl Strategy<Value = asked::HttpRequest> {
    let raw = (header_name(), vec(any::<u8>(), 0..12), text())
        .prop_map(|(key, raw_value, value)| core::HeaderValue { key, value, raw_value });
    let header_map = some(vec(raw, 0..6).prop_map(|headers| core::HeaderMap { headers }));
    let headers = hash_map(header_name(), header_value(), 0..8);
    let method =
        prop_oneof![Just("GET".to_owned()), Just("HEAD".to_owned()), Just("OPTIONS".to_owned()), text()];
    let target = (text(), "[A-Za-z0-9.:\\[\\]]{0,20}", text(), text());
    let unread = (text(), text(), any::<i64>(), text(), vec(any::<u8>(), 0..20));
    (text(), method, headers, header_map, target, unread).prop_map(
        |(id, method, headers, header_map, (path, host, scheme, protocol), unread)| {
            let (query, fragment, size, body, raw_body) = unread;
            asked::HttpRequest {
                id,
                method,
                headers,
                header_map,
                path,
                host,
                scheme,
                protocol,
                query,
                fragment,
                size,
                body,
                raw_body,
            }
        },
    )
}

fn peer() -> impl Strategy<Value = asked::Peer> {
    use core::address::Address;
    let socket = (text(), any::<u16>()).prop_map(|(address, port)| {
        let port = core::socket_address::PortSpecifier::PortValue(port.into());
        let socket = core::SocketAddress { address, port_specifier: Some(port), ..Default::default() };
        Address::SocketAddress(socket)
    });
    let pipe = text().prop_map(|path| Address::Pipe(core::Pipe { path, mode: 0 }));
    let address = some(prop_oneof![socket, pipe]);
    (address, text(), hash_map(text(), text(), 0..2)).prop_map(|(address, principal, labels)| asked::Peer {
        address: address.map(|address| core::Address { address: Some(address) }),
        certificate: principal.clone(),
        principal,
        labels,
        ..Default::default()
    })
}

/// A question with everything Envoy may put in, including much that is not read.
pub(crate) fn question() -> impl Strategy<Value = official::CheckRequest> {
    let extensions = hash_map("room|capacity|[a-z_]{1,8}", text(), 0..5);
    (some(peer()), some(some(http())), extensions, some(metadata()), some(metadata()), text()).prop_map(
        |(source, request, context_extensions, metadata_context, route_metadata_context, sni)| {
            let time = Some(well_known::Timestamp { seconds: 1, nanos: 2 });
            official::CheckRequest {
                attributes: Some(official::AttributeContext {
                    destination: source.clone(),
                    source,
                    request: request.map(|http| asked::Request { time, http }),
                    context_extensions,
                    metadata_context,
                    route_metadata_context,
                    tls_session: Some(asked::TlsSession { sni }),
                }),
            }
        },
    )
}

/// A verdict of any kind.
pub(crate) fn verdict() -> impl Strategy<Value = Verdict> {
    let room = || "[a-z0-9][a-z0-9._-]{0,10}".prop_filter_map("a room name", |name| RoomName::parse(&name));
    let token = || "[A-Za-z0-9_-]{4,12}\\.[A-Za-z0-9_-]{4,12}";
    let status = || prop_oneof![Just(429_u16), 200_u16..600];
    let eta = (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(seconds, low, high)| Eta {
        seconds: seconds.into(),
        low: low.into(),
        high: high.into(),
        confidence: 0.6,
    });
    let admit = (room(), any::<u64>(), token(), any::<u64>(), any::<u64>(), any::<bool>()).prop_map(
        |(room, number, pass, expires_at, max_age, fresh)| {
            let place = Place { generation: 1, number };
            Verdict::Admit(Admission { room, place, pass, expires_at, max_age, fresh })
        },
    );
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), some(eta));
    let ticket = some((token(), any::<u64>()));
    let wait = (room(), numbers, status(), ticket).prop_map(|(room, numbers, status, ticket)| {
        let (number, position, waiting, poll_after, eta) = numbers;
        let standing = Standing { status: Status::Waiting, room, number, position, waiting, eta, poll_after };
        Verdict::Wait(Wait { standing, status, ticket })
    });
    prop_oneof![
        admit,
        wait,
        (room(), status(), any::<u32>()).prop_map(|(room, status, retry_after)| Verdict::Hold {
            room,
            status,
            retry_after
        }),
        (some(room()), prop_oneof![Just(Refusal::Denied), Just(Refusal::NoSubject), Just(Refusal::Outage)])
            .prop_map(|(room, reason)| Verdict::refuse(room.as_ref(), reason)),
        Just(Verdict::Bypass(Bypass::NoRoom)),
        "\\PC{0,40}".prop_map(|message| Verdict::Error { message }),
    ]
}
