//! Which limits and gates a request stands under: by its `context_extensions`, its route's metadata and the rooms file.
//!
//! The room, with all its limits, is that of the first of them that says anything about one. Gates come one by one from the
//! first that states them, and last from the rooms file's room of that name: so that stating one gate more at a route takes
//! nothing away, least of all the room.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use parking_lot::RwLock;

use super::request::Question;
use crate::room::gates::{self, Stated};
use crate::room::name::RoomName;
use crate::room::policy::{Mistake, Policy, Source, unknown_key};
use crate::routes::Routes;

/// The most texts remembered; a configuration has one per route. Beyond that each Check parses its own.
pub(super) const MAX_KNOWN: usize = 4_096;

/// What a configuration text comes to.
pub type Found = Result<Stated, Arc<[Mistake]>>;

/// Finds the limits of requests.
pub struct LimitsReader {
    routes: Arc<Routes>,
    hasher: RandomState,
    known: RwLock<HashMap<u64, (Texts, Found)>>,
}

/// Keys and values as Envoy sent them, in any order.
pub(super) type Pairs = Vec<(String, String)>;

/// What Envoy states for a request, the nearer first, and the room that the rooms file has for it, where that counts.
#[derive(Clone, Copy)]
struct Asked<'a> {
    extensions: &'a [(&'a str, &'a str)],
    metadata: &'a [(&'a str, &'a str)],
    matched: Option<&'a Arc<Policy>>,
}

/// The same, to be remembered.
struct Texts {
    extensions: Pairs,
    metadata: Pairs,
    matched: Option<RoomName>,
}

impl Texts {
    fn of(asked: &Asked<'_>) -> Self {
        Self {
            extensions: owned(asked.extensions),
            metadata: owned(asked.metadata),
            matched: asked.matched.map(|policy| policy.room.clone()),
        }
    }

    fn are_those_of(&self, asked: &Asked<'_>) -> bool {
        is_same(&self.extensions, asked.extensions)
            && is_same(&self.metadata, asked.metadata)
            && self.matched.as_ref() == asked.matched.map(|policy| &policy.room)
    }
}

impl LimitsReader {
    /// Limits stated by Envoy, and those of the rooms file.
    pub fn new(routes: Arc<Routes>) -> Self {
        Self { routes, hasher: RandomState::new(), known: RwLock::default() }
    }

    /// What a request stands under; the default: nothing is stated for it.
    pub fn of(&self, question: &Question<'_>) -> Found {
        let extensions = question.context_extensions();
        let metadata = question.route_metadata().map_err(Arc::from)?;
        let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value.as_ref())).collect();
        let matched =
            if names_room(extensions) || names_room(&metadata) { None } else { self.matched(question) };
        if extensions.is_empty() && metadata.is_empty() {
            return Ok(matched.map(|policy| self.filed(policy)).unwrap_or_default());
        }
        self.read(&Asked { extensions, metadata: &metadata, matched })
    }

    /// The room that the rooms file has for a request.
    fn matched(&self, question: &Question<'_>) -> Option<&Arc<Policy>> {
        let path = question.path_and_query().unwrap_or_default();
        // What is no business of a room by its method may become that at the backend.
        let mut methods = question.methods();
        methods.find_map(|method| self.routes.policy_for(method, question.authority(), path))
    }

    /// A room of the rooms file.
    fn filed(&self, policy: &Arc<Policy>) -> Stated {
        let gates = self.routes.gates_of(&policy.room);
        Stated { room: Some((policy.clone(), Source::RoomsFile)), gates }
    }

    /// The limits of a room by its name, if the rooms file has it.
    pub fn named(&self, room: &str) -> Option<&Arc<Policy>> {
        self.routes.by_name(room)
    }

    /// What a text is found by. Keyed by a secret of this process.
    pub(super) fn hash_of(&self, stated: &[(&str, &str)]) -> u64 {
        // Envoy sends a map, in any order: the sum does not depend on it.
        stated.iter().fold(0u64, |sum, pair| sum.wrapping_add(self.hasher.hash_one(pair)))
    }

    /// Parses a text once: parsing costs more than the rest of a Check.
    fn read(&self, asked: &Asked<'_>) -> Found {
        let matched = asked.matched.map(|policy| policy.room.as_str());
        let hash = [self.hash_of(asked.extensions), self.hash_of(asked.metadata)];
        let hash = self.hasher.hash_one((hash, matched));
        if let Some((texts, read)) = self.known.read().get(&hash)
            && texts.are_those_of(asked)
        {
            return read.clone();
        }
        let read = self.parse(asked).map_err(Arc::from);
        let mut known = self.known.write();
        if known.len() < MAX_KNOWN {
            known.insert(hash, (Texts::of(asked), read.clone()));
        }
        read
    }

    fn parse(&self, asked: &Asked<'_>) -> Result<Stated, Vec<Mistake>> {
        let Asked { extensions, metadata, matched } = *asked;
        let (room, passed_over) = match (names_room(extensions), names_room(metadata)) {
            (true, _) => (self.stated_room(extensions, Source::ContextExtensions)?, metadata),
            (false, true) => (self.stated_room(metadata, Source::RouteMetadata)?, extensions),
            (false, false) => (matched.map(|policy| (policy.clone(), Source::RoomsFile)), &[][..]),
        };
        // A slip for a gate may stand there.
        let unknown = passed_over.iter().filter(|(key, _)| !gates::ALL_KEYS.contains(key));
        let mut mistakes: Vec<_> = unknown.map(|(key, _)| unknown_key(key, &gates::ALL_KEYS)).collect();
        let filed = room.as_ref().map(|(policy, _)| self.routes.gates_of(&policy.room)).unwrap_or_default();
        let gates = [metadata, extensions]
            .into_iter()
            .try_fold((*filed).clone(), |gates, nearer| gates.with(nearer.iter().copied()));
        match gates {
            Ok(gates) if mistakes.is_empty() => Ok(Stated { room, gates: Arc::new(gates) }),
            gates => {
                mistakes.extend(gates.err().into_iter().flatten());
                Err(mistakes)
            }
        }
    }

    /// The room of a text. One only named has its limits in the rooms file.
    fn stated_room(
        &self,
        stated: &[(&str, &str)],
        source: Source,
    ) -> Result<Option<(Arc<Policy>, Source)>, Vec<Mistake>> {
        let mut limits = stated.iter().filter(|(key, _)| is_of_room(key));
        if let (Some(("room", room)), None) = (limits.next(), limits.next())
            && let Some(policy) = self.routes.by_name(room.trim())
        {
            return Ok(Some((policy.clone(), Source::RoomsFile)));
        }
        Ok(Stated::parse(stated, source)?.room)
    }
}

/// Whether a text says anything about a room; a slip may be meant to.
pub(super) fn names_room(stated: &[(&str, &str)]) -> bool {
    stated.iter().any(|(key, _)| is_of_room(key))
}

fn is_of_room(key: &str) -> bool {
    !gates::KEYS.contains(&key)
}

pub(super) fn owned(stated: &[(&str, &str)]) -> Pairs {
    stated.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn is_same(pairs: &Pairs, stated: &[(&str, &str)]) -> bool {
    pairs.len() == stated.len()
        && stated.iter().all(|(key, value)| pairs.iter().any(|(k, v)| k == key && v == value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::gates::{Anonymous, Gates};

    const NOTHING: &[(&str, &str)] = &[];

    /// A rooms file with one room, whose gates are not the default.
    fn reader() -> LimitsReader {
        let policy = Policy::parse([("room", "filed"), ("capacity", "7")]).unwrap();
        let gates = Gates { deny: false, anonymous: Anonymous::Refuse, ..Gates::default() };
        let room = crate::routes::Room { policy, gates, matchers: Vec::new() };
        LimitsReader::new(Arc::new(Routes::new(vec![room])))
    }

    fn read(
        reader: &LimitsReader,
        extensions: &[(&str, &str)],
        metadata: &[(&str, &str)],
        matched: bool,
    ) -> Found {
        let matched = if matched { reader.named("filed") } else { None };
        reader.read(&Asked { extensions, metadata, matched })
    }

    #[test]
    fn a_text_is_parsed_once_whatever_its_order() {
        let reader = reader();
        let read = |stated: &[(&str, &str)]| read(&reader, stated, NOTHING, false).unwrap().room.unwrap().0;
        let one = read(&[("room", "shop"), ("capacity", "2")]);
        let other = read(&[("capacity", "2"), ("room", "shop")]);
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &read(&[("room", "shop"), ("capacity", "3")])));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let reader = reader();
        for capacity in 0..MAX_KNOWN + 100 {
            let stated = [("room", "shop"), ("capacity", &capacity.to_string())];
            read(&reader, &stated, NOTHING, false).unwrap();
        }
        assert_eq!(reader.known.read().len(), MAX_KNOWN);
    }

    #[test]
    fn the_room_is_that_of_the_first_that_names_one() {
        let reader = reader();
        let found = |extensions: &[(&str, &str)], metadata: &[(&str, &str)], matched: bool| {
            let stated = read(&reader, extensions, metadata, matched).unwrap();
            stated.room.map(|(policy, source)| (policy.capacity, source))
        };
        let (shop, filed) = (&[("room", "shop"), ("capacity", "2")], &[("room", "filed")]);
        let by_file = Some((Some(7), Source::RoomsFile));
        assert_eq!(found(shop, filed, false), Some((Some(2), Source::ContextExtensions)));
        assert_eq!(found(filed, shop, false), by_file);
        assert_eq!(found(NOTHING, shop, false), Some((Some(2), Source::RouteMetadata)));
        let limits = &[("room", "filed"), ("capacity", "1")];
        assert_eq!(found(limits, NOTHING, false), Some((Some(1), Source::ContextExtensions)));
        // A gate takes no room away.
        for gate in [("limit_ip", "5/s"), ("anonymous", "allow"), ("deny", "on"), ("idempotency", "require")]
        {
            let gate = &[gate];
            assert_eq!(found(gate, NOTHING, true), by_file, "{gate:?}");
            assert_eq!(found(NOTHING, gate, true), by_file, "{gate:?}");
            assert_eq!(found(gate, shop, false), Some((Some(2), Source::RouteMetadata)), "{gate:?}");
            assert_eq!(found(gate, gate, false), None, "{gate:?}");
        }
        assert_eq!(read(&reader, &[("room", "nowhere")], NOTHING, false).unwrap_err().len(), 1);
    }

    #[test]
    fn each_gate_is_that_of_the_first_that_states_it() {
        let reader = reader();
        let gates = |extensions: &[(&str, &str)], metadata: &[(&str, &str)], matched: bool| {
            let gates = read(&reader, extensions, metadata, matched).unwrap().gates;
            (gates.deny, gates.anonymous == Anonymous::Refuse, gates.limit_ip.map(|quota| quota.count()))
        };
        let filed = ("room", "filed");
        assert_eq!(gates(&[filed], NOTHING, false), (false, true, None));
        assert_eq!(gates(&[filed, ("capacity", "1")], NOTHING, false), (false, true, None), "of its name");
        assert_eq!(gates(&[filed, ("deny", "on")], NOTHING, false), (true, true, None));
        let (one, other) = (("limit_ip", "1/s"), ("limit_ip", "2/s"));
        assert_eq!(gates(&[one], &[other, ("deny", "on")], true), (true, true, Some(1)));
        assert_eq!(gates(&[filed], &[other], false), (false, true, Some(2)));
        let shop = [("room", "shop"), ("capacity", "1")];
        assert_eq!(gates(&shop, &[("anonymous", "refuse"), other], false), (true, true, Some(2)));
        assert_eq!(gates(&[one], &shop, false), (true, false, Some(1)));
    }

    #[test]
    fn a_slip_is_found_wherever_it_stands() {
        let reader = reader();
        let (shop, slip) = (&[("room", "shop"), ("capacity", "1")], &[("anonymus", "refuse")]);
        let bad = &[("anonymous", "no")];
        for (extensions, metadata) in
            [(&shop[..], &slip[..]), (slip, shop), (shop, bad), (bad, shop), (slip, NOTHING), (NOTHING, bad)]
        {
            assert!(read(&reader, extensions, metadata, false).is_err(), "{extensions:?} {metadata:?}");
        }
    }
}
