//! One spelling per path and host, so that nobody walks around a room by writing its path differently.
//!
//! A path is read like this: the query and fragment are cut; percent-encoded unreserved characters
//! (`A-Z a-z 0-9 - . _ ~`) are decoded, once; other escapes keep their bytes, in upper case; a `%` that begins
//! no escape becomes `%25`; slashes in a row count as one; `.` and `..` are resolved, never above the root. A
//! slash at the end and upper and lower case stay as they are.

/// The path of a request target in its one spelling; `None` when it has no path: empty, or `*`.
///
/// The result begins with `/`, and normalising it again changes nothing.
pub fn normalise(target: &str) -> Option<String> {
    read(target, false)
}

/// The path as a lenient backend sees it: `%2F`, `%5C` and `\` are slashes, and what follows a `;` in a segment
/// is dropped before dots are resolved, so that `..;` is `..`. `None` when nothing in it could be taken so, or
/// when it has no path.
pub fn normalise_leniently(target: &str) -> Option<String> {
    let bytes = target.as_bytes();
    let suspicious = bytes.iter().any(|b| b"\\;".contains(b))
        || bytes
            .windows(3)
            .any(|w| w[0] == b'%' && slash_escape([w[1], w[2]].map(|b| b.to_ascii_uppercase())));
    suspicious.then(|| read(target, true)).flatten()
}

/// A host in its one spelling: lower case, without port and trailing dots.
pub fn normalise_host(authority: &str) -> String {
    let host = authority.trim_end_matches('.');
    let without_port = match host.rsplit_once(':') {
        // The last colon of an address like [::1] does not begin a port.
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !ends_inside_brackets(name) => name,
        _ => host,
    };
    without_port.trim_end_matches('.').to_ascii_lowercase()
}

fn ends_inside_brackets(name: &str) -> bool {
    name.starts_with('[') && !name.ends_with(']')
}

fn slash_escape(digits: [u8; 2]) -> bool {
    matches!(&digits, b"2F" | b"5C")
}

fn read(target: &str, leniently: bool) -> Option<String> {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    let path = without_origin(target);
    if path.is_empty() || path == "*" {
        return None;
    }
    Some(resolve(&decode(path, leniently), leniently))
}

/// The path of an absolute-form target, `http://host/path`; every other target as it is.
fn without_origin(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        _ => target,
    }
}

fn decode(path: &str, leniently: bool) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '%' => match escape(rest.as_bytes()) {
                Some((_, digits)) if leniently && slash_escape(digits) => {
                    decoded.push('/');
                    rest = &rest[2..];
                }
                Some((byte, _)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                    decoded.push(char::from(byte));
                    rest = &rest[2..];
                }
                Some((_, [high, low])) => {
                    decoded.extend(['%', char::from(high), char::from(low)]);
                    rest = &rest[2..];
                }
                // Left alone, it could make an escape of what follows when somebody decodes once more.
                None => decoded.push_str("%25"),
            },
            '\\' if leniently => decoded.push('/'),
            other => decoded.push(other),
        }
    }
    decoded
}

/// The byte that the two hex digits at the front stand for, and the digits in upper case.
fn escape(bytes: &[u8]) -> Option<(u8, [u8; 2])> {
    let digits = [bytes.first()?.to_ascii_uppercase(), bytes.get(1)?.to_ascii_uppercase()];
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    Some((value(digits[0])? * 16 + value(digits[1])?, digits))
}

fn resolve(path: &str, leniently: bool) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut open_end = false;
    for segment in path.split('/') {
        let bare = segment.split(';').next().unwrap_or_default();
        let segment = if leniently { bare } else { segment };
        open_end = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let end = if open_end && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_spelling_per_path() {
        for (written, read) in [
            ("/checkout", "/checkout"),
            ("/checkout?x=/../y#z", "/checkout"),
            ("/checkout#?", "/checkout"),
            ("//checkout///pay", "/checkout/pay"),
            ("/open/../checkout/./pay", "/checkout/pay"),
            ("/open/%2e%2E/checkout", "/checkout"),
            ("/%63heckout", "/checkout"),
            ("/a//../b", "/b"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a/", "/a/"),
            ("/a%2fb%c3%a9", "/a%2Fb%C3%A9"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/%%32%65", "/%252e"),
            ("/100%", "/100%25"),
            ("/%é", "/%25é"),
            ("/Checkout", "/Checkout"),
            ("checkout", "/checkout"),
            ("http://shop.example.com/checkout?x", "/checkout"),
            ("http://shop.example.com", "/"),
            ("?x", "-"),
            ("", "-"),
            ("*", "-"),
        ] {
            assert_eq!(normalise(written).as_deref().unwrap_or("-"), read, "{written}");
        }
    }

    #[test]
    fn the_other_reading_of_slashes() {
        for (written, read) in [
            ("/open/..%2Fcheckout", "/checkout"),
            ("/open%5c..%5Ccheckout", "/checkout"),
            ("/open\\..\\checkout", "/checkout"),
            ("/open/..;/checkout", "/checkout"),
            ("/open;x/..;y=/checkout;z", "/checkout"),
            ("/checkout", "-"),
            ("/%20", "-"),
        ] {
            assert_eq!(normalise_leniently(written).as_deref().unwrap_or("-"), read, "{written}");
        }
    }

    #[test]
    fn one_spelling_per_host() {
        for (written, read) in [
            ("Shop.Example.COM:8443", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("shop.example.com.:443", "shop.example.com"),
            ("shop.example.com:", "shop.example.com"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(normalise_host(written), read, "{written}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(path in "(/|%|\\.|[a-zA-Z0-9]|\\\\|2|e|F|é|\\?|:|\\*){0,24}") {
            let normal = normalise(&path);
            if let Some(normal) = &normal {
                prop_assert!(normal.starts_with('/') && !normal.contains("//"));
                prop_assert!(!normal.split('/').any(|segment| segment == "." || segment == ".."));
                let twice = normalise(normal);
                prop_assert_eq!(twice.as_ref(), Some(normal));
            }
            if let Some(other) = normalise_leniently(&path) {
                prop_assert_eq!(normalise(&other), Some(other));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,64}") {
            let _ = (normalise(&text), normalise_leniently(&text), normalise_host(&text));
        }

        #[test]
        fn encoding_what_needs_none_changes_nothing(path in "/[a-z./]{0,16}", which in any::<u32>()) {
            let encoded: String = path
                .char_indices()
                .map(|(i, c)| if which >> (i % 32) & 1 == 1 && c != '/' { format!("%{:02x}", c as u32) } else { c.into() })
                .collect();
            prop_assert_eq!(normalise(&encoded), normalise(&path));
        }
    }
}
