//! Which web origins may read a room's answers from their scripts, and whether with cookies: the key `allow_origins`.

// From `core`: an address as a value, none of the I/O beside it in `std`.
use core::net::Ipv6Addr;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The most origins a policy may name.
pub const MAX_ORIGINS: usize = 16;

/// The longest host, in bytes: as long as DNS names get.
const MAX_HOST: usize = 253;

/// The origins a policy allows, in the order written, each once; none by default.
///
/// As text they are separated by commas, in canonical form: lower case, without the scheme's own port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origins(Vec<Origin>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// `*`: every origin, those that name themselves `null` included.
    Any,
    /// One origin.
    Exact(Site),
    /// Every origin whose host lies below this one, at any depth, but not the host itself.
    Below(Site),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Site {
    secure: bool,
    host: String,
    port: u16,
}

/// What an origin may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant<'a> {
    /// Read answers to requests without cookies: tokens come by header or body.
    Anonymous,
    /// Read answers to requests with cookies too; the origin as its browser wrote it.
    Named(&'a str),
}

impl Origins {
    /// Reads origins separated by commas or spaces, at most [`MAX_ORIGINS`] different ones; `None` where one cannot be
    /// understood or there is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut origins = Vec::new();
        for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
            let origin = Origin::parse(word)?;
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        (1..=MAX_ORIGINS).contains(&origins.len()).then_some(Self(origins))
    }

    /// Whether no origin is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the origin of a request (its `Origin` header) may do; `None`: nothing.
    ///
    /// An origin that is named may use cookies, also where `*` lets all others read without.
    pub fn grant<'a>(&self, origin: &'a str) -> Option<Grant<'a>> {
        let asking = Site::parse(origin);
        let named = asking.is_some_and(|asking| self.0.iter().any(|allowed| allowed.names(&asking)));
        if named {
            return Some(Grant::Named(origin));
        }
        self.0.contains(&Origin::Any).then_some(Grant::Anonymous)
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let text = text.to_ascii_lowercase();
        let Some((scheme, below)) = text.split_once("://*.") else {
            return Site::parse(&text).map(Self::Exact);
        };
        let site = Site::parse(&format!("{scheme}://{below}"))?;
        // `https://*.com` would be half the web, and there is nothing below an address.
        let wide = !site.host.contains('.') && site.host != "localhost";
        (!wide && !site.is_address()).then_some(Self::Below(site))
    }

    fn names(&self, asking: &Site) -> bool {
        match self {
            Self::Any => false,
            Self::Exact(site) => site == asking,
            Self::Below(site) => {
                let above =
                    asking.host.strip_suffix(site.host.as_str()).and_then(|above| above.strip_suffix('.'));
                (site.secure, site.port) == (asking.secure, asking.port)
                    && above.is_some_and(|above| !above.is_empty())
            }
        }
    }
}

impl Site {
    /// An origin as browsers write it, and as people may: `scheme://host[:port]`, in lower case.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let (host, port) = match authority.rsplit_once(':') {
            // The colons within an IPv6 address are none before a port.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            None => default_port(secure),
            Some(port) => {
                let digits = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| port.parse().ok()).flatten()?
            }
        };
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => format!("[{}]", address.parse::<Ipv6Addr>().ok()?),
            None if is_host(host) => host.to_owned(),
            None => return None,
        };
        Some(Self { secure, host, port })
    }

    fn is_address(&self) -> bool {
        // A name whose last label is a number is an IPv4 address to browsers.
        let last = self.host.rsplit('.').next().unwrap_or_default();
        self.host.starts_with('[') || last.bytes().all(|byte| byte.is_ascii_digit())
    }
}

const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= MAX_HOST && host.split('.').all(is_label)
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, origin) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{origin}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (below, site) = match self {
            Self::Any => return f.write_str("*"),
            Self::Exact(site) => ("", site),
            Self::Below(site) => ("*.", site),
        };
        let scheme = if site.secure { "https" } else { "http" };
        write!(f, "{scheme}://{below}{}", site.host)?;
        if site.port == default_port(site.secure) { Ok(()) } else { write!(f, ":{}", site.port) }
    }
}

impl TryFrom<String> for Origins {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a list of web origins")
    }
}

impl From<Origins> for String {
    fn from(origins: Origins) -> Self {
        origins.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<String> {
        Origins::parse(text).map(|origins| origins.to_string())
    }

    #[test]
    fn origins_are_written_in_one_way() {
        for (written, canon) in [
            ("https://app.example.com", "https://app.example.com"),
            (
                "HTTPS://App.Example.com:443, http://localhost:3000",
                "https://app.example.com,http://localhost:3000",
            ),
            ("http://a.b:80 http://a.b,http://a.b:080x", ""),
            ("http://a.b:80 http://a.b", "http://a.b"),
            ("https://*.example.com *", "https://*.example.com,*"),
            ("http://*.localhost:3000", "http://*.localhost:3000"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[0:0::1]", "http://[::1]"),
            ("http://192.168.0.1:81", "http://192.168.0.1:81"),
            ("https://xn--9n2bp8q.kr", "https://xn--9n2bp8q.kr"),
        ] {
            assert_eq!(
                canonical(written),
                Some(canon.to_owned()).filter(|canon| !canon.is_empty()),
                "{written}"
            );
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in [
            "",
            " ",
            ",",
            "null",
            "example.com",
            "ftp://example.com",
            "https://",
            "https://a.b/",
            "https://a.b/path",
            "https://a.b?x",
            "https://a.b#x",
            "https://u@a.b",
            "https://a.b:",
            "https://a.b:0",
            "https://a.b:65536",
            "https://a.b:+1",
            "https://a.b:01",
            "https://*",
            "https://*.com",
            "https://*.",
            "https://*.*.com",
            "https://a.*.com",
            "https://a*.example.com",
            "*.example.com",
            "https://*.10.0.0.1",
            "https://*.[::1]",
            "https://-a.b",
            "https://a-.b",
            "https://a..b",
            "https://.a.b",
            "https://a.b.",
            "https://상점.kr",
            "https://a_b.c",
            "http://[::1",
            "http://[::g]",
            "http://::1",
            "https://a.b\n",
            "**",
            "https://a.b;https://c.d",
        ] {
            assert_eq!(canonical(bad), None, "{bad:?}");
        }
        assert_eq!(canonical(&format!("https://{}.b", "a".repeat(64))), None);
        assert_eq!(canonical(&format!("https://{}", "a23456789.".repeat(26) + "b")), None);
        let many =
            |count: usize| (0..count).map(|at| format!("https://a{at}.b")).collect::<Vec<_>>().join(",");
        assert!(canonical(&many(MAX_ORIGINS)).is_some() && canonical(&many(MAX_ORIGINS + 1)).is_none());
    }

    #[test]
    fn named_origins_may_use_cookies_and_all_others_only_read() {
        let named =
            Origins::parse("https://app.example.com,http://localhost:3000,https://*.shop.kr").unwrap();
        for origin in
            ["https://app.example.com", "http://localhost:3000", "https://a.shop.kr", "https://a.b.shop.kr"]
        {
            assert_eq!(named.grant(origin), Some(Grant::Named(origin)), "{origin}");
        }
        let strangers = [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.net",
            "https://evilapp.example.com",
            "http://localhost",
            "https://shop.kr",
            "https://evilshop.kr",
            "https://.shop.kr",
            "http://a.shop.kr",
            "https://a.shop.kr:444",
            "https://a.shop.kr/",
            "https://a b.shop.kr",
            "null",
            "",
            "*",
        ];
        let all = Origins::parse("*,https://app.example.com").unwrap();
        for origin in strangers {
            assert_eq!(named.grant(origin), None, "{origin}");
            assert_eq!(all.grant(origin), Some(Grant::Anonymous), "{origin}");
            assert_eq!(Origins::default().grant(origin), None, "{origin}");
        }
        let known = "https://app.example.com";
        assert_eq!(all.grant(known), Some(Grant::Named(known)));
    }

    #[test]
    fn as_json_they_are_one_text() {
        let origins = Origins::parse("https://a.b *").unwrap();
        let text = serde_json::to_string(&origins).unwrap();
        assert_eq!(text, r#""https://a.b,*""#);
        assert_eq!(serde_json::from_str::<Origins>(&text).unwrap(), origins);
        assert!(serde_json::from_str::<Origins>(r#""a.b""#).is_err());
    }
}
