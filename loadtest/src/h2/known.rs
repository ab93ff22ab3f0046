//! Header blocks that were read before, so that most need not be read again.
//!
//! Reading a string in Huffman's code costs the HPACK library some 10 µs, more than all the rest of an answer. A block
//! that changes nothing in the table says the same each time until another one changes it.

/// How many blocks are kept: an answer's head and its trailers, with some room.
const MANY: usize = 8;

/// What a block of an answer told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) status: Option<u16>,
    pub(crate) grpc_status: Option<i32>,
}

/// The last blocks that changed nothing.
#[derive(Debug, Default)]
pub(crate) struct Known {
    blocks: Vec<(Vec<u8>, Told)>,
}

impl Known {
    /// What this block tells, if it was read since the table changed last.
    pub(crate) fn get(&self, block: &[u8]) -> Option<Told> {
        self.blocks.iter().find(|(known, _)| known == block).map(|(_, told)| *told)
    }

    /// Takes in what a block was read as.
    pub(crate) fn note(&mut self, block: &[u8], told: Told) {
        if changes_table(block).unwrap_or(true) || self.blocks.len() >= MANY {
            self.blocks.clear();
        }
        if changes_table(block) == Some(false) {
            self.blocks.push((block.to_vec(), told));
        }
    }
}

/// Whether a block adds to the table or changes its size; `None` if it ends in the middle.
fn changes_table(mut block: &[u8]) -> Option<bool> {
    while let Some(first) = block.first() {
        match first {
            0x80.. => integer(&mut block, 7)?,
            0x20..0x80 => return Some(true),
            // A field that is not to be kept: a name by its number or in full, and a value.
            0x00..0x20 => {
                if integer(&mut block, 4)? == 0 {
                    text(&mut block)?;
                }
                text(&mut block)?;
                0
            }
        };
    }
    Some(false)
}

fn text(block: &mut &[u8]) -> Option<()> {
    let length = integer(block, 7)?;
    *block = block.get(length..)?;
    Some(())
}

fn integer(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        for step in 0..4 {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            value += usize::from(byte & 0x7f) << (7 * step);
            if byte & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_known_until_another_changes_the_table() {
        // :status 200, and a field that is not kept: name and value in full.
        let plain = [&[0x88, 0x00, 1][..], b"a", &[2], b"bc"].concat();
        assert_eq!(changes_table(&plain), Some(false));
        assert_eq!(changes_table(&[0x88, 0x40, 1, b'a', 1, b'b']), Some(true), "kept");
        assert_eq!(changes_table(&[0x3f, 0xe1, 0x1f]), Some(true), "another size");
        assert_eq!(changes_table(&plain[..plain.len() - 1]), None);
        let long = [&[0x0f, 0x10, 0x7f, 0x01][..], &[b'x'; 128]].concat();
        assert_eq!(changes_table(&long), Some(false), "long integers");

        let told = Told { status: Some(200), grpc_status: None };
        let mut known = Known::default();
        known.note(&plain, told);
        known.note(&[0x88], Told::default());
        assert_eq!(known.get(&plain), Some(told));
        known.note(&[0x40, 1, b'a', 1, b'b'], Told::default());
        assert_eq!((known.get(&plain), known.get(&[0x40, 1, b'a', 1, b'b'])), (None, None));
        for count in 0..100 {
            known.note(&[0x00, 1, b'a', 1, count], told);
        }
        assert!(known.blocks.len() <= MANY);
    }
}
