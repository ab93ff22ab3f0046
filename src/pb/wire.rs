//! Messages written straight into their bytes, field by field, where making them of `String`s first costs too much.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// A text; one that is empty is not written, as protobuf has it.
pub fn put_text(message: &mut Vec<u8>, tag: u32, text: &str) {
    if !text.is_empty() {
        encode_key(tag, WireType::LengthDelimited, message);
        encode_varint(text.len() as u64, message);
        message.extend_from_slice(text.as_bytes());
    }
}

/// An enumeration's value; 0 is not written.
pub fn put_choice(message: &mut Vec<u8>, tag: u32, choice: u8) {
    if choice != 0 {
        encode_key(tag, WireType::Varint, message);
        message.push(choice & 0x7f);
    }
}

/// A double, 0 included, as one of a `oneof` is written.
pub fn put_double(message: &mut Vec<u8>, tag: u32, double: f64) {
    encode_key(tag, WireType::SixtyFourBit, message);
    message.extend_from_slice(&double.to_le_bytes());
}

/// A message, empty or not, with what `write` puts into it.
pub fn put_message(message: &mut Vec<u8>, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
    encode_key(tag, WireType::LengthDelimited, message);
    let start = message.len();
    message.push(0);
    write(message);
    // The length stands before what it measures. Nearly always one byte is enough; else what was written moves on.
    let len = message.len() - start - 1;
    let width = encoded_len_varint(len as u64);
    if width > 1 {
        message.resize(start + width + len, 0);
        message.copy_within(start + 1..start + 1 + len, start + width);
    }
    encode_varint(len as u64, &mut &mut message[start..start + width]);
}
