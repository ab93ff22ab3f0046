//! Which limits a request stands under: those in its `context_extensions`, else in its route's metadata, else in
//! the rooms file.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use parking_lot::RwLock;

use super::request::Question;
use crate::room::policy::{Mistake, Policy, Source};
use crate::routes::Routes;

/// The most texts remembered; a configuration has one per route. Beyond that each Check parses its own.
pub(super) const MAX_KNOWN: usize = 4_096;

/// What a configuration text comes to, and whether that stands in the rooms file.
type Read = Result<(Arc<Policy>, bool), Arc<[Mistake]>>;

/// The limits of a request, and what states them.
pub type Found = Result<Option<(Arc<Policy>, Source)>, Arc<[Mistake]>>;

/// Finds the limits of requests.
pub struct LimitsReader {
    routes: Arc<Routes>,
    hasher: RandomState,
    known: RwLock<HashMap<u64, (Pairs, Read)>>,
}

/// Keys and values as Envoy sent them, in any order.
pub(super) type Pairs = Vec<(String, String)>;

impl LimitsReader {
    /// Limits stated by Envoy, and those of the rooms file.
    pub fn new(routes: Arc<Routes>) -> Self {
        Self { routes, hasher: RandomState::new(), known: RwLock::default() }
    }

    /// The limits that a request stands under, and what states them; `None`: no room is meant.
    pub fn of(&self, question: &Question<'_>) -> Found {
        let from = |source, (policy, filed)| Some((policy, if filed { Source::RoomsFile } else { source }));
        let stated = question.context_extensions();
        if !stated.is_empty() {
            return self.read(stated).map(|read| from(Source::ContextExtensions, read));
        }
        let metadata = question.route_metadata().map_err(Arc::from)?;
        if !metadata.is_empty() {
            let stated: Vec<_> = metadata.iter().map(|(key, value)| (*key, value.as_ref())).collect();
            return self.read(&stated).map(|read| from(Source::RouteMetadata, read));
        }
        let path = question.path_and_query().unwrap_or_default();
        let policy = self.routes.policy_for(question.method(), question.authority(), path);
        Ok(policy.map(|policy| (policy.clone(), Source::RoomsFile)))
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
    fn read(&self, stated: &[(&str, &str)]) -> Read {
        let hash = self.hash_of(stated);
        if let Some((pairs, read)) = self.known.read().get(&hash)
            && is_same(pairs, stated)
        {
            return read.clone();
        }
        let read = self.parse(stated);
        let mut known = self.known.write();
        if known.len() < MAX_KNOWN {
            known.insert(hash, (owned(stated), read.clone()));
        }
        read
    }

    fn parse(&self, stated: &[(&str, &str)]) -> Read {
        // A room only named has its limits in the rooms file.
        if let [("room", room)] = stated
            && let Some(policy) = self.routes.by_name(room.trim())
        {
            return Ok((policy.clone(), true));
        }
        Policy::parse(stated.iter().copied()).map(|policy| (Arc::new(policy), false)).map_err(Arc::from)
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

    fn reader() -> LimitsReader {
        let policy = Policy::parse([("room", "filed"), ("capacity", "7")]).unwrap();
        let room = crate::routes::Room { policy, matchers: Vec::new() };
        LimitsReader::new(Arc::new(Routes::new(vec![room])))
    }

    #[test]
    fn a_text_is_parsed_once_whatever_its_order() {
        let reader = reader();
        let read = |stated: &[(&str, &str)]| reader.read(stated).unwrap().0;
        let one = read(&[("room", "shop"), ("capacity", "2")]);
        let other = read(&[("capacity", "2"), ("room", "shop")]);
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &read(&[("room", "shop"), ("capacity", "3")])));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let reader = reader();
        for capacity in 0..MAX_KNOWN + 100 {
            reader.read(&[("room", "shop"), ("capacity", &capacity.to_string())]).unwrap();
        }
        assert_eq!(reader.known.read().len(), MAX_KNOWN);
    }

    #[test]
    fn a_room_only_named_has_its_limits_in_the_rooms_file() {
        let reader = reader();
        let read = |stated: &[(&str, &str)]| {
            let (policy, filed) = reader.read(stated).unwrap();
            (policy.capacity, filed)
        };
        assert_eq!(read(&[("room", "filed")]), (Some(7), true));
        assert_eq!(read(&[("room", "filed"), ("capacity", "1")]), (Some(1), false));
        assert_eq!(reader.read(&[("room", "nowhere")]).unwrap_err().len(), 1);
    }
}
