//! What is read of a question, as prost reads it: the oracle for questions that Envoy would not send.
//!
//! The same as Envoy's messages without the fields that nobody reads; the values of `headers` are bytes, which are the
//! same on the wire.

use std::collections::HashMap;

use anteroom::pb::check::{Asked, Http as Read, Unreadable};
use anteroom::pb::envoy::config::core::v3::{HeaderMap, Metadata};
use prost::Message as _;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Question {
    #[prost(message, optional, tag = "1")]
    pub(crate) attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Attributes {
    #[prost(message, optional, tag = "1")]
    pub(crate) source: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    pub(crate) request: Option<Request>,
    #[prost(map = "string, string", tag = "10")]
    pub(crate) context_extensions: HashMap<String, String>,
    #[prost(message, optional, tag = "11")]
    pub(crate) metadata_context: Option<Metadata>,
    #[prost(message, optional, tag = "13")]
    pub(crate) route_metadata_context: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Peer {
    #[prost(message, optional, tag = "1")]
    pub(crate) address: Option<Address>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Address {
    #[prost(message, optional, tag = "1")]
    pub(crate) socket: Option<Socket>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Socket {
    #[prost(string, tag = "2")]
    pub(crate) address: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Request {
    #[prost(message, optional, tag = "2")]
    pub(crate) http: Option<Http>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Http {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) method: String,
    #[prost(map = "string, bytes", tag = "3")]
    pub(crate) headers: HashMap<String, Vec<u8>>,
    #[prost(string, tag = "4")]
    pub(crate) path: String,
    #[prost(string, tag = "5")]
    pub(crate) host: String,
    #[prost(message, optional, tag = "13")]
    pub(crate) header_map: Option<HeaderMap>,
}

/// Where bytes are not read as prost reads them, or not refused where it does.
pub(crate) fn difference(bytes: &[u8]) -> Option<String> {
    match (Asked::read(bytes), Question::decode(bytes)) {
        (Ok(read), Ok(expected)) if is_same(&read, &expected) => None,
        // prost does not look at the wire type of a map, and takes as many entries as there are.
        (Err(Unreadable::WrongType { tag: 3 | 10 } | Unreadable::TooMany), _) | (Err(_), Err(_)) => None,
        // It counts from the message's beginning how deep something is nested.
        (Ok(_), Err(error)) if error.to_string().contains("recursion limit") => None,
        (read, expected) => Some(format!("{read:?} {expected:?}")),
    }
}

/// Whether both say the same; metadata without anything in it is as good as none.
fn is_same(read: &Asked<'_>, expected: &Question) -> bool {
    let nothing = Attributes::default();
    let expected = expected.attributes.as_ref().unwrap_or(&nothing);
    let http = expected.request.as_ref().and_then(|request| request.http.as_ref());
    let socket = expected.source.as_ref().and_then(|peer| peer.address.as_ref()?.socket.as_ref());
    let extensions = read.context_extensions.entries();
    let same_http = match (&read.http, http) {
        (Some(read), Some(http)) => is_same_http(read, http),
        (read, http) => read.is_none() && http.is_none(),
    };
    same_http
        && read.source == socket.map_or("", |socket| socket.address.as_str())
        && extensions.len() == expected.context_extensions.len()
        && extensions.iter().all(|(key, value)| {
            expected.context_extensions.get(*key).is_some_and(|expected| expected == value)
        })
        && is_same_metadata(read.metadata.as_ref(), expected.metadata_context.as_ref())
        && is_same_metadata(read.route_metadata.as_ref(), expected.route_metadata_context.as_ref())
}

fn is_same_http(read: &Read<'_>, http: &Http) -> bool {
    let headers = read.headers.entries();
    let raw = http.header_map.iter().flat_map(|map| &map.headers).map(|header| {
        let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value[..] };
        (header.key.as_str(), value)
    });
    [read.id, read.method, read.path, read.host] == [&http.id, &http.method, &http.path, &http.host]
        && headers.len() == http.headers.len()
        && headers.iter().all(|(key, value)| http.headers.get(*key).is_some_and(|known| known == value))
        && raw.eq(read.raw_headers.iter().copied())
}

fn is_same_metadata(read: Option<&Metadata>, expected: Option<&Metadata>) -> bool {
    // Values that are no numbers are not equal to themselves.
    let text = |metadata: Option<&Metadata>| {
        let fields = metadata.into_iter().flat_map(|metadata| &metadata.filter_metadata);
        let mut all: Vec<String> = fields.map(|(key, value)| format!("{key:?} {value:?}")).collect();
        all.sort_unstable();
        all
    };
    text(read) == text(expected)
}
