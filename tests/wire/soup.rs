//! Bytes that nearly are a question: its field numbers with whatever type and content, nested, doubled and cut off.

use proptest::collection::vec;
use proptest::prelude::*;

/// A message of such fields.
pub(crate) fn soup() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        4 => "[a-z:-]{0,3}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..6),
        1 => Just(vec![0xff, 0xfe]),
    ];
    leaf.prop_recursive(7, 80, 6, |inner| {
        vec((tag(), shape(), inner), 0..6).prop_map(|fields| {
            fields.iter().flat_map(|(tag, shape, inner)| field(*tag, *shape, inner)).collect()
        })
    })
}

/// How a field is written.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Message,
    Varint(u64),
    Overlong,
    Fixed32,
    Fixed64,
    Group,
    OpenGroup,
    EndGroup,
    TooLong,
    Odd(u8),
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        60 => Just(Shape::Message),
        1 => any::<u64>().prop_map(Shape::Varint),
        1 => Just(Shape::Overlong),
        1 => Just(Shape::Fixed32),
        1 => Just(Shape::Fixed64),
        2 => Just(Shape::Group),
        1 => Just(Shape::OpenGroup),
        1 => Just(Shape::EndGroup),
        1 => Just(Shape::TooLong),
        1 => any::<u8>().prop_map(Shape::Odd),
    ]
}

fn tag() -> impl Strategy<Value = u32> {
    prop_oneof![
        30 => prop::sample::select(vec![1_u32, 2, 3, 4, 5, 10, 11, 13]),
        1 => prop::sample::select(vec![0_u32, 6, 99, (1 << 29) - 1]),
    ]
}

fn field(tag: u32, shape: Shape, inner: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let key = |wire_type: u64| u64::from(tag) << 3 | wire_type;
    match shape {
        Shape::Message => {
            varint(&mut bytes, key(2));
            varint(&mut bytes, inner.len() as u64);
            bytes.extend(inner);
        }
        Shape::Varint(value) => {
            varint(&mut bytes, key(0));
            varint(&mut bytes, value);
        }
        Shape::Overlong => {
            varint(&mut bytes, key(2));
            bytes.extend([0x80; 9]);
            bytes.push(inner.len().to_le_bytes()[0] & 0x7f);
            bytes.extend(inner);
        }
        Shape::Fixed32 => {
            varint(&mut bytes, key(5));
            bytes.extend([1; 4]);
        }
        Shape::Fixed64 => {
            varint(&mut bytes, key(1));
            bytes.extend([1; 8]);
        }
        Shape::Group => {
            varint(&mut bytes, key(3));
            bytes.extend(inner);
            varint(&mut bytes, key(4));
        }
        Shape::OpenGroup => varint(&mut bytes, key(3)),
        Shape::EndGroup => varint(&mut bytes, key(4)),
        Shape::TooLong => {
            varint(&mut bytes, key(2));
            varint(&mut bytes, inner.len() as u64 + 1);
            bytes.extend(inner);
        }
        Shape::Odd(byte) => bytes.push(byte),
    }
    bytes
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}
