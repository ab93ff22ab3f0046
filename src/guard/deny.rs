//! The deny list in force, from all its sources, and how often each entry was met.

pub mod shared;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::room::deny::{Asker, DenyError, DenyList, Entry, Whom};
use crate::room::policy::Millis;
use crate::telemetry::metrics::guard::GuardMetrics;
use crate::telemetry::metrics::label::Denied;

/// The deny list of this process.
pub struct Denials {
    in_force: ArcSwap<InForce>,
    /// The version of the operators' entries in force; held while the list is changed.
    shared: Mutex<u64>,
    metrics: GuardMetrics,
}

#[derive(Default)]
struct InForce {
    /// First the file's entries, then the operators'.
    list: DenyList,
    /// How many are the file's.
    of_file: usize,
    /// How often each entry was met here.
    hits: Vec<Arc<AtomicU64>>,
}

/// Whose an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The deny file's.
    File,
    /// An operator's.
    Operators,
}

impl InForce {
    fn origin(&self, at: usize) -> Origin {
        if at < self.of_file { Origin::File } else { Origin::Operators }
    }
}

/// An entry, and how often it was met by this process since the entry is on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The entry.
    pub entry: Entry,
    /// Whose it is.
    pub origin: Origin,
    /// How often.
    pub hits: u64,
}

impl Denials {
    /// An empty list.
    pub fn new(metrics: GuardMetrics) -> Self {
        Self { in_force: ArcSwap::default(), shared: Mutex::default(), metrics }
    }

    /// Puts these entries of the deny file in force. What was met of one that was there already is kept.
    pub fn file(&self, entries: Vec<Entry>) -> Result<(), DenyError> {
        let _changing = self.shared.lock();
        let before = self.in_force.load();
        let operators = before.list.entries()[before.of_file..].to_vec();
        self.put(&before, entries, operators)
    }

    /// Puts these entries of operators in force, unless those of this version or a later one are: a change comes here twice,
    /// from whoever made it and from who follows the document.
    pub fn share(&self, version: u64, entries: Vec<Entry>) -> Result<(), DenyError> {
        let mut shared = self.shared.lock();
        if version <= *shared {
            return Ok(());
        }
        let before = self.in_force.load();
        let file = before.list.entries()[..before.of_file].to_vec();
        self.put(&before, file, entries)?;
        *shared = version;
        Ok(())
    }

    /// Whether these entries of operators could be put in force beside those of the file.
    pub fn try_share(&self, entries: &[Entry]) -> Result<(), DenyError> {
        let before = self.in_force.load();
        DenyList::new([&before.list.entries()[..before.of_file], entries].concat()).map(drop)
    }

    fn put(&self, before: &InForce, file: Vec<Entry>, operators: Vec<Entry>) -> Result<(), DenyError> {
        let of_file = file.len();
        let mut entries = file;
        entries.extend(operators);
        let list = DenyList::new(entries)?;
        let mut now = InForce { list, of_file, hits: Vec::new() };
        let known: HashMap<(Origin, &Whom), &Arc<AtomicU64>> =
            (before.list.entries().iter().zip(&before.hits))
                .enumerate()
                .map(|(at, (entry, hits))| ((before.origin(at), &entry.whom), hits))
                .collect();
        let entries = now.list.entries().iter().enumerate();
        let hits = entries.map(|(at, entry)| known.get(&(now.origin(at), &entry.whom)).copied().cloned());
        now.hits = hits.map(Option::unwrap_or_default).collect();
        self.metrics.set_deny_entries(now.list.entries().len());
        self.in_force.store(Arc::new(now));
        Ok(())
    }

    /// Whether nobody is on the list: then there is no need to find out who asks.
    pub fn is_empty(&self) -> bool {
        self.in_force.load().list.is_empty()
    }

    /// Whether the list names whoever asks.
    pub fn names(&self, asker: &Asker<'_>, now: Millis) -> bool {
        self.in_force.load().list.find(asker, now).is_some()
    }

    /// Whether whoever asks is refused; counted.
    pub fn refuses(&self, asker: &Asker<'_>, now: Millis) -> bool {
        let in_force = self.in_force.load();
        let Some(at) = in_force.list.find(asker, now) else { return false };
        in_force.hits[at].fetch_add(1, Ordering::Relaxed);
        self.metrics.denied(match in_force.list.entries()[at].whom {
            Whom::Network(_) => Denied::Ip,
            Whom::UserAgent(_) => Denied::UserAgent,
            Whom::Subject { .. } => Denied::Subject,
        });
        true
    }

    /// At most `limit` of the entries in force after the first `after`, and how many there are in all.
    pub fn listed(&self, after: usize, limit: usize) -> (Vec<Listed>, usize) {
        let in_force = self.in_force.load();
        let listed = in_force.list.entries().iter().zip(&in_force.hits).enumerate().skip(after).take(limit);
        let listed = listed.map(|(at, (entry, hits))| Listed {
            entry: entry.clone(),
            origin: in_force.origin(at),
            hits: hits.load(Ordering::Relaxed),
        });
        (listed.collect(), in_force.list.entries().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn network(text: &str) -> Entry {
        Entry { whom: Whom::Network(text.parse().unwrap()), until: None, note: None }
    }

    #[test]
    fn entries_that_stay_keep_their_count() {
        let denials = Denials::new(Metrics::new(1).guard());
        let asker = Asker { address: Some("192.0.2.1".parse().unwrap()), ..Asker::default() };
        assert!(denials.is_empty() && !denials.refuses(&asker, 0));
        denials.file(vec![network("192.0.2.0/24")]).unwrap();
        assert!(denials.refuses(&asker, 0) && denials.refuses(&asker, 0));
        denials.file(vec![network("10.0.0.0/8"), network("192.0.2.0/24")]).unwrap();
        assert!(denials.refuses(&asker, 0));
        let told = |denials: &Denials| -> Vec<(Origin, u64)> {
            denials.listed(0, 10).0.iter().map(|listed| (listed.origin, listed.hits)).collect()
        };
        assert_eq!(told(&denials), [(Origin::File, 0), (Origin::File, 3)]);
        denials.share(2, vec![network("203.0.113.0/24")]).unwrap();
        denials.share(1, Vec::new()).unwrap();
        let other = Asker { address: Some("203.0.113.9".parse().unwrap()), ..Asker::default() };
        assert!(denials.refuses(&other, 0), "what was shared before counts no more");
        denials.file(vec![network("192.0.2.0/24")]).unwrap();
        assert_eq!(told(&denials), [(Origin::File, 3), (Origin::Operators, 1)], "each its own");
        assert_eq!(denials.listed(1, 1).0.len(), 1);
        denials.share(3, Vec::new()).unwrap();
        assert!(!denials.refuses(&other, 0));
        denials.file(Vec::new()).unwrap();
        assert!(denials.is_empty());
    }
}
