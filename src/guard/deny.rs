//! The deny list in force, from all its sources, and how often each entry was met.

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
    /// Held while the list is changed.
    filed: Mutex<()>,
    metrics: GuardMetrics,
}

#[derive(Default)]
struct InForce {
    list: DenyList,
    /// How often each entry was met here.
    hits: Vec<Arc<AtomicU64>>,
}

/// An entry, and how often it was met by this process since the entry is on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The entry.
    pub entry: Entry,
    /// How often.
    pub hits: u64,
}

impl Denials {
    /// An empty list.
    pub fn new(metrics: GuardMetrics) -> Self {
        Self { in_force: ArcSwap::default(), filed: Mutex::default(), metrics }
    }

    /// Puts these entries in force. What was met of one that was there already is kept.
    pub fn file(&self, entries: Vec<Entry>) -> Result<(), DenyError> {
        let list = DenyList::new(entries)?;
        let _filed = self.filed.lock();
        let before = self.in_force.load();
        let known: HashMap<&Whom, &Arc<AtomicU64>> =
            before.list.entries().iter().map(|entry| &entry.whom).zip(&before.hits).collect();
        let hits =
            list.entries().iter().map(|entry| known.get(&entry.whom).copied().cloned().unwrap_or_default());
        let hits = hits.collect();
        self.metrics.set_deny_entries(list.entries().len());
        self.in_force.store(Arc::new(InForce { list, hits }));
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

    /// The entries in force.
    pub fn listed(&self) -> Vec<Listed> {
        let in_force = self.in_force.load();
        let listed = in_force.list.entries().iter().zip(&in_force.hits);
        listed
            .map(|(entry, hits)| Listed { entry: entry.clone(), hits: hits.load(Ordering::Relaxed) })
            .collect()
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
        let hits: Vec<u64> = denials.listed().iter().map(|listed| listed.hits).collect();
        assert_eq!(hits, [0, 3]);
        denials.file(Vec::new()).unwrap();
        assert!(denials.is_empty());
    }
}
