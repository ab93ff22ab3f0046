//! Which room a request belongs to by host, path and method: what the rooms file says.
//!
//! Of all matchers that fit a request the most specific wins: an exact host before `*.host` (the longer first)
//! before any host; then an exact path before a prefix (the longer first) before any path; then one that
//! names methods before one that does not. `Routes::parse` reads the file, in `config/rooms_file.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::room::gates::Gates;
use crate::room::name::RoomName;
use crate::room::policy::Policy;

pub mod path;

/// The longest host that can name a host of the rooms file, in bytes: as long as DNS names get.
const MAX_HOST: usize = 255;

/// Which hosts a matcher means. Names are as [`path::normalise_host`] writes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostRule {
    /// Every host.
    Any,
    /// This host.
    Exact(Box<str>),
    /// Every host below this one, at any depth, but not the host itself: `*.example.com` is `example.com` here.
    Below(Box<str>),
}

/// Which paths a matcher means. Paths are as [`path::normalise`] writes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathRule {
    /// Every request, those without a path included.
    Any,
    /// This path.
    Exact(Box<str>),
    /// This path and everything below it, by whole segments; no slash at the end, so `/` is empty.
    Prefix(Box<str>),
}

/// Which requests belong to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// On which hosts.
    pub host: HostRule,
    /// On which paths.
    pub path: PathRule,
    /// With which methods; empty: with any.
    pub methods: Vec<Box<str>>,
}

/// A room of the rooms file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Its limits.
    pub policy: Policy,
    /// What requests to it go through beside admission.
    pub gates: Gates,
    /// Which requests belong to it; none: it is only named by Envoy.
    pub matchers: Vec<Matcher>,
}

/// All rooms of the rooms file, ready to be looked up. The default has no rooms.
///
/// A look-up costs a few hash look-ups, at most one per label of the host and segment of the path, and looks
/// at no more of either than the longest rule has: it stays cheap for many rooms and for hostile requests.
#[derive(Debug, Default)]
pub struct Routes {
    by_name: HashMap<RoomName, Arc<Policy>>,
    gates: HashMap<RoomName, Arc<Gates>>,
    policies: Vec<Arc<Policy>>,
    exact_hosts: HashMap<Box<str>, Paths>,
    hosts_below: HashMap<Box<str>, Paths>,
    any_host: Paths,
}

/// The matchers of one host rule.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Vec<Choice>>,
    prefix: HashMap<Box<str>, Vec<Choice>>,
    longest_prefix: usize,
    any: Vec<Choice>,
}

/// The end of a look-up: if the method fits, this policy. Those that name methods stand first.
#[derive(Debug)]
struct Choice {
    methods: Vec<Box<str>>,
    policy: Arc<Policy>,
}

/// How specific a match is within its host rule: larger is more specific.
type Rank = (u8, usize, bool);

impl Routes {
    /// Makes rooms ready for look-ups; where two matchers fit equally well the earlier one wins.
    pub fn new(rooms: Vec<Room>) -> Self {
        let mut routes = Self::default();
        for Room { policy, gates, matchers } in rooms {
            let policy = Arc::new(policy);
            routes.gates.insert(policy.room.clone(), Arc::new(gates));
            routes.by_name.insert(policy.room.clone(), policy.clone());
            for matcher in matchers {
                routes.add(matcher, policy.clone());
            }
            routes.policies.push(policy);
        }
        routes
    }

    fn add(&mut self, matcher: Matcher, policy: Arc<Policy>) {
        let paths = match matcher.host {
            HostRule::Any => &mut self.any_host,
            HostRule::Exact(host) => self.exact_hosts.entry(host).or_default(),
            HostRule::Below(host) => self.hosts_below.entry(host).or_default(),
        };
        let choices = match matcher.path {
            PathRule::Any => &mut paths.any,
            PathRule::Exact(path) => paths.exact.entry(path).or_default(),
            PathRule::Prefix(path) => {
                paths.longest_prefix = paths.longest_prefix.max(path.len());
                paths.prefix.entry(path).or_default()
            }
        };
        choices.push(Choice { methods: matcher.methods, policy });
        // Stable: the order of the file stays within each half.
        choices.sort_by_key(|choice| choice.methods.is_empty());
    }

    /// The policy of the room that a request belongs to, if it belongs to any.
    ///
    /// `host` is the request's authority, port and all; `path` its target, query and all. Requests without a
    /// path (CONNECT, `OPTIONS *`) belong only to rooms matched without one. A path with `%2F`, `%5C`, `\` or `;` in
    /// it is read both ways, as strict and as lenient backends do, and the more specific match counts.
    pub fn policy_for(&self, method: &str, host: &str, path: &str) -> Option<&Arc<Policy>> {
        if self.policies.is_empty() {
            return None;
        }
        // CONNECT names host and port where others name a path.
        let target = if method == "CONNECT" && !path.starts_with('/') { "" } else { path };
        let readings = [path::normalise(target), path::normalise_leniently(target)];
        let host = path::normalise_host(host);
        self.candidates(&host).find_map(|paths| {
            let other = readings[1].as_deref().and_then(|path| paths.find(method, Some(path)));
            let plain = paths.find(method, readings[0].as_deref());
            match (plain, other) {
                (Some(plain), Some(other)) if other.0 > plain.0 => Some(other.1),
                (plain, other) => plain.or(other).map(|(_, policy)| policy),
            }
        })
    }

    /// The path rules that apply to a host, the most specific host rule first.
    fn candidates<'a, 'h>(&'a self, host: &'h str) -> impl Iterator<Item = &'a Paths> + use<'a, 'h> {
        let host = if host.len() <= MAX_HOST { host } else { "" };
        let parents = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
        self.exact_hosts
            .get(host)
            .into_iter()
            .chain(parents.filter_map(|parent| self.hosts_below.get(parent)))
            .chain(std::iter::once(&self.any_host))
    }

    /// The policy of the room with this name.
    pub fn by_name(&self, room: &str) -> Option<&Arc<Policy>> {
        self.by_name.get(room)
    }

    /// The gates of the room with this name; the defaults where there is no such room.
    pub fn gates_of(&self, room: &RoomName) -> Arc<Gates> {
        self.gates.get(room).cloned().unwrap_or_default()
    }

    /// All policies, in the order of the file.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }
}

impl Paths {
    fn find(&self, method: &str, path: Option<&str>) -> Option<(Rank, &Arc<Policy>)> {
        if let Some(path) = path {
            let exact = self.exact.get(path).and_then(|choices| pick(choices, method));
            if let Some((named, policy)) = exact {
                return Some(((2, path.len(), named), policy));
            }
            for prefix in prefixes(path, self.longest_prefix) {
                let found = self.prefix.get(prefix).and_then(|choices| pick(choices, method));
                if let Some((named, policy)) = found {
                    return Some(((1, prefix.len(), named), policy));
                }
            }
        }
        pick(&self.any, method).map(|(named, policy)| ((0, 0, named), policy))
    }
}

/// The first choice that takes the method, and whether it names it.
fn pick<'a>(choices: &'a [Choice], method: &str) -> Option<(bool, &'a Arc<Policy>)> {
    choices
        .iter()
        .find(|choice| choice.methods.is_empty() || choice.methods.iter().any(|named| &**named == method))
        .map(|choice| (!choice.methods.is_empty(), &choice.policy))
}

/// The path itself and all its parents, without slashes at their ends, the longest first, none longer than
/// `longest`.
fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let path = path.trim_end_matches('/');
    // A prefix ends where a segment ends: at the end or before a slash.
    let window = path.len().min(longest + 1);
    let parents = path.as_bytes()[..window].iter().enumerate().rev().filter(|(_, b)| **b == b'/');
    let whole = (path.len() <= longest).then_some(path);
    whole.into_iter().chain(parents.map(|(slash, _)| &path[..slash]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(host: &str, path: &str, methods: &[&str]) -> Matcher {
        Matcher {
            host: match host.strip_prefix("*.") {
                Some(parent) => HostRule::Below(parent.into()),
                None if host.is_empty() => HostRule::Any,
                None => HostRule::Exact(host.into()),
            },
            path: match path.strip_prefix('=') {
                Some(exact) => PathRule::Exact(exact.into()),
                None if path.is_empty() => PathRule::Any,
                None => PathRule::Prefix(path.trim_end_matches('/').into()),
            },
            methods: methods.iter().map(|method| Box::from(*method)).collect(),
        }
    }

    /// Rooms `r0`, `r1`, … with one matcher each.
    fn routes(matchers: &[Matcher]) -> Routes {
        let rooms = matchers.iter().enumerate().map(|(n, matcher)| {
            let name = format!("r{n}");
            let policy = Policy::parse([("room", name.as_str()), ("capacity", "1")]).unwrap();
            Room { policy, gates: Gates::default(), matchers: vec![matcher.clone()] }
        });
        Routes::new(rooms.collect())
    }

    fn room<'a>(routes: &'a Routes, method: &str, host: &str, path: &str) -> &'a str {
        routes.policy_for(method, host, path).map_or("-", |policy| policy.room.as_str())
    }

    #[test]
    fn prefixes_go_by_whole_segments() {
        let routes = routes(&[matcher("", "/checkout", &[])]);
        for inside in ["/checkout", "/checkout/", "/checkout/pay?x", "//checkout", "/x/../checkout"] {
            assert_eq!(room(&routes, "GET", "any", inside), "r0", "{inside}");
        }
        for outside in ["/checkouts", "/check", "/", "/x/checkout", "/checkout/../x", "", "*"] {
            assert_eq!(room(&routes, "GET", "any", outside), "-", "{outside}");
        }
    }

    #[test]
    fn the_most_specific_wins() {
        let routes = routes(&[
            matcher("", "", &[]),
            matcher("", "=/a/b", &[]),
            matcher("*.example.com", "/", &[]),
            matcher("*.shop.example.com", "/", &[]),
            matcher("www.shop.example.com", "/a", &[]),
            matcher("www.shop.example.com", "/a/b", &[]),
            matcher("www.shop.example.com", "=/a/b/c", &[]),
            matcher("www.shop.example.com", "/a", &["POST"]),
        ]);
        for (method, host, path, expected) in [
            ("GET", "other", "/x", "r0"),
            ("GET", "example.com", "/a/b", "r1"),
            ("GET", "example.com", "/a/b/", "r0"),
            ("GET", "x.example.com", "/a/b", "r2"),
            ("GET", "x.y.example.com", "/", "r2"),
            ("GET", "x.shop.example.com", "/a/b", "r3"),
            ("GET", "WWW.shop.example.com.:443", "/a/x", "r4"),
            ("GET", "www.shop.example.com", "/a/b/d", "r5"),
            ("GET", "www.shop.example.com", "/a/b/c?d", "r6"),
            ("POST", "www.shop.example.com", "/a/x", "r7"),
            ("GET", "www.shop.example.com", "/other", "r3"),
        ] {
            assert_eq!(room(&routes, method, host, path), expected, "{method} {host} {path}");
        }
    }

    #[test]
    fn without_a_path_only_rooms_without_a_path_match() {
        let routes = routes(&[matcher("a", "/", &[]), matcher("b", "", &[])]);
        for (method, path) in [("CONNECT", ""), ("CONNECT", "a:443"), ("OPTIONS", "*")] {
            assert_eq!(room(&routes, method, "a:443", path), "-");
            assert_eq!(room(&routes, method, "b:443", path), "r1");
        }
        // A WebSocket over HTTP/2 is a CONNECT with a path.
        assert_eq!(room(&routes, "CONNECT", "a", "/ws"), "r0");
    }

    #[test]
    fn escaped_slashes_do_not_lead_around_a_room() {
        let routes = routes(&[matcher("", "/", &[]), matcher("", "/shop", &[])]);
        for path in ["/x%2f..%2Fshop", "/shop%2Fpay", "/x\\..\\shop", "/shop/..%2Fopen"] {
            assert_eq!(room(&routes, "GET", "h", path), "r1", "{path}");
        }
        assert_eq!(room(&routes, "GET", "h", "/x%2Fy"), "r0");
    }

    #[test]
    fn names_and_order() {
        let routes = routes(&[matcher("", "/b", &[]), matcher("", "/a", &[])]);
        assert_eq!(routes.by_name("r1").unwrap().room.as_str(), "r1");
        assert!(routes.by_name("r2").is_none());
        let names: Vec<_> = routes.policies().iter().map(|policy| policy.room.as_str()).collect();
        assert_eq!(names, ["r0", "r1"]);
        assert!(Routes::default().policy_for("GET", "h", "/").is_none());
    }

    fn any_matcher() -> impl Strategy<Value = Matcher> {
        let host = prop::sample::select(vec!["", "a.b", "b", "*.b", "*.a.b", "x.a.b"]);
        let path = prop::sample::select(vec!["", "/", "/s", "/s/t", "=/s", "=/s/t", "=/", "/s/t/u"]);
        let methods = prop::sample::select(vec![&[] as &[&str], &["GET"], &["GET", "POST"]]);
        (host, path, methods).prop_map(|(host, path, methods)| matcher(host, path, methods))
    }

    /// The precedence as the documentation states it, by looking at every matcher.
    fn expected(matchers: &[Matcher], method: &str, host: &str, path: &str) -> String {
        let specificity = |matcher: &Matcher| {
            let host = match &matcher.host {
                HostRule::Any => (0, 0),
                HostRule::Below(parent) if host.ends_with(&format!(".{parent}")) => (1, parent.len()),
                HostRule::Exact(exact) if **exact == *host => (2, 0),
                _ => return None,
            };
            let path = match &matcher.path {
                PathRule::Any => (0, 0),
                PathRule::Prefix(prefix) if format!("{path}/").starts_with(&format!("{prefix}/")) => {
                    (1, prefix.len())
                }
                PathRule::Exact(exact) if **exact == *path => (2, 0),
                _ => return None,
            };
            let named = matcher.methods.iter().any(|named| **named == *method);
            (named || matcher.methods.is_empty()).then_some((host, path, named))
        };
        let fitting = matchers.iter().enumerate().filter_map(|(n, m)| specificity(m).map(|s| (s, n)));
        fitting
            .max_by_key(|(specificity, n)| (*specificity, std::cmp::Reverse(*n)))
            .map_or("-".into(), |(_, n)| format!("r{n}"))
    }

    proptest! {
        #[test]
        fn the_index_finds_what_the_rule_says(
            matchers in prop::collection::vec(any_matcher(), 0..8),
            method in prop::sample::select(vec!["GET", "POST", "PUT"]),
            host in prop::sample::select(vec!["a.b", "b", "x.a.b", "y.b", "c", ""]),
            path in prop::sample::select(vec!["/", "/s", "/s/t", "/st", "/s/t/u/v", "/s/tu", "/x"]),
        ) {
            let routes = routes(&matchers);
            prop_assert_eq!(room(&routes, method, host, path), expected(&matchers, method, host, path));
        }
    }
}
