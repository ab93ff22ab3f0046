//! Tests of what the ledger makes of answers.

use super::*;
use crate::room::name::RoomName;

fn numbers(numbers: &[i64]) -> Value {
    Value::Array(numbers.iter().copied().map(Value::Integer).collect())
}

#[test]
fn answers_that_are_none_of_ours_are_refused() {
    assert_eq!(decisions(numbers(&[1, 19, 0, 50_000]), 1).unwrap().len(), 1);
    for (answer, count) in [
        (numbers(&[1, 19, 0, 50_000]), 2),
        (numbers(&[1, 19, 0]), 1),
        (numbers(&[1, -1, 0, 50_000]), 1),
        (Value::Null, 0),
    ] {
        assert!(decisions(answer.clone(), count).is_err(), "{answer:?}");
    }
    let taken = Claimed::Taken(Holder::numbered(5), 7);
    assert_eq!(claimed(numbers(&[0, 5, 7, 5]), 2).unwrap(), [Claimed::First, taken]);
    for wrong in [&[0, 5][..], &[0, 5, 7], &[0, 5, -2, 5]] {
        assert!(claimed(numbers(wrong), 2).is_err(), "{wrong:?}");
    }
    let with = |text: Value| {
        let mut values = numbers(&[2, 1, 9]).into_array();
        values.push(text);
        muster(Value::Array(values))
    };
    let told = with("deny".into()).unwrap();
    assert_eq!((told.checking, told.others, told.version), (2, 1, 9));
    assert_eq!(told.document, Some(Document::new("deny").unwrap().given(9)));
    assert_eq!(muster(numbers(&[2, 1, 9])).unwrap().document, None);
    assert!(muster(numbers(&[2, 1])).is_err() && with(numbers(&[1])).is_err());
}

#[test]
fn no_room_shares_a_tag_with_the_ledger() {
    for tag in ["~0", "~255", MUSTER] {
        assert!(RoomName::parse(tag).is_none(), "{tag}");
    }
}
