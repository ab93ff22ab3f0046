//! What the scripts answer, read with suspicion: anything unexpected is an error, never a guess.

use bytes::Bytes;
use fred::types::Value;

use crate::room::policy::Millis;
use crate::room::standing::Place;
use crate::room::state::Outcome;

/// An answer that no script of ours gives.
#[derive(Debug, thiserror::Error)]
#[error("the script's answer is not understood: {0} expected")]
pub(super) struct Garbled(pub(super) &'static str);

/// The elements of an array.
pub(super) fn array(value: Value) -> Result<Vec<Value>, Garbled> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(Garbled("an array")),
    }
}

/// A whole number, as integer or as text.
pub(super) fn number(value: &Value) -> Result<u64, Garbled> {
    let number = match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::String(text) => text.parse().ok(),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    number.ok_or(Garbled("a whole number"))
}

/// A string of bytes.
pub(super) fn bytes(value: Value) -> Result<Bytes, Garbled> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::String(text) => Ok(text.into_inner()),
        _ => Err(Garbled("bytes")),
    }
}

/// A text.
pub(super) fn text(value: &Value) -> Result<&str, Garbled> {
    let text = match value {
        Value::String(text) => Some(&**text),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    text.ok_or(Garbled("text"))
}

/// `generation:number`.
pub(super) fn place(text: &str) -> Result<Place, Garbled> {
    let parse = || {
        let (generation, number) = text.split_once(':')?;
        Some(Place { generation: generation.parse().ok()?, number: number.parse().ok()? })
    };
    parse().ok_or(Garbled("generation:number"))
}

/// Runs of outcomes, as `lua/arrive.lua` gives them; `count` in all.
pub(super) fn outcomes(value: Value, count: usize) -> Result<Vec<Outcome>, Garbled> {
    let values = array(value)?;
    let mut outcomes = Vec::with_capacity(count);
    for run in values.chunks(5) {
        let [kind, generation, first, length, value] = run else { return Err(Garbled("runs of five")) };
        let (kind, value) = (number(kind)?, number(value)?);
        let (generation, first, length) = (number(generation)?, number(first)?, number(length)?);
        if length > count as u64 {
            return Err(Garbled("as many outcomes as asked for"));
        }
        outcomes.extend((0..length).map_while(|step| {
            let place = Place { generation, number: first + step };
            match kind {
                0 => Some(Outcome::Waiting(place, value + step)),
                1 => Some(Outcome::Admitted(place, value)),
                2 => Some(Outcome::Gone(place)),
                _ => None,
            }
        }));
    }
    if outcomes.len() == count { Ok(outcomes) } else { Err(Garbled("as many outcomes as asked for")) }
}

/// A list of ends, 0 for none; `count` in all.
pub(super) fn ends(value: Value, count: usize) -> Result<Vec<Option<Millis>>, Garbled> {
    let ends: Result<Vec<_>, _> =
        array(value)?.iter().map(|value| Ok(Some(number(value)?).filter(|end| *end > 0))).collect();
    ends.and_then(
        |ends| if ends.len() == count { Ok(ends) } else { Err(Garbled("as many ends as asked for")) },
    )
}

/// A list of 1 and 0; `count` in all.
pub(super) fn truths(value: Value, count: usize) -> Result<Vec<bool>, Garbled> {
    Ok(ends(value, count)?.iter().map(Option::is_some).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(numbers: [i64; 5]) -> Value {
        Value::Array(numbers.map(Value::Integer).to_vec())
    }

    #[test]
    fn a_run_of_outcomes_is_spread_out() {
        let place = |number| Place { generation: 9, number };
        let read = outcomes(run([0, 9, 4, 2, 7]), 2).unwrap();
        assert_eq!(read, [Outcome::Waiting(place(4), 7), Outcome::Waiting(place(5), 8)]);
        assert_eq!(outcomes(run([1, 9, 4, 1, 70]), 1).unwrap(), [Outcome::Admitted(place(4), 70)]);
    }

    #[test]
    fn an_answer_that_is_none_of_ours_is_refused() {
        for (value, count) in [
            (run([0, 9, 4, 2, 7]), 1),
            (run([0, 9, 4, 2, 7]), 3),
            (run([3, 9, 4, 1, 7]), 1),
            (run([0, 9, 4, -1, 7]), 1),
            (run([0, 9, 4, i64::MAX, 7]), 1),
            (Value::Array(vec![Value::Integer(0)]), 1),
            (Value::Null, 0),
        ] {
            assert!(outcomes(value.clone(), count).is_err(), "{value:?}");
        }
        assert!(ends(Value::Array(vec![Value::Integer(5)]), 2).is_err());
        assert!(place("5").is_err() && place("5:x").is_err() && place(":").is_err());
    }
}
