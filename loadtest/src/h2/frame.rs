//! HTTP/2 frames (RFC 9113), those that a client of this kind reads and writes.

/// The window of connections and streams before anybody states another.
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;
/// A frame's head.
const HEAD: usize = 9;
/// The largest stream id and window increment.
const MAX_31: u32 = u32::MAX >> 1;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Headers,
    Reset,
    Settings,
    Ping,
    GoAway,
    WindowUpdate,
    Other(u8),
}

/// A frame that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first whole frame and its length; `None` if it has not come yet.
    pub(crate) fn of(input: &'a [u8]) -> Option<(Self, usize)> {
        let head: [u8; HEAD] = input.get(..HEAD)?.try_into().ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = input.get(HEAD..HEAD + length)?;
        let kind = match head[3] {
            0x0 => Kind::Data,
            0x1 => Kind::Headers,
            0x3 => Kind::Reset,
            0x4 => Kind::Settings,
            0x6 => Kind::Ping,
            0x7 => Kind::GoAway,
            0x8 => Kind::WindowUpdate,
            other => Kind::Other(other),
        };
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & MAX_31;
        Some((Self { kind, flags: head[4], stream, payload }, HEAD + length))
    }

    pub(crate) fn is_ack(&self) -> bool {
        self.flags & ACK != 0
    }

    pub(crate) fn ends_stream(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    pub(crate) fn ends_headers(&self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// The payload of DATA or HEADERS without padding and priority; `None` if these are longer than the frame.
    pub(crate) fn unpadded(&self) -> Option<&'a [u8]> {
        let (padding, rest) = match self.flags & PADDED {
            0 => (0, self.payload),
            _ => self.payload.split_first().map(|(padding, rest)| (usize::from(*padding), rest))?,
        };
        let skipped = if self.kind == Kind::Headers && self.flags & PRIORITY != 0 { 5 } else { 0 };
        rest.get(skipped..rest.len().checked_sub(padding)?)
    }

    /// The payload as a number of 31 bits, as `WINDOW_UPDATE` has it; 0 if it is none.
    pub(crate) fn number(&self) -> u32 {
        self.payload.try_into().map_or(0, u32::from_be_bytes) & MAX_31
    }
}

/// What the peer stated of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// It has spoken.
    pub(crate) known: bool,
    /// Bytes of the table by which it reads headers.
    pub(crate) header_table: u32,
    /// Streams at once.
    pub(crate) max_streams: usize,
    /// What may be sent on a new stream.
    pub(crate) stream_window: u32,
    /// The largest payload it takes.
    pub(crate) max_frame: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            known: false,
            header_table: 4_096,
            max_streams: usize::MAX,
            stream_window: DEFAULT_WINDOW,
            max_frame: 16_384,
        }
    }
}

impl Settings {
    /// Takes in a SETTINGS frame.
    pub(crate) fn take(&mut self, payload: &[u8]) {
        self.known = true;
        for setting in payload.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                0x1 => self.header_table = value,
                0x3 => self.max_streams = value as usize,
                0x4 => self.stream_window = value,
                0x5 => self.max_frame = value,
                _ => {}
            }
        }
    }
}

/// What a client says first: it takes no pushes, and this much of answers on a stream and on the whole connection.
pub(crate) fn hello(window: u32) -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin(&mut out, 12, 0x4, 0, 0);
    for (name, value) in [(0x2_u16, 0), (0x4, window)] {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
    window_update(&mut out, window - DEFAULT_WINDOW);
    out
}

pub(crate) fn headers(out: &mut Vec<u8>, stream: u32, block: &[u8], ends_stream: bool) {
    let flags = END_HEADERS | if ends_stream { END_STREAM } else { 0 };
    begin(out, block.len(), 0x1, flags, stream);
    out.extend_from_slice(block);
}

/// The whole body of a request.
pub(crate) fn data(out: &mut Vec<u8>, stream: u32, body: &[u8]) {
    begin(out, body.len(), 0x0, END_STREAM, stream);
    out.extend_from_slice(body);
}

pub(crate) fn settings_ack(out: &mut Vec<u8>) {
    begin(out, 0, 0x4, ACK, 0);
}

pub(crate) fn ping_ack(out: &mut Vec<u8>, payload: &[u8]) {
    begin(out, payload.len(), 0x6, ACK, 0);
    out.extend_from_slice(payload);
}

/// Gives the peer so much more for the whole connection.
pub(crate) fn window_update(out: &mut Vec<u8>, count: u32) {
    begin(out, 4, 0x8, 0, 0);
    out.extend_from_slice(&count.to_be_bytes());
}

fn begin(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    // Lengths are checked against the peer's limit, which is below 2^24.
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written_and_only_whole() {
        let mut out = Vec::new();
        headers(&mut out, 7, b"block", false);
        data(&mut out, 7, b"body");
        let (first, length) = Frame::of(&out).unwrap();
        assert_eq!((first.kind, first.stream, first.payload), (Kind::Headers, 7, &b"block"[..]));
        assert!(first.ends_headers() && !first.ends_stream());
        let (second, rest) = Frame::of(&out[length..]).unwrap();
        assert_eq!((second.kind, second.unpadded()), (Kind::Data, Some(&b"body"[..])));
        assert!(second.ends_stream());
        assert_eq!(length + rest, out.len());
        assert!(Frame::of(&out[..length - 1]).is_none() && Frame::of(&out[..5]).is_none());
    }

    #[test]
    fn padding_is_taken_off_and_too_much_of_it_is_noticed() {
        let padded = |payload| Frame { kind: Kind::Data, flags: PADDED, stream: 1, payload };
        assert_eq!(padded(&[2, b'a', 0, 0]).unpadded(), Some(&b"a"[..]));
        assert_eq!(padded(&[4, b'a', 0, 0]).unpadded(), None);
        assert_eq!(padded(&[]).unpadded(), None);
    }

    #[test]
    fn settings_are_taken_in() {
        let mut settings = Settings::default();
        settings.take(&[0, 3, 0, 0, 0, 200, 0, 1, 0, 0, 0, 0, 0, 99, 1, 2, 3, 4]);
        assert!(settings.known);
        assert_eq!((settings.max_streams, settings.header_table), (200, 0));
    }
}
