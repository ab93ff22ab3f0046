//! The rooms file: rooms with their limits, and which requests belong to them.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::yaml::{self, Entry, Node, Path as KeyPath};
use super::{Mistake, Report};
use crate::room::gates::{ALL_KEYS, Stated};
use crate::room::policy::{Source, quoted, unknown_key};
use crate::routes::path::{normalise, normalise_host};
use crate::routes::{HostRule, Matcher, PathRule, Room, Routes};

/// The keys of a matcher.
const MATCH_KEYS: [&str; 4] = ["host", "prefix", "path", "methods"];

impl Routes {
    /// Reads the rooms file's text; `file` is only its name for messages. Reports every mistake.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Vec<Mistake>> {
        let read = RoomsFile::read(text, file);
        if read.mistakes.is_empty() {
            Ok(Self::new(read.rooms.into_iter().map(|(room, _)| room).collect()))
        } else {
            Err(read.mistakes)
        }
    }
}

/// What a rooms file says, as far as it can be understood.
pub(super) struct RoomsFile {
    /// The rooms that are right, with their lines.
    pub(super) rooms: Vec<(Room, usize)>,
    /// All rooms named, those with mistakes included.
    pub(super) named: BTreeSet<String>,
    pub(super) mistakes: Vec<Mistake>,
}

impl RoomsFile {
    pub(super) fn read(text: &str, file: &Path) -> Self {
        let mut report = Report::new(file);
        let mut rooms = Vec::new();
        let mut named = BTreeSet::new();
        match yaml::parse(text, &mut report) {
            Err(unreadable) => report.mistakes.push(unreadable),
            Ok(documents) => {
                let entries = room_entries(&documents, &mut report);
                let mut taken = Taken::default();
                for entry in entries {
                    named.insert(entry.key.clone());
                    if let Some(room) = read_room(entry, &mut taken, &mut report) {
                        rooms.push((room, entry.line));
                    }
                }
            }
        }
        report.mistakes.sort();
        Self { rooms, named, mistakes: report.mistakes }
    }
}

fn room_entries<'a>(documents: &'a [Node], report: &mut Report) -> &'a [Entry] {
    const SHAPE: &str = "write rooms: and below it one map per room";
    let Some(root) = documents.first().filter(|root| root.is_map()) else {
        let line = documents.first().map_or(1, |root| root.line);
        report.add(line, "rooms", "is missing", SHAPE);
        return &[];
    };
    for extra in &documents[1..] {
        report.add(extra.line, "rooms", "stands in a second document", "put all rooms into one document");
    }
    for entry in root.entries().iter().filter(|entry| entry.key != "rooms") {
        let mistake = unknown_key(&entry.key, &["rooms"]);
        report.add(entry.line, KeyPath::Root.key(&entry.key), mistake.problem, mistake.remedy);
    }
    match root.get("rooms") {
        None => report.add(root.line, "rooms", "is missing", SHAPE),
        Some(rooms) if !rooms.value.is_map() => {
            report.add(rooms.line, "rooms", format!("is {}", rooms.value.kind()), SHAPE);
        }
        Some(rooms) => return rooms.value.entries(),
    }
    &[]
}

fn read_room(entry: &Entry, taken: &mut Taken, report: &mut Report) -> Option<Room> {
    let before = report.mistakes.len();
    let rooms = KeyPath::Root.key("rooms");
    let path = rooms.key(&entry.key);
    if !entry.value.is_map() {
        let problem = format!("is {}", entry.value.kind());
        report.add(entry.line, path, problem, "write a map with the room's limits, like capacity: 100");
        return None;
    }
    // The room's name is the map's key.
    let mut known: Vec<&str> = ALL_KEYS.iter().copied().filter(|key| *key != "room").collect();
    known.push("match");
    let mut pairs = vec![("room", entry.key.as_str())];
    let mut matchers = Vec::new();
    for Entry { key, line, value } in entry.value.entries() {
        let here = path.key(key);
        match value.text() {
            _ if key == "match" => matchers = read_matchers(&entry.key, value, *line, here, taken, report),
            _ if !known.contains(&key.as_str()) => {
                let mistake = unknown_key(key, &known);
                report.add(*line, here, mistake.problem, mistake.remedy);
            }
            Some(text) => pairs.push((key, text)),
            None => report.add(*line, here, format!("is {}", value.kind()), "write a single value"),
        }
    }
    match Stated::parse(&pairs, Source::RoomsFile) {
        Err(found) => {
            for mistake in found {
                let written = entry.value.get(&mistake.key).map(|written| written.line);
                let named = mistake.key == "room";
                let key = if named { path.to_string() } else { path.key(&mistake.key).to_string() };
                report.add(written.unwrap_or(entry.line), key, mistake.problem, mistake.remedy);
            }
            None
        }
        Ok(Stated { room, gates }) => {
            let (policy, _) = room.filter(|_| report.mistakes.len() == before)?;
            Some(Room { policy: Arc::unwrap_or_clone(policy), gates: Arc::unwrap_or_clone(gates), matchers })
        }
    }
}

/// Which matchers were read already, and where: two rooms must not claim the same requests equally.
#[derive(Default)]
struct Taken(HashMap<(HostRule, PathRule), Vec<Claim>>);

/// The methods a matcher names, its room and its line.
type Claim = (Vec<Box<str>>, String, usize);

impl Taken {
    /// Notes a matcher; answers with the room and line of one that is just as specific and overlaps it.
    fn note(&mut self, matcher: &Matcher, room: &str, line: usize) -> Option<(String, usize)> {
        let earlier = self.0.entry((matcher.host.clone(), matcher.path.clone())).or_default();
        let clash = earlier.iter().find(|(methods, other, _)| {
            let overlap = methods.iter().any(|method| matcher.methods.contains(method));
            other != room && (overlap || methods.is_empty() && matcher.methods.is_empty())
        });
        let clash = clash.map(|(_, other, line)| (other.clone(), *line));
        earlier.push((matcher.methods.clone(), room.to_owned(), line));
        clash
    }
}

fn read_matchers(
    room: &str,
    list: &Node,
    line: usize,
    path: KeyPath<'_>,
    taken: &mut Taken,
    report: &mut Report,
) -> Vec<Matcher> {
    const SHAPE: &str = "write a list of maps with host, prefix or path, and methods";
    let yaml::Value::List(items) = &list.value else {
        report.add(line, path, format!("is {}", list.kind()), SHAPE);
        return Vec::new();
    };
    let mut matchers = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let here = path.index(index);
        if item.entries().is_empty() {
            let remedy = "state host, prefix, path or methods; prefix: / means every path";
            report.add(item.line, here, "matches nothing in particular", remedy);
            continue;
        }
        let Some(matcher) = read_matcher(item, here, report) else { continue };
        if let Some((other, line)) = taken.note(&matcher, room, item.line) {
            let problem = format!("claims the same requests as room {other} in line {line}");
            report.add(item.line, here, problem, "let each request belong to one room");
        }
        matchers.push(matcher);
    }
    matchers
}

fn read_matcher(item: &Node, path: KeyPath<'_>, report: &mut Report) -> Option<Matcher> {
    let before = report.mistakes.len();
    let mut matcher = Matcher { host: HostRule::Any, path: PathRule::Any, methods: Vec::new() };
    for Entry { key, line, value } in item.entries() {
        let here = path.key(key);
        let text = value.text().unwrap_or_default();
        match key.as_str() {
            "methods" => matcher.methods = read_methods(value, *line, here, report),
            "host" => match read_host(text) {
                Some(host) => matcher.host = host,
                None => report.add(
                    *line,
                    here,
                    format!("{} is no host", quoted(text)),
                    "write a name without port, like shop.example.com or *.example.com",
                ),
            },
            "prefix" | "path" if !matches!(matcher.path, PathRule::Any) => {
                report.add(*line, here, "stands beside the other kind of path", "keep either prefix or path");
            }
            "prefix" | "path" => match read_path(text) {
                Ok(normal) if key == "path" => matcher.path = PathRule::Exact(normal.into()),
                Ok(normal) => matcher.path = PathRule::Prefix(normal.trim_end_matches('/').into()),
                Err(remedy) => {
                    report.add(*line, here, format!("{} matches no request", quoted(text)), remedy);
                }
            },
            _ => {
                let mistake = unknown_key(key, &MATCH_KEYS);
                report.add(*line, here, mistake.problem, mistake.remedy);
            }
        }
    }
    (report.mistakes.len() == before).then_some(matcher)
}

fn read_host(text: &str) -> Option<HostRule> {
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let normal = normalise_host(name);
    let fits = (1..=253).contains(&normal.len())
        && normal.len() == name.trim_end_matches('.').len()
        && (normal.starts_with('[') && !wildcard
            || normal.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            }));
    match (fits, wildcard) {
        (false, _) => None,
        (true, true) => Some(HostRule::Below(normal.into())),
        (true, false) => Some(HostRule::Exact(normal.into())),
    }
}

/// A path in the spelling that requests are compared in, or what would be right.
fn read_path(text: &str) -> Result<String, String> {
    match normalise(text) {
        Some(normal) if normal == text => Ok(normal),
        Some(normal) if text.starts_with('/') => {
            Err(format!("paths are compared in their normal form: write {}", quoted(&normal)))
        }
        _ => Err("write a path that begins with /".into()),
    }
}

pub(super) fn read_methods(
    value: &Node,
    line: usize,
    path: KeyPath<'_>,
    report: &mut Report,
) -> Vec<Box<str>> {
    const REMEDY: &str = "write a list of methods in capitals, like [GET, POST], or leave methods out";
    let mut methods: Vec<Box<str>> = Vec::new();
    if value.items().is_empty() {
        report.add(line, path, format!("is {} without methods", value.kind()), REMEDY);
    }
    for (index, item) in value.items().iter().enumerate() {
        let text = item.text().unwrap_or_default();
        let fits =
            (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        if fits {
            methods.push(text.into());
        } else {
            report.add(item.line, path.index(index), format!("{} is no method", quoted(text)), REMEDY);
        }
    }
    methods.sort_unstable();
    methods.dedup();
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../tests/data/rooms.yaml");
    const WRONG: &str = include_str!("../../tests/data/rooms-wrong.yaml");

    #[test]
    fn the_sample_is_understood() {
        let routes = Routes::parse(SAMPLE, Path::new("rooms.yaml")).unwrap();
        let shop = routes.by_name("shop").unwrap();
        assert_eq!((shop.capacity, shop.claim_ttl), (Some(500), 30_000));
        let room = |method, host, path| {
            routes.policy_for(method, host, path).map_or("-", |policy| policy.room.as_str())
        };
        assert_eq!(room("GET", "shop.example.com", "/checkout/pay"), "shop");
        assert_eq!(room("GET", "shop.example.com", "/checkouts"), "-");
        assert_eq!(room("POST", "api.tickets.example.com", "/buy"), "tickets");
        assert_eq!(room("GET", "api.tickets.example.com", "/buy"), "-");
        assert!(routes.by_name("named-by-envoy").is_some());
    }

    #[test]
    fn every_mistake_is_found_with_its_line() {
        let found: Vec<_> =
            Routes::parse(WRONG, Path::new("r.yaml")).unwrap_err().iter().map(ToString::to_string).collect();
        let expected: Vec<_> = WRONG
            .lines()
            .enumerate()
            .filter_map(|(at, line)| line.split_once("#! ").map(|(_, text)| (at + 1, text)))
            .collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for ((line, text), message) in expected.iter().zip(&found) {
            assert!(message.starts_with(&format!("r.yaml:{line}: ")), "{line} {text}: {message}");
            assert!(message.contains(text), "{text}: {message}");
        }
    }

    #[test]
    fn what_is_no_rooms_file_is_refused() {
        for text in ["", "[]", "rooms: 5", "rooms: []", "rooms:", "room: {a: {capacity: 1}}", "5"] {
            assert!(Routes::parse(text, Path::new("r")).is_err(), "{text}");
        }
        assert!(Routes::parse("rooms: {}", Path::new("r")).unwrap().policies().is_empty());
        assert!(Routes::parse("rooms: {a: {capacity: 1}}\n---\nb", Path::new("r")).is_err());
    }
}
