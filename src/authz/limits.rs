//! Which limits a request stands under: those in its `context_extensions`, else in its route's metadata, else in
//! the rooms file.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use parking_lot::RwLock;

use super::request::Question;
use crate::room::gates::{self, Stated};
use crate::room::policy::{Mistake, Policy, Source};
use crate::routes::Routes;

/// The most texts remembered; a configuration has one per route. Beyond that each Check parses its own.
pub(super) const MAX_KNOWN: usize = 4_096;

/// What a configuration text comes to.
pub type Found = Result<Stated, Arc<[Mistake]>>;

/// Finds the limits of requests.
pub struct LimitsReader {
    routes: Arc<Routes>,
    hasher: RandomState,
    known: RwLock<HashMap<u64, (Pairs, Found)>>,
}

/// Keys and values as Envoy sent them, in any order.
pub(super) type Pairs = Vec<(String, String)>;

impl LimitsReader {
    /// Limits stated by Envoy, and those of the rooms file.
    pub fn new(routes: Arc<Routes>) -> Self {
        Self { routes, hasher: RandomState::new(), known: RwLock::default() }
    }

    /// What a request stands under; the default: nothing is stated for it.
    pub fn of(&self, question: &Question<'_>) -> Found {
        let stated = question.context_extensions();
        if !stated.is_empty() {
            return self.read(stated, Source::ContextExtensions);
        }
        let metadata = question.route_metadata().map_err(Arc::from)?;
        if !metadata.is_empty() {
            let stated: Vec<_> = metadata.iter().map(|(key, value)| (*key, value.as_ref())).collect();
            return self.read(&stated, Source::RouteMetadata);
        }
        let path = question.path_and_query().unwrap_or_default();
        // What is no business of a room by its method may become that at the backend.
        let mut methods = question.methods();
        let policy = methods.find_map(|method| self.routes.policy_for(method, question.authority(), path));
        Ok(policy.map(|policy| self.filed(policy)).unwrap_or_default())
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
    fn read(&self, stated: &[(&str, &str)], source: Source) -> Found {
        // Of two sources with the same text, too, each is told as what it is.
        let hash = self.hash_of(stated).wrapping_add(source as u64);
        if let Some((pairs, read)) = self.known.read().get(&hash)
            && is_same(pairs, stated)
        {
            return read.clone();
        }
        let read = self.parse(stated, source);
        let mut known = self.known.write();
        if known.len() < MAX_KNOWN {
            known.insert(hash, (owned(stated), read.clone()));
        }
        read
    }

    fn parse(&self, stated: &[(&str, &str)], source: Source) -> Found {
        // A room only named has its limits in the rooms file, and its gates as far as the route states none.
        let mut limits = stated.iter().filter(|(key, _)| !gates::KEYS.contains(key));
        if let (Some(("room", room)), None) = (limits.next(), limits.next())
            && let Some(policy) = self.routes.by_name(room.trim())
        {
            let filed = self.filed(policy);
            let gates = filed.gates.with(stated.iter().copied())?;
            return Ok(Stated { gates: Arc::new(gates), ..filed });
        }
        Ok(Stated::parse(stated, source)?)
    }
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
    use crate::room::gates::Gates;

    const BY_ENVOY: Source = Source::ContextExtensions;

    fn reader() -> LimitsReader {
        let policy = Policy::parse([("room", "filed"), ("capacity", "7")]).unwrap();
        let room = crate::routes::Room {
            policy,
            gates: Gates { deny: false, ..Gates::default() },
            matchers: Vec::new(),
        };
        LimitsReader::new(Arc::new(Routes::new(vec![room])))
    }

    #[test]
    fn a_text_is_parsed_once_whatever_its_order() {
        let reader = reader();
        let read = |stated: &[(&str, &str)]| reader.read(stated, BY_ENVOY).unwrap().room.unwrap().0;
        let one = read(&[("room", "shop"), ("capacity", "2")]);
        let other = read(&[("capacity", "2"), ("room", "shop")]);
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &read(&[("room", "shop"), ("capacity", "3")])));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let reader = reader();
        for capacity in 0..MAX_KNOWN + 100 {
            reader.read(&[("room", "shop"), ("capacity", &capacity.to_string())], BY_ENVOY).unwrap();
        }
        assert_eq!(reader.known.read().len(), MAX_KNOWN);
    }

    #[test]
    fn a_room_only_named_has_its_limits_in_the_rooms_file() {
        let reader = reader();
        let read = |stated: &[(&str, &str)]| {
            let Stated { room, gates } = reader.read(stated, BY_ENVOY).unwrap();
            let (policy, source) = room.unwrap();
            (policy.capacity, source, gates.deny)
        };
        assert_eq!(read(&[("room", "filed")]), (Some(7), Source::RoomsFile, false));
        assert_eq!(read(&[("room", "filed"), ("deny", "on")]), (Some(7), Source::RoomsFile, true));
        assert_eq!(read(&[("room", "filed"), ("capacity", "1")]), (Some(1), BY_ENVOY, true));
        assert_eq!(reader.read(&[("room", "nowhere")], BY_ENVOY).unwrap_err().len(), 1);
    }
}
