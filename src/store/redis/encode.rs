//! What the scripts are told: numbers as decimal text, bitmaps as Redis keeps them.

use bytes::Bytes;

use crate::room::admission::units_per_ms;
use crate::room::bits::Bits;
use crate::room::policy::{Millis, Mode, Policy};
use crate::room::rate::Rate;
use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;
use crate::room::state::{Beats, Call, Hints, Limits};

/// The arguments that every script begins with: now (empty: Redis tells the time), hints, policy.
pub(super) fn call(call: &Call, now: Option<Millis>) -> Vec<Bytes> {
    let Hints { generation, next, head, floor } = call.hints;
    vec![
        now.map(|now| now.to_string()).unwrap_or_default().into(),
        format!("{generation} {next} {head} {floor}").into(),
        call.policy.as_deref().map(policy).unwrap_or_default().into(),
    ]
}

/// A policy: a line with the numbers the scripts need, and below it the whole as JSON.
pub(super) fn policy(policy: &Policy) -> String {
    let numbers = [
        optional(policy.capacity),
        policy.rate.map_or(-1, gain),
        i64::from(policy.burst),
        signed(policy.session_ttl),
        signed(policy.claim_ttl),
        signed(policy.patience),
        i64::from(policy.mode == Mode::Off),
    ];
    with_json(&numbers, policy)
}

/// An operator's limits, in the same form; empty if there are none.
pub(super) fn limits(limits: &Limits) -> String {
    if *limits == Limits::default() {
        return String::new();
    }
    with_json(&[optional(limits.capacity), limits.rate.map_or(-1, gain), optional(limits.burst)], limits)
}

fn with_json(numbers: &[i64], whole: &impl serde::Serialize) -> String {
    let numbers: Vec<_> = numbers.iter().map(i64::to_string).collect();
    // Plain data with string keys always has a JSON form; what is missing is noticed when it is read back.
    let json = serde_json::to_string(whole).unwrap_or_default();
    format!("{}\n{json}", numbers.join(" "))
}

fn optional(count: Option<u32>) -> i64 {
    count.map_or(-1, i64::from)
}

fn gain(rate: Rate) -> i64 {
    signed(units_per_ms(rate))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A place.
pub(super) fn place(place: Place) -> Bytes {
    format!("{}:{}", place.generation, place.number).into()
}

/// Who was heard of: how many lines, and for each its generation, base and bytes.
pub(super) fn beats(beats: &Beats, args: &mut Vec<Bytes>) {
    args.push(beats.len().to_string().into());
    for (generation, bits) in beats {
        args.push(generation.to_string().into());
        bitmap(bits.base(), bits.words(), args);
    }
}

/// What a replica last knew.
pub(super) fn known(known: &Snapshot, args: &mut Vec<Bytes>) {
    args.push(known.floor.to_string().into());
    args.push(u8::from(known.paused).to_string().into());
    args.push(limits(&known.limits).into());
    args.push(format!("{} {}", known.paused_at, known.limits_at).into());
    args.push(known.lines.len().to_string().into());
    for line in &known.lines {
        let complete = u8::from(!line.in_doubt);
        args.push(format!("{} {} {} {complete}", line.generation, line.next, line.head).into());
        for ranked in [&line.waiting, &line.called] {
            let (base, words) = ranked.parts();
            bitmap(base, words, args);
        }
    }
}

fn bitmap(base: u64, words: &[u64], args: &mut Vec<Bytes>) {
    args.push(base.to_string().into());
    args.push(bytes_of(words));
}

/// A bitmap's words as Redis keeps them, the first number in the highest bit of the first byte, trailing zeros cut.
pub(super) fn bytes_of(words: &[u64]) -> Bytes {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.reverse_bits().to_be_bytes()).collect();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    bytes.into()
}

/// The bitmap that begins at `base`, a multiple of 64, from its bytes.
pub(super) fn bits_of(base: u64, bytes: &[u8]) -> Bits {
    let word = |chunk: &[u8]| {
        let mut whole = [0; 8];
        whole[..chunk.len()].copy_from_slice(chunk);
        u64::from_be_bytes(whole).reverse_bits()
    };
    Bits::from_words(base, bytes.chunks(8).map(word).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_goes_there_and_back() {
        let mut bits = Bits::default();
        for number in [64, 65, 71, 72, 127, 128, 300] {
            bits.insert(number);
        }
        let bytes = bytes_of(bits.words());
        assert_eq!(bytes[..2], [0b1100_0001, 0b1000_0000]);
        let back = bits_of(bits.base(), &bytes);
        assert_eq!(
            (0..400).filter(|n| back.contains(*n)).collect::<Vec<_>>(),
            [64, 65, 71, 72, 127, 128, 300]
        );
        assert_eq!(back.count(), 7);
    }
}
