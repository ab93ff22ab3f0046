//! A request's headers in HPACK (RFC 7541): in full once, and from then on as numbers of the peer's table, as Envoy does.

/// Of HPACK's static table: fields that stand there whole.
const WHOLE: [(&str, &str, u8); 3] = [(":method", "GET", 2), (":method", "POST", 3), (":scheme", "http", 6)];
/// Of the same table: names.
const NAMES: [(&str, u8); 5] =
    [(":authority", 1), (":path", 4), ("accept", 19), ("content-type", 31), ("user-agent", 58)];
const COOKIE: u8 = 32;
/// The first number of what was told before.
const TOLD: usize = 62;
/// What a field takes in the table beyond its text.
const FIELD: usize = 32;

/// The headers that all requests on a connection share.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    fields: Vec<(&'static str, String)>,
    /// The next block; its first part is what all share.
    block: Vec<u8>,
    shared: usize,
    told: bool,
}

impl Head {
    /// Headers of a gRPC call.
    pub(crate) fn grpc(path: &str) -> Self {
        Self::new(vec![
            (":method", "POST".to_owned()),
            (":scheme", "http".to_owned()),
            (":path", path.to_owned()),
            (":authority", "loadtest".to_owned()),
            ("te", "trailers".to_owned()),
            ("content-type", "application/grpc".to_owned()),
        ])
    }

    /// Headers of a GET for JSON.
    pub(crate) fn get(path: &str) -> Self {
        Self::new(vec![
            (":method", "GET".to_owned()),
            (":scheme", "http".to_owned()),
            (":path", path.to_owned()),
            (":authority", "loadtest".to_owned()),
            ("accept", "application/json".to_owned()),
        ])
    }

    /// Any headers, those with a colon first.
    pub(crate) fn new(fields: Vec<(&'static str, String)>) -> Self {
        Self { fields, block: Vec::new(), shared: 0, told: false }
    }

    /// The block of the next request, with this cookie besides (none: empty). `table`: what the peer keeps, bytes.
    pub(crate) fn block(&mut self, cookie: &[u8], table: u32) -> &[u8] {
        let keeps = self.size() <= table as usize;
        if self.shared == 0 || (!self.told && keeps) {
            self.block.clear();
            self.told = self.shared > 0;
            self.write(keeps);
            self.shared = self.block.len();
        }
        self.block.truncate(self.shared);
        if !cookie.is_empty() {
            // Not to be kept: each visitor has another.
            integer(&mut self.block, 0x00, 4, COOKIE.into());
            text(&mut self.block, cookie);
        }
        &self.block
    }

    /// What the fields take in the peer's table.
    fn size(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len() + FIELD).sum()
    }

    fn write(&mut self, keeps: bool) {
        let is_whole = |name: &str, value: &str| WHOLE.iter().find(|(n, v, _)| *n == name && *v == value);
        let kept = self.fields.iter().filter(|(name, value)| is_whole(name, value).is_none()).count();
        let mut at = 0;
        for (name, value) in &self.fields {
            if let Some((_, _, index)) = is_whole(name, value) {
                self.block.push(0x80 | index);
                continue;
            }
            at += 1;
            if self.told {
                // The newest has the lowest number.
                integer(&mut self.block, 0x80, 7, TOLD + kept - at);
                continue;
            }
            let (mark, prefix) = if keeps { (0x40, 6) } else { (0x00, 4) };
            if let Some((_, index)) = NAMES.iter().find(|(known, _)| known == name) {
                integer(&mut self.block, mark, prefix, usize::from(*index));
            } else {
                integer(&mut self.block, mark, prefix, 0);
                text(&mut self.block, name.as_bytes());
            }
            text(&mut self.block, value.as_bytes());
        }
    }
}

/// An integer behind a mark in the upper bits of its first byte.
fn integer(out: &mut Vec<u8>, mark: u8, prefix: u8, value: usize) {
    let most = (1_usize << prefix) - 1;
    let low = |value: usize| u8::try_from(value & 0xff).unwrap_or(0);
    if value < most {
        out.push(mark | low(value));
        return;
    }
    out.push(mark | low(most));
    let mut rest = value - most;
    while rest >= 128 {
        out.push(0x80 | low(rest & 0x7f));
        rest >>= 7;
    }
    out.push(low(rest));
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    integer(out, 0x00, 7, text.len());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(decoder: &mut loona_hpack::Decoder<'_>, block: &[u8]) -> Vec<(String, String)> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        decoder.decode(block).unwrap().into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn every_block_says_the_same_and_the_later_ones_in_few_bytes() {
        for table in [4_096, 0] {
            let mut decoder = loona_hpack::Decoder::new();
            let mut head = Head::grpc("/envoy.service.auth.v3.Authorization/Check");
            let first = read(&mut decoder, head.block(b"", table));
            assert_eq!(first[2], (":path".into(), "/envoy.service.auth.v3.Authorization/Check".into()));
            assert_eq!(first.len(), 6);
            let cookie = "c".repeat(300);
            for _ in 0..3 {
                let block = head.block(cookie.as_bytes(), table).to_vec();
                let mut later = read(&mut decoder, &block);
                assert_eq!(later.pop(), Some(("cookie".into(), cookie.clone())));
                assert_eq!(later, first);
            }
            assert_eq!(head.block(b"", table).len() == 6, table > 0);
        }
    }
}
