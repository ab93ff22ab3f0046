//! Any bytes as `Cookie` headers, separated by line ends: what is found is bounded, usable, and stands there.
#![no_main]

use anteroom::cookie::{MAX_CANDIDATES, MAX_VALUE_LEN, cookie_values};
use libfuzzer_sys::fuzz_target;

const NAME: &str = "t";

fuzz_target!(|bytes: &[u8]| {
    let headers: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let found: Vec<&str> = cookie_values(headers.iter().copied(), NAME).collect();
    assert!(found.len() <= MAX_CANDIDATES);
    for (index, value) in found.iter().enumerate() {
        assert!((1..=MAX_VALUE_LEN).contains(&value.len()));
        assert!(value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\,;".contains(&byte)));
        assert!(!found[..index].contains(value), "found twice: {value}");
        let stands = |header: &&[u8]| header.windows(value.len()).any(|window| window == value.as_bytes());
        assert!(headers.iter().any(stands), "not in the headers: {value}");
        // As a cookie of its own it is found again.
        let alone = format!("{NAME}={value}");
        assert_eq!(cookie_values([alone.as_bytes()], NAME).collect::<Vec<_>>(), [*value]);
    }
});
