//! Envoy's `CheckRequest`, read without copying it: only what is asked for, borrowed from the message's bytes.
//!
//! What protobuf means by a message is kept: fields in any order, the last of a text counts, messages that come twice
//! are merged, of a map's entries with one key the last counts, unknown fields and groups are passed over. Fields that
//! nobody reads are passed over by their length, and what is in them is not looked at. `tests/wire` holds all of this
//! to the official types.

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::envoy::config::core::v3::Metadata;

/// The most entries of one map or list. Envoy lets 100 headers through unless it is told otherwise.
const MAX_ENTRIES: usize = 1_024;

/// How many headers there is room for from the start: one allocation for nearly every request.
const USUAL_HEADERS: usize = 24;

/// Why bytes are no `CheckRequest` that can be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not protobuf, or the metadata is none.
    #[error("the CheckRequest cannot be decoded: {0}")]
    Wire(#[from] prost::DecodeError),
    /// A length leads beyond the end.
    #[error("the CheckRequest cannot be decoded: field {tag} is cut off")]
    CutOff {
        /// The field's number in its message.
        tag: u32,
    },
    /// A field is of another type than Envoy's API gives it.
    #[error("the CheckRequest cannot be decoded: field {tag} is neither text nor message")]
    WrongType {
        /// The field's number in its message.
        tag: u32,
    },
    /// What should be text is not UTF-8.
    #[error("the CheckRequest cannot be decoded: field {tag} is not UTF-8")]
    NotText {
        /// The field's number in its message.
        tag: u32,
    },
    /// More entries than anybody sends.
    #[error("the CheckRequest has more than {MAX_ENTRIES} entries in one field: send fewer headers")]
    TooMany,
}

/// What is read of a `CheckRequest`; its texts are pieces of the message.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// The address of who opened the connection to Envoy, `attributes.source`; empty where it has none, as over a unix
    /// socket.
    pub source: &'a str,
    /// `attributes.request.http`; the network filter sends none.
    pub http: Option<Http<'a>>,
    /// `attributes.context_extensions`.
    pub context_extensions: Map<'a, &'a str>,
    /// `attributes.metadata_context`, where it holds anything.
    pub metadata: Option<Metadata>,
    /// `attributes.route_metadata_context`, likewise.
    pub route_metadata: Option<Metadata>,
}

/// What is read of the HTTP request that is asked about.
#[derive(Debug, Default)]
pub struct Http<'a> {
    /// Envoy's id of the stream.
    pub id: &'a str,
    /// The method.
    pub method: &'a str,
    /// The request target with its query; empty for `CONNECT`.
    pub path: &'a str,
    /// The `Host` or `:authority`.
    pub host: &'a str,
    /// `headers`. Their values need not be text.
    pub headers: Map<'a, &'a [u8]>,
    /// `header_map`, in place of `headers` where the filter has `encode_raw_headers: true`.
    pub raw_headers: Vec<(&'a str, &'a [u8])>,
}

/// A protobuf map: of entries with the same key the last counts.
#[derive(Debug, Default)]
pub struct Map<'a, V> {
    entries: Vec<(&'a str, V)>,
    /// A bit for each kind of key seen, so that most new keys are known to be new without a look at the others.
    seen: u64,
}

impl<'a, V: Copy> Map<'a, V> {
    /// The entries, in no particular order.
    pub fn entries(&self) -> &[(&'a str, V)] {
        &self.entries
    }

    fn insert(&mut self, key: &'a str, value: V) -> Result<(), Unreadable> {
        let bit = 1 << (kind_of(key.as_bytes()) & 63);
        if self.seen & bit != 0
            && let Some((_, known)) = self.entries.iter_mut().find(|(other, _)| *other == key)
        {
            *known = value;
            return Ok(());
        }
        if self.entries.len() == MAX_ENTRIES {
            return Err(Unreadable::TooMany);
        }
        if self.entries.is_empty() {
            self.entries.reserve(USUAL_HEADERS);
        }
        self.seen |= bit;
        self.entries.push((key, value));
        Ok(())
    }
}

impl<'a, V: Copy> FromIterator<(&'a str, V)> for Map<'a, V> {
    /// Takes at most as many entries as a message may have.
    fn from_iter<I: IntoIterator<Item = (&'a str, V)>>(pairs: I) -> Self {
        let mut map = Self { entries: Vec::new(), seen: 0 };
        for (key, value) in pairs {
            if map.insert(key, value).is_err() {
                break;
            }
        }
        map
    }
}

/// Tells most header names apart, and costs next to nothing.
fn kind_of(key: &[u8]) -> usize {
    let at = |index: usize| usize::from(key.get(index).copied().unwrap_or(0));
    key.len() + 5 * at(0) + 11 * at(key.len() / 2) + 3 * at(key.len().wrapping_sub(1))
}

impl<'a> Asked<'a> {
    /// Reads a message.
    ///
    /// Refuses what the official types refuse, in the fields that are read here, with these exceptions that nobody
    /// sends: values of `headers` that are no text are taken, also by them if sent raw; a map that has the wrong wire
    /// type and more than [`MAX_ENTRIES`] entries are refused; unknown groups may be nested 100 deep from where they
    /// stand, and not from the message's beginning.
    pub fn read(message: &'a [u8]) -> Result<Self, Unreadable> {
        let mut asked = Self::default();
        each_field(message, &[1], |_, attributes| {
            each_field(attributes, &[1, 4, 10, 11, 13], |tag, bytes| match tag {
                1 => asked.read_source(bytes),
                4 => each_field(bytes, &[2], |_, http| asked.http.get_or_insert_default().read(http)),
                10 => {
                    let (key, value) = entry(bytes)?;
                    asked.context_extensions.insert(key, text(2, value)?)
                }
                11 => merge(&mut asked.metadata, bytes),
                _ => merge(&mut asked.route_metadata, bytes),
            })
        })?;
        Ok(asked)
    }
}

impl<'a> Asked<'a> {
    /// Reads a `Peer`: its address, if that is a socket's.
    fn read_source(&mut self, peer: &'a [u8]) -> Result<(), Unreadable> {
        each_field(peer, &[1], |_, address| {
            each_field(address, &[1], |_, socket| {
                each_field(socket, &[2], |tag, bytes| {
                    self.source = text(tag, bytes)?;
                    Ok(())
                })
            })
        })
    }
}

impl<'a> Http<'a> {
    /// Merges a message `HttpRequest` into this one.
    fn read(&mut self, message: &'a [u8]) -> Result<(), Unreadable> {
        each_field(message, &[1, 2, 3, 4, 5, 13], |tag, bytes| {
            match tag {
                1 => self.id = text(tag, bytes)?,
                2 => self.method = text(tag, bytes)?,
                3 => {
                    let (name, value) = entry(bytes)?;
                    self.headers.insert(name, value)?;
                }
                4 => self.path = text(tag, bytes)?,
                5 => self.host = text(tag, bytes)?,
                _ => each_field(bytes, &[1], |_, header| {
                    if self.raw_headers.len() == MAX_ENTRIES {
                        return Err(Unreadable::TooMany);
                    }
                    self.raw_headers.push(raw_header(header)?);
                    Ok(())
                })?,
            }
            Ok(())
        })
    }

    /// All headers, of both forms.
    pub fn all_headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers.entries().iter().chain(&self.raw_headers).copied()
    }
}

/// Calls `read` with the number and the bytes of each field that is among `known`. All of those are texts, byte
/// strings or messages.
fn each_field<'a>(
    mut rest: &'a [u8],
    known: &[u32],
    mut read: impl FnMut(u32, &'a [u8]) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest)?;
        if wire_type == WireType::LengthDelimited {
            let len = usize::try_from(decode_varint(&mut rest)?).unwrap_or(usize::MAX);
            let (bytes, after) = rest.split_at_checked(len).ok_or(Unreadable::CutOff { tag })?;
            rest = after;
            if known.contains(&tag) {
                read(tag, bytes)?;
            }
        } else if known.contains(&tag) {
            return Err(Unreadable::WrongType { tag });
        } else {
            skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        }
    }
    Ok(())
}

/// An entry of a map with texts as keys; what is missing is empty.
fn entry(message: &[u8]) -> Result<(&str, &[u8]), Unreadable> {
    let (mut key, mut value) = ("", &[][..]);
    each_field(message, &[1, 2], |tag, bytes| {
        if tag == 1 {
            key = text(tag, bytes)?;
        } else {
            value = bytes;
        }
        Ok(())
    })?;
    Ok((key, value))
}

/// A `HeaderValue`: the value is `raw_value`, or `value` where that is empty.
fn raw_header(message: &[u8]) -> Result<(&str, &[u8]), Unreadable> {
    let (mut key, mut value, mut raw) = ("", &[][..], &[][..]);
    each_field(message, &[1, 2, 3], |tag, bytes| {
        match tag {
            1 => key = text(tag, bytes)?,
            2 => value = text(tag, bytes)?.as_bytes(),
            _ => raw = bytes,
        }
        Ok(())
    })?;
    Ok((key, if raw.is_empty() { value } else { raw }))
}

fn text(tag: u32, bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable::NotText { tag })
}

/// Metadata is rare, and read the usual way.
fn merge(metadata: &mut Option<Metadata>, bytes: &[u8]) -> Result<(), Unreadable> {
    // Envoy sends it empty with every request.
    if !bytes.is_empty() {
        metadata.get_or_insert_default().merge(bytes)?;
    }
    Ok(())
}
