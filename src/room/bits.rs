//! A set of numbers as a bitmap with a moving base: the line, the liveness and the calls are made of these.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use super::rank::Ranked;

const WORD: u64 = 64;

/// The widest span of numbers one bitmap holds: 2^30, that is 128 MiB.
///
/// Numbers come from our own counter or from signed tickets, so only a lost past can bring one this far off;
/// it is then refused instead of taking memory without bound.
pub const MAX_SPAN: u64 = 1 << 30;

/// A set of numbers, one bit each, from a base upward. Memory is one bit per number of its span.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Bits {
    /// The number of the first bit; a multiple of 64.
    base: u64,
    words: Vec<u64>,
    ones: u64,
}

impl Bits {
    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.ones
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// The first number the bitmap has room for, a multiple of 64; every number below it is absent.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The bitmap's words from the base upward, 64 numbers each, lowest bit first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The set whose bitmap these words are, from `base` upward; `base` is rounded down to a multiple of 64.
    pub fn from_words(base: u64, words: Vec<u64>) -> Self {
        let ones = words.iter().map(|word| u64::from(word.count_ones())).sum();
        Self { base: base & !(WORD - 1), words, ones }
    }

    /// The first number beyond the bitmap; it and all above are absent.
    pub fn end(&self) -> u64 {
        self.base + self.words.len() as u64 * WORD
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.slot(number).is_some_and(|slot| self.words[slot] & bit(number) != 0)
    }

    /// Adds a number; `false` if it was there, or lies farther than [`MAX_SPAN`] from the others.
    pub fn insert(&mut self, number: u64) -> bool {
        if !self.make_room(number) {
            return false;
        }
        let Some(slot) = self.slot(number) else { return false };
        let fresh = self.words[slot] & bit(number) == 0;
        self.words[slot] |= bit(number);
        self.ones += u64::from(fresh);
        fresh
    }

    /// Takes a number out; `false` if it was not there.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some(slot) = self.slot(number) else { return false };
        let there = self.words[slot] & bit(number) != 0;
        self.words[slot] &= !bit(number);
        self.ones -= u64::from(there);
        there
    }

    /// The smallest member at or above `number`.
    pub fn next_from(&self, number: u64) -> Option<u64> {
        let start = number.max(self.base);
        let first = self.slot(start)?;
        let mut word = self.words[first] & !(bit(start) - 1);
        let mut slot = first;
        while word == 0 {
            slot += 1;
            word = *self.words.get(slot)?;
        }
        Some(self.base + slot as u64 * WORD + u64::from(word.trailing_zeros()))
    }

    /// The largest member.
    pub fn last(&self) -> Option<u64> {
        let slot = self.words.iter().rposition(|word| *word != 0)?;
        Some(self.base + slot as u64 * WORD + u64::from(self.words[slot].ilog2()))
    }

    /// How many members lie in `from..to`.
    pub fn count_range(&self, from: u64, to: u64) -> u64 {
        let mut total = 0;
        self.for_words(from, to, |_, mask, word| total += u64::from((word & mask).count_ones()));
        total
    }

    /// Replaces the word holding `number` (64 numbers from `number & !63`).
    pub(super) fn update_word(&mut self, number: u64, change: impl FnOnce(u64) -> u64) {
        if let Some(slot) = self.slot(number) {
            let before = self.words[slot];
            let after = change(before);
            self.words[slot] = after;
            self.ones = self.ones + u64::from(after.count_ones()) - u64::from(before.count_ones());
        }
    }

    /// The word holding `number`: 64 numbers from `number & !63`, zero outside the bitmap.
    pub(super) fn word(&self, number: u64) -> u64 {
        self.slot(number).map_or(0, |slot| self.words[slot])
    }

    /// Adds every member of `other` that lies in `from..to`.
    pub fn union_range(&mut self, other: &Self, from: u64, to: u64) {
        let (mut lowest, mut highest) = (None, None);
        other.for_words(from, to, |at, mask, word| {
            if word & mask != 0 {
                lowest.get_or_insert(at);
                highest = Some(at);
            }
        });
        let (Some(lowest), Some(highest)) = (lowest, highest) else { return };
        if !(self.make_room(lowest) && self.make_room(highest)) {
            return;
        }
        other.for_words(from, to, |at, mask, word| self.update_word(at, |own| own | (word & mask)));
    }

    /// Takes out every member that is in neither `one` nor `other`.
    pub fn keep_only(&mut self, one: &Self, other: &Self) {
        for slot in 0..self.words.len() {
            let at = self.base + slot as u64 * WORD;
            self.update_word(at, |own| own & (one.word(at) | other.word(at)));
        }
    }

    /// Takes out every member of `other`.
    pub fn subtract(&mut self, other: &Self) {
        for slot in 0..self.words.len() {
            let at = self.base + slot as u64 * WORD;
            self.update_word(at, |own| own & !other.word(at));
        }
    }

    /// Takes out every member in `from..to`.
    pub fn clear_range(&mut self, from: u64, to: u64) {
        let (from, to) = (from.max(self.base), to.min(self.end()));
        let mut at = from & !(WORD - 1);
        while at < to {
            let mask = range_mask(at, from, to);
            self.update_word(at, |own| own & !mask);
            at += WORD;
        }
    }

    /// Takes out every member below `number` and gives their memory back.
    pub fn trim_below(&mut self, number: u64) {
        self.clear_range(0, number);
        let base = number & !(WORD - 1);
        if base >= self.end() {
            self.words.clear();
            self.base = base;
            return;
        }
        let dead = (base.saturating_sub(self.base) / WORD) as usize;
        // Moving the rest down costs time in proportion to it: done once the dead part has grown as large.
        if dead > 0 && (dead >= 64 || dead * 2 >= self.words.len()) {
            self.words.drain(..dead);
            self.base += dead as u64 * WORD;
        }
        if self.words.capacity() > 1_024 && self.words.capacity() / 4 > self.words.len() {
            self.words.shrink_to_fit();
        }
    }

    /// Calls `visit(first number of the word, mask of the numbers meant, word)` for all words in `from..to`.
    fn for_words(&self, from: u64, to: u64, mut visit: impl FnMut(u64, u64, u64)) {
        let (from, to) = (from.max(self.base), to.min(self.end()));
        let mut at = from & !(WORD - 1);
        while at < to {
            visit(at, range_mask(at, from, to), self.word(at));
            at += WORD;
        }
    }

    fn slot(&self, number: u64) -> Option<usize> {
        let slot = usize::try_from(number.checked_sub(self.base)? / WORD).ok()?;
        (slot < self.words.len()).then_some(slot)
    }

    /// Grows the bitmap, up or down, until it has room for `number`.
    fn make_room(&mut self, number: u64) -> bool {
        let word_start = number & !(WORD - 1);
        let Some(word_end) = word_start.checked_add(WORD) else { return false };
        if self.words.is_empty() {
            self.base = word_start;
        }
        let (low, high) = (self.base.min(word_start), self.end().max(word_end));
        if high - low > MAX_SPAN {
            return false;
        }
        if word_start < self.base {
            let missing = ((self.base - word_start) / WORD) as usize;
            self.words.splice(0..0, std::iter::repeat_n(0, missing));
            self.base = word_start;
        }
        let needed = ((high - self.base) / WORD) as usize;
        if needed > self.words.len() {
            self.words.resize(needed, 0);
        }
        true
    }
}

impl From<&Ranked> for Bits {
    fn from(ranked: &Ranked) -> Self {
        let (base, words) = ranked.parts();
        Self { base, words: words.to_vec(), ones: ranked.count() }
    }
}

fn bit(number: u64) -> u64 {
    1 << (number % WORD)
}

/// Which bits of the word starting at `at` lie in `from..to`.
fn range_mask(at: u64, from: u64, to: u64) -> u64 {
    let below = if from > at { !((1u64 << (from - at)) - 1) } else { u64::MAX };
    let above = if to - at < WORD { (1u64 << (to - at)) - 1 } else { u64::MAX };
    below & above
}

/// The form in a checkpoint: little-endian bytes in base64, trailing zeros cut.
#[derive(Serialize, Deserialize)]
struct Stored {
    base: u64,
    bits: String,
}

impl From<Bits> for Stored {
    fn from(set: Bits) -> Self {
        let mut bytes: Vec<u8> = set.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        Self { base: set.base, bits: STANDARD_NO_PAD.encode(bytes) }
    }
}

impl From<Stored> for Bits {
    fn from(stored: Stored) -> Self {
        // A damaged bitmap reads as empty: the tickets that come in then set their own bits again.
        let bytes = STANDARD_NO_PAD.decode(stored.bits).unwrap_or_default();
        let words: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
            .collect();
        Self::from_words(stored.base, words)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Remove(u64),
        Trim(u64),
        Clear(u64, u64),
        Union(Vec<u64>, u64, u64),
        Keep(Vec<u64>, Vec<u64>),
    }

    fn op() -> impl Strategy<Value = Op> {
        let number = || 0..700u64;
        let some = || prop::collection::vec(0..700u64, 0..40);
        prop_oneof![
            6 => number().prop_map(Op::Insert),
            2 => number().prop_map(Op::Remove),
            1 => number().prop_map(Op::Trim),
            1 => (number(), number()).prop_map(|(a, b)| Op::Clear(a, b)),
            1 => (some(), number(), number()).prop_map(|(s, a, b)| Op::Union(s, a, b)),
            1 => (some(), some()).prop_map(|(a, b)| Op::Keep(a, b)),
        ]
    }

    fn bits(numbers: &[u64]) -> Bits {
        let mut bits = Bits::default();
        for number in numbers {
            bits.insert(*number);
        }
        bits
    }

    proptest! {
        #[test]
        fn a_bitmap_is_a_set(ops in prop::collection::vec(op(), 1..80), from in 0..800u64, to in 0..800u64) {
            let (mut bits_under_test, mut set) = (Bits::default(), BTreeSet::new());
            for op in ops {
                match op {
                    Op::Insert(n) => prop_assert_eq!(bits_under_test.insert(n), set.insert(n)),
                    Op::Remove(n) => prop_assert_eq!(bits_under_test.remove(n), set.remove(&n)),
                    Op::Trim(n) => { bits_under_test.trim_below(n); set.retain(|m| *m >= n); }
                    Op::Clear(a, b) => { bits_under_test.clear_range(a, b); set.retain(|m| !(a..b).contains(m)); }
                    Op::Union(s, a, b) => {
                        bits_under_test.union_range(&bits(&s), a, b);
                        set.extend(s.into_iter().filter(|n| (a..b).contains(n)));
                    }
                    Op::Keep(a, b) => {
                        bits_under_test.keep_only(&bits(&a), &bits(&b));
                        set.retain(|n| a.contains(n) || b.contains(n));
                    }
                }
                prop_assert_eq!(bits_under_test.count(), set.len() as u64);
            }
            let numbers: Vec<u64> = (0..800).filter(|n| bits_under_test.contains(*n)).collect();
            prop_assert_eq!(&numbers, &set.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(bits_under_test.next_from(from), set.range(from..).next().copied());
            prop_assert_eq!(bits_under_test.last(), set.last().copied());
            prop_assert_eq!(bits_under_test.count_range(from, to), set.iter().filter(|n| (from..to).contains(n)).count() as u64);
            let stored = serde_json::to_string(&bits_under_test).unwrap();
            let back: Bits = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!((0..800).filter(|n| back.contains(*n)).collect::<Vec<_>>(), numbers);
        }
    }

    #[test]
    fn a_number_too_far_off_is_refused() {
        let mut bits = bits(&[1]);
        assert!(!bits.insert(u64::MAX - 64));
        assert!(!bits.insert(MAX_SPAN + 64));
        assert!(bits.insert(MAX_SPAN - 1));
    }

    #[test]
    fn a_moving_window_stays_small() {
        let mut bits = Bits::default();
        for number in 0..1_000_000 {
            bits.insert(number);
            bits.trim_below(number.saturating_sub(1_000));
        }
        assert!(bits.words.len() < 200, "{} words", bits.words.len());
    }
}
