//! The rank index: a frozen bitmap that tells how many members lie below any number in constant time.

use super::bits::Bits;

/// Words per block of the index: a look-up sums one stored count and at most seven words.
const BLOCK: usize = 8;

/// A frozen set of numbers with a rank index: 1 bit per number of span, and 1/16 bit more for the index.
#[derive(Clone, Debug, Default)]
pub struct Ranked {
    base: u64,
    words: Box<[u64]>,
    /// Members below each block of words.
    below: Box<[u64]>,
    count: u64,
}

impl Ranked {
    /// Freezes a set.
    pub fn new(bits: &Bits) -> Self {
        let words: Box<[u64]> = bits.words().into();
        let mut count = 0;
        let below = words
            .chunks(BLOCK)
            .map(|block| {
                let before = count;
                count += block.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
                before
            })
            .collect();
        Self { base: bits.base(), words, below, count }
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.slot(number).is_some_and(|slot| self.words[slot] >> (number % 64) & 1 == 1)
    }

    /// How many members are smaller than `number`.
    pub fn rank(&self, number: u64) -> u64 {
        if number < self.base {
            return 0;
        }
        let Some(slot) = self.slot(number) else { return self.count };
        let block = slot / BLOCK;
        let whole: u64 =
            self.words[block * BLOCK..slot].iter().map(|word| u64::from(word.count_ones())).sum();
        let part = self.words[slot] & ((1u64 << (number % 64)) - 1);
        self.below[block] + whole + u64::from(part.count_ones())
    }

    /// The smallest number in the set.
    pub fn first(&self) -> Option<u64> {
        let (slot, word) = (0..).zip(&self.words).find(|(_, word)| **word != 0)?;
        Some(self.base + slot * 64 + u64::from(word.trailing_zeros()))
    }

    /// The largest number in the set.
    pub fn last(&self) -> Option<u64> {
        let slot = self.words.iter().rposition(|word| *word != 0)?;
        Some(self.base + slot as u64 * 64 + 63 - u64::from(self.words[slot].leading_zeros()))
    }

    /// The frozen bitmap: its base and words.
    pub fn parts(&self) -> (u64, &[u64]) {
        (self.base, &self.words)
    }

    fn slot(&self, number: u64) -> Option<usize> {
        let slot = usize::try_from(number.checked_sub(self.base)? / 64).ok()?;
        (slot < self.words.len()).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rank_counts_the_members_below(
            numbers in prop::collection::btree_set(0..5_000u64, 0..300),
            trim in 0..5_000u64,
            probe in 0..6_000u64,
        ) {
            let mut bits = Bits::default();
            for number in &numbers {
                bits.insert(*number);
            }
            bits.trim_below(trim);
            let ranked = Ranked::new(&bits);
            prop_assert_eq!(ranked.rank(probe), bits.count_range(0, probe));
            prop_assert_eq!(ranked.contains(probe), bits.contains(probe));
            prop_assert_eq!(ranked.count(), bits.count());
            prop_assert_eq!(ranked.first(), (0..5_000).find(|number| bits.contains(*number)));
            prop_assert_eq!(ranked.last(), bits.last());
        }
    }
}
