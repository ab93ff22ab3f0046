//! The W3C `traceparent` header, level 2.

use std::fmt;

/// The trace that a request belongs to, as its `traceparent` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// Length of a version 00 `traceparent`, in bytes.
    const LEN: usize = 55;

    /// Reads a `traceparent`; `None` if it breaks the standard in any way, as it is then to be ignored.
    ///
    /// Versions yet to come may be longer; of them the part that version 00 knows is read.
    /// <https://www.w3.org/TR/trace-context-2/#traceparent-header>
    pub fn parse(traceparent: &str) -> Option<Self> {
        let text = traceparent.as_bytes();
        let (head, rest) = text.split_at_checked(Self::LEN)?;
        let [version] = hex::<1>(&head[..2])?;
        let longer_may_be = version != 0 && rest.first() == Some(&b'-');
        if version == 0xff || !(rest.is_empty() || longer_may_be) {
            return None;
        }
        if [head[2], head[35], head[52]] != [b'-'; 3] {
            return None;
        }
        let context = Self {
            trace_id: hex(&head[3..35])?,
            parent_id: hex(&head[36..52])?,
            flags: hex::<1>(&head[53..])?[0],
        };
        let zero = context.trace_id == [0; 16] || context.parent_id == [0; 8];
        (!zero).then_some(context)
    }

    /// Whether the caller records this trace.
    pub fn sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The trace's id as it is written: 32 hexadecimal digits. Formats only when it is displayed.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        Hex(self.trace_id)
    }

    pub(super) fn trace_id_bytes(&self) -> [u8; 16] {
        self.trace_id
    }

    pub(super) fn parent_id_bytes(&self) -> [u8; 8] {
        self.parent_id
    }
}

struct Hex([u8; 16]);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Reads exactly `2 × N` lower-case hexadecimal digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    fn value(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_good_header_is_read() {
        let context = TraceContext::parse(GOOD).unwrap();
        assert!(context.sampled());
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.parent_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
        // The random-trace-id flag of level 2 and bits yet to come say nothing about sampling.
        for (flags, sampled) in [("00", false), ("02", false), ("03", true), ("fe", false), ("ff", true)] {
            let header = format!("{}{flags}", &GOOD[..53]);
            assert_eq!(TraceContext::parse(&header).unwrap().sampled(), sampled, "{flags}");
        }
    }

    #[test]
    fn versions_to_come_may_be_longer() {
        let future = format!("01{}", &GOOD[2..]);
        assert!(TraceContext::parse(&future).is_some());
        assert!(TraceContext::parse(&format!("{future}-more")).is_some());
        assert!(TraceContext::parse(&format!("{future}more")).is_none());
        assert!(TraceContext::parse(&format!("{GOOD}-more")).is_none(), "not version 00");
    }

    #[test]
    fn whatever_breaks_the_standard_is_ignored() {
        for bad in [
            "",
            "00",
            &GOOD[..54],
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1g",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-001",
            "00-0af7651916cd43dd8448eb211c80319가-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".{0,80}", cut in 0..56_usize) {
            let _ = TraceContext::parse(&text);
            let _ = TraceContext::parse(&format!("{}{text}", &GOOD[..cut.min(55)]));
        }
    }
}
