//! Content negotiation: does the client want a page or JSON?

use std::cmp::Reverse;

/// A weight of `q=1`, in thousandths.
const FULL: u16 = 1_000;

/// Whether `text/html` is named with a weight above 0, and not behind a JSON type that is named as well. At equal
/// weights the one named first wins.
///
/// Wildcards count for neither: browsers name `text/html` when they want a page.
pub(super) fn prefers_html<'a>(headers: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut html, mut json) = (Wish::default(), Wish::default());
    for (order, range) in headers.flat_map(|header| header.split(|byte| *byte == b',')).enumerate() {
        let mut parts = range.split(|byte| *byte == b';');
        let Some(media_type) = parts.next().map(<[u8]>::trim_ascii) else { continue };
        let wish = Wish { weight: parts.find_map(weight_of).unwrap_or(FULL), earliness: Reverse(order) };
        if media_type.eq_ignore_ascii_case(b"text/html") {
            html = html.max(wish);
        } else if is_json(media_type) {
            json = json.max(wish);
        }
    }
    html.weight > 0 && html > json
}

/// How much a type is wanted: by weight, then by being named early.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    weight: u16,
    earliness: Reverse<usize>,
}

/// `application/json` and its relatives (`application/problem+json`).
fn is_json(media_type: &[u8]) -> bool {
    const SUFFIX: &[u8] = b"+json";
    let suffix = media_type.len().checked_sub(SUFFIX.len()).map(|start| &media_type[start..]);
    media_type.eq_ignore_ascii_case(b"application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(SUFFIX))
}

/// The weight in thousandths, if this parameter is one; 0 where it cannot be understood.
fn weight_of(parameter: &[u8]) -> Option<u16> {
    let parameter = std::str::from_utf8(parameter.trim_ascii()).ok()?;
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = || format!("{fraction:0<3}").parse().unwrap_or(0);
    Some(match whole {
        "0" if digits => thousandths(),
        "1" if digits && fraction.bytes().all(|byte| byte == b'0') => FULL,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(headers: &[&str]) -> bool {
        prefers_html(headers.iter().map(|header| header.as_bytes()))
    }

    #[test]
    fn browsers_want_a_page() {
        for accept in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            "text/html",
            "TEXT/HTML; Charset=utf-8; Q=0.1",
            "text/html;q=0.9, application/json;q=0.8",
            "application/json;q=0.8,text/html",
            "text/html, application/json",
            "text/html;q=0.001",
            "*/*;q=0.1, text/html;q=1.000",
            "application/json;q=0, text/html;q=0.5",
        ] {
            assert!(html(&[accept]), "{accept}");
        }
        assert!(html(&["*/*;q=0.8", "text/html"]));
    }

    #[test]
    fn programs_do_not() {
        for accept in [
            "",
            ",;,",
            "*/*",
            "text/*",
            "application/json",
            "application/json, text/plain, */*",
            "application/json, text/html",
            "text/html;q=0",
            "text/html;q=0.000, */*",
            "text/html;q=0.5, application/json",
            "text/html;q=0.5, application/problem+json;q=0.6",
            "text/htmlx",
            "application/xhtml+xml",
            "text/html;q=2",
            "text/html;q=-1",
            "text/html;q=0.1234",
            "text/html;q=",
            "text/html;q=0.\u{0663}",
        ] {
            assert!(!html(&[accept]), "{accept}");
        }
        assert!(!html(&[]));
        assert!(!html(&["application/json", "text/html"]));
    }

    #[test]
    fn bytes_that_are_no_text_are_passed_over() {
        let headers: [&[u8]; 2] = [b"\xff\xfe;q=\xff", b"text/html"];
        assert!(prefers_html(headers.into_iter()));
    }
}
