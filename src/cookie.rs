//! Cookies: finding our tokens in a request's `Cookie` headers, and the `Set-Cookie` values that put them there.
//!
//! Finding is lenient, because what stands around our cookies is not ours; a value found is only a candidate until
//! its signature is verified.

use memchr::{memchr, memchr2_iter};

use crate::room::name::RoomName;

/// The most values of one name that are worth verifying. More only come from somebody who plants them.
pub const MAX_CANDIDATES: usize = 4;

/// The longest value looked at, in bytes; browsers keep no longer cookie either.
pub const MAX_VALUE_LEN: usize = 4096;

/// Which of our tokens a cookie carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenCookie {
    /// Proves a place.
    Ticket,
    /// Proves a session.
    Pass,
}

/// What our cookies look like, from the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePolicy {
    /// `Secure`: browsers send the cookie over HTTPS only. Off only where visitors come over plain HTTP.
    pub secure: bool,
    /// `Domain`: share the cookie with subdomains. The settings have checked that it is a domain name.
    pub domain: Option<String>,
}

impl TokenCookie {
    /// The request header (and gRPC metadata) that carries the token of a client without cookies.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Ticket => "x-anteroom-ticket",
            Self::Pass => "x-anteroom-pass",
        }
    }

    /// The tokens of this kind that a request shows: that of the header first, then those of the cookies.
    pub fn shown<'a>(
        self,
        room: &RoomName,
        by_header: Option<&'a str>,
        cookies: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<String> {
        let name = self.name(room);
        by_header.into_iter().chain(cookie_values(cookies, &name)).map(str::to_owned).collect()
    }

    /// The cookie's name in a room: `anteroom_ticket_<room>` or `anteroom_pass_<room>`.
    pub fn name(self, room: &RoomName) -> String {
        match self {
            Self::Ticket => format!("anteroom_ticket_{room}"),
            Self::Pass => format!("anteroom_pass_{room}"),
        }
    }

    /// The `Set-Cookie` value that keeps `token` for `max_age` seconds.
    ///
    /// `HttpOnly`, so that scripts of the protected site cannot read it. `SameSite=Lax`, so that it comes along when
    /// a visitor follows a link to the site.
    pub fn set(self, room: &RoomName, token: &str, max_age: u64, policy: &CookiePolicy) -> String {
        let name = self.name(room);
        let mut value = format!("{name}={token}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax");
        if policy.secure {
            value.push_str("; Secure");
        }
        if let Some(domain) = &policy.domain {
            value.push_str("; Domain=");
            value.push_str(domain);
        }
        value
    }

    /// The `Set-Cookie` value that drops the cookie. Path and domain repeat, or browsers keep it.
    pub fn clear(self, room: &RoomName, policy: &CookiePolicy) -> String {
        self.set(room, "", 0, policy)
    }
}

/// The values of the cookie `name` in a request's `Cookie` headers: distinct, at most [`MAX_CANDIDATES`], each of 1
/// to [`MAX_VALUE_LEN`] bytes that may stand in a cookie's value. Everything else is passed over.
///
/// Pairs are split at `;` and also at `,`, because Envoy joins repeated headers with commas. Our tokens hold neither.
pub fn cookie_values<'a, I>(headers: I, name: &str) -> impl Iterator<Item = &'a str> + use<'a, I>
where
    I: IntoIterator<Item = &'a [u8]>,
{
    // Nearly every request comes here, and should allocate nothing for it.
    let mut found = [""; MAX_CANDIDATES];
    let mut count = 0;
    'looking: for header in headers {
        let mut begin = 0;
        for end in memchr2_iter(b';', b',', header).chain([header.len()]) {
            let pair = &header[begin..end];
            begin = end + 1;
            let Some(value) = value_of(pair, name) else { continue };
            if !found[..count].contains(&value) {
                found[count] = value;
                count += 1;
            }
            if count == MAX_CANDIDATES {
                break 'looking;
            }
        }
    }
    found.into_iter().take(count)
}

/// The value of one `name=value` pair, if it has this name and a usable value.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a str> {
    let equals = memchr(b'=', pair)?;
    let (key, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
    if key != name.as_bytes() {
        return None;
    }
    let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let value = quoted.unwrap_or(value);
    // Counted, though the first one could settle it: so it is done for many bytes at a time.
    let odd = |byte: &&u8| !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\\');
    let usable = (1..=MAX_VALUE_LEN).contains(&value.len()) && value.iter().filter(odd).count() == 0;
    if usable { std::str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(headers: &[&str], name: &str) -> Vec<String> {
        cookie_values(headers.iter().map(|header| header.as_bytes()), name).map(str::to_owned).collect()
    }

    #[test]
    fn ours_is_found_among_others() {
        for header in [
            "t=abc",
            "a=1; t=abc; b=2",
            "a=1;t=abc;b=2",
            " t = abc ",
            "t=\"abc\"",
            ";;; ; =; a; t=abc;;",
            "a=\"x; t=abc",
            "a=1,t=abc",
            "xt=no; T=no; t.=no; t=abc",
        ] {
            assert_eq!(values(&[header], "t"), ["abc"], "{header:?}");
        }
        assert_eq!(values(&["t=a=b=="], "t"), ["a=b=="]);
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hide_ours() {
        let headers: [&[u8]; 2] = [b"other=\xff\xfe; t=abc", b"t=\xff"];
        assert_eq!(cookie_values(headers, "t").collect::<Vec<_>>(), ["abc"]);
    }

    #[test]
    fn unusable_values_are_passed_over() {
        for header in ["", "t", "t=", "t= ", "t=\"\"", "t=a b", "t=\"a", "t=a\\b", "t=\u{e9}", "t=a\u{7f}"] {
            assert!(values(&[header], "t").is_empty(), "{header:?}");
        }
    }

    #[test]
    fn several_headers_and_duplicates() {
        assert_eq!(values(&["t=1; t=2", "x=0", "t=2; t=3"], "t"), ["1", "2", "3"]);
        assert_eq!(values(&["t=1; t=2; t=3", "t=4; t=5"], "t"), ["1", "2", "3", "4"]);
    }

    #[test]
    fn long_values_are_passed_over_without_using_up_candidates() {
        let long = "x".repeat(MAX_VALUE_LEN + 1);
        let fits = "x".repeat(MAX_VALUE_LEN);
        let header = format!("t={long}a; t={long}b; t={long}c; t={long}d; t={fits}");
        assert_eq!(values(&[&header], "t"), [fits]);
    }

    #[test]
    fn what_is_set() {
        let room = RoomName::parse("shop").unwrap();
        let plain = CookiePolicy { secure: false, domain: None };
        let strict = CookiePolicy { secure: true, domain: Some("example.com".into()) };
        assert_eq!(
            TokenCookie::Ticket.set(&room, "tok", 180, &plain),
            "anteroom_ticket_shop=tok; Path=/; Max-Age=180; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            TokenCookie::Pass.clear(&room, &strict),
            "anteroom_pass_shop=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure; Domain=example.com"
        );
    }

    #[test]
    fn what_is_set_is_found_again() {
        let room = RoomName::parse("Sale-2026.11_30").unwrap();
        let policy = CookiePolicy { secure: true, domain: None };
        let set = TokenCookie::Pass.set(&room, "aa.bb-_.cc", 60, &policy);
        let cookie = set.split(';').next().unwrap();
        assert_eq!(values(&[cookie], &TokenCookie::Pass.name(&room)), ["aa.bb-_.cc"]);
    }
}
