//! Which requests need no user. The opposite of rooms: there any reading of a path that leads into a room counts, here a
//! path is public only if every reading of it is.

use percent_encoding::percent_decode_str;

use crate::routes::path::{normalise, normalise_leniently};

/// The most patterns.
pub const MAX_PUBLIC: usize = 256;

/// Requests that need no user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicPaths {
    patterns: Vec<PublicPattern>,
}

/// Some requests that need no user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicPattern {
    /// With these methods, as they are sent; at least one.
    pub methods: Vec<Box<str>>,
    /// With these paths.
    pub path: PublicPath,
}

/// Paths that need no user, in their one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicPath {
    /// This path.
    Exact(Box<str>),
    /// Everything that begins with this; it begins and ends with `/`.
    Below(Box<str>),
}

impl PublicPath {
    /// Reads `/path`, or `/path/*` for everything below it; or what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (path, is_open) = match text.strip_suffix('*') {
            Some(path) if path.ends_with('/') => (path, true),
            _ => (text, false),
        };
        if !path.starts_with('/') || path.contains(['*', '?', '#']) {
            return Err("write a path like /about, or /open/* for everything below /open/".to_owned());
        }
        match normalise(path) {
            Some(normal) if normal == path && is_plain(path) => {
                Ok(if is_open { Self::Below(path.into()) } else { Self::Exact(path.into()) })
            }
            Some(normal) if normal != path => {
                let end = if is_open { "*" } else { "" };
                Err(format!("paths are compared in their normal form: write {normal}{end}"))
            }
            _ => Err("write a path without `;`, `\\`, escaped slashes and escaped percent signs".to_owned()),
        }
    }

    fn takes(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Below(folder) => path.starts_with(&**folder),
        }
    }
}

impl PublicPaths {
    /// These patterns; at most [`MAX_PUBLIC`] are kept.
    pub fn new(mut patterns: Vec<PublicPattern>) -> Self {
        patterns.truncate(MAX_PUBLIC);
        Self { patterns }
    }

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a request needs no user. `target` is its path as sent, query and all.
    ///
    /// The path counts as strict and as lenient backends read it (`%2F`, `\`, `;`), and not at all where `%`, `;`, `?`, `#`
    /// or a control character is escaped in it, or what is no UTF-8. Upper and lower case are not the same.
    pub fn takes(&self, method: &str, target: &str) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let Some(strict) = normalise(target) else { return false };
        if !is_plainly_encoded(&strict) {
            return false;
        }
        let lenient = normalise_leniently(target);
        [Some(strict), lenient].into_iter().flatten().all(|path| {
            self.patterns.iter().any(|pattern| {
                pattern.methods.iter().any(|named| **named == *method) && pattern.path.takes(&path)
            })
        })
    }
}

/// Whether all readings of a path are the same.
fn is_plain(path: &str) -> bool {
    normalise_leniently(path).is_none() && is_plainly_encoded(path)
}

/// Of a path in its one spelling: whether nothing new shows when it is decoded. Some backends take what they decode for a
/// separator, or decode it again.
fn is_plainly_encoded(path: &str) -> bool {
    let separates = ["%23", "%25", "%3B", "%3F"].iter().any(|escape| path.contains(escape));
    let decoded = percent_decode_str(path).decode_utf8();
    !separates && decoded.is_ok_and(|decoded| !decoded.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(patterns: &[(&str, &str)]) -> PublicPaths {
        let pattern = |(methods, path): &(&str, &str)| PublicPattern {
            methods: methods.split(' ').map(Into::into).collect(),
            path: PublicPath::parse(path).unwrap(),
        };
        PublicPaths::new(patterns.iter().map(pattern).collect())
    }

    #[test]
    fn a_path_is_public_only_if_every_reading_of_it_is() {
        let public = paths(&[("GET HEAD", "/open/*"), ("GET", "/about"), ("POST", "/hooks/pay")]);
        for (method, target) in [
            ("GET", "/open/"),
            ("GET", "/open/a/b?next=/shop"),
            ("HEAD", "/open/a"),
            ("GET", "//open///a"),
            ("GET", "/shop/../open/a"),
            ("GET", "/%6fpen/a"),
            ("GET", "/open/a;v=1/b"),
            ("GET", "/open/a%2Fb"),
            ("GET", "/open/caf%C3%A9"),
            ("GET", "/about"),
            ("GET", "/about?x"),
            ("GET", "http://shop.example.com/about"),
            ("POST", "/hooks/pay"),
        ] {
            assert!(public.takes(method, target), "{method} {target}");
        }
        for (method, target) in [
            ("GET", "/shop"),
            ("GET", "//shop"),
            ("GET", "/open"),
            ("GET", "/opens/a"),
            ("GET", "/open/../shop"),
            ("GET", "/open/%2e%2e/shop"),
            ("GET", "/open/..%2fshop"),
            ("GET", "/open%2f..%2fshop"),
            ("GET", "/open/..%5Cshop"),
            ("GET", "/open/..\\shop"),
            ("GET", "/open/..;/shop"),
            ("GET", "/open/..;a=b/shop"),
            ("GET", "/open/%2e%2e;/shop"),
            ("GET", "/open/%252e%252e/shop"),
            ("GET", "/open/..%252fshop"),
            ("GET", "/open/%%32%65%%32%65/shop"),
            ("GET", "/open/%c0%ae%c0%ae/shop"),
            ("GET", "/open/..%3b/shop"),
            ("GET", "/open/..%3Fx"),
            ("GET", "/open/..%23"),
            ("GET", "/open/a%00"),
            ("GET", "/open/a%0d%0ab"),
            ("GET", "/OPEN/a"),
            ("GET", "/Open/a"),
            ("GET", "/about/"),
            ("GET", "/about;x"),
            ("GET", "/About"),
            ("get", "/about"),
            ("POST", "/open/a"),
            ("DELETE", "/about"),
            ("GET", "/hooks/pay"),
            ("GET", ""),
            ("GET", "*"),
            ("OPTIONS", "*"),
            ("CONNECT", "shop.example.com:443"),
        ] {
            assert!(!public.takes(method, target), "{method} {target}");
        }
    }

    #[test]
    fn nothing_is_public_unless_it_is_said() {
        for target in ["/", "/open/a", ""] {
            assert!(!PublicPaths::default().takes("GET", target));
        }
        assert!(paths(&[("GET", "/*")]).takes("GET", "/any/thing"));
        assert!(paths(&[("GET", "/")]).takes("GET", "/"));
        assert!(!paths(&[("GET", "/")]).takes("GET", "/a"));
    }

    #[test]
    fn a_pattern_with_more_than_one_reading_is_refused() {
        for wrong in [
            "", "*", "open/*", "/open*", "/o*n/a", "/a/../b", "//a", "/a%2Fb", "/a;b", "/a%25", "/a?b",
            "/a\\b",
        ] {
            assert!(PublicPath::parse(wrong).is_err(), "{wrong}");
        }
        assert!(PublicPath::parse("/a/./b/*").unwrap_err().contains("write /a/b/*"));
        assert_eq!(PublicPath::parse("/caf%C3%A9").unwrap(), PublicPath::Exact("/caf%C3%A9".into()));
    }

    /// What a backend may make of a path: decoded up to three times, parameters dropped, backslashes as slashes.
    fn readings(target: &str) -> Vec<String> {
        let mut readings = vec![target.to_owned()];
        for _ in 0..3 {
            let last = readings.last().map(String::as_str).unwrap_or_default();
            readings.push(percent_decode_str(last).decode_utf8_lossy().into_owned());
        }
        readings
    }

    fn resolved(path: &str, drops_parameters: bool) -> Vec<String> {
        let mut kept: Vec<String> = Vec::new();
        let path = if drops_parameters { path.split(['?', '#']).next().unwrap_or_default() } else { path };
        for segment in path.replace('\\', "/").split('/') {
            let bare = if drops_parameters { segment.split(';').next().unwrap_or_default() } else { segment };
            match bare {
                "" | "." => {}
                ".." => drop(kept.pop()),
                other => kept.push(other.to_owned()),
            }
        }
        kept
    }

    proptest! {
        #[test]
        fn no_reading_of_a_public_path_leaves_its_folder(
            target in "/open(/|\\.|\\.\\.|;|\\\\|%2f|%2F|%5c|%2e|%25|%32|%65|%3b|%3f|%23|shop|a|\\?){0,12}",
        ) {
            let public = paths(&[("GET", "/open/*")]);
            if public.takes("GET", &target) {
                let path = target.split(['?', '#']).next().unwrap();
                for reading in readings(path) {
                    for drops_parameters in [false, true] {
                        let kept = resolved(&reading, drops_parameters);
                        prop_assert_eq!(kept.first().map(String::as_str), Some("open"), "{}", reading);
                    }
                }
            }
        }
    }
}
