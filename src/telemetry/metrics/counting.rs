//! What limits and what may be done once count.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::handles::{By, counter, counters, gauge, gauges, pair_counters};
use super::label::Label as _;
use super::label::counting::{KeyTable, LimitOutcome, LimitScope, OnceOutcome, OnceScope};

/// The handles. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct CountingMetrics {
    handles: Arc<Handles>,
}

#[derive(Debug)]
struct Handles {
    limits: By<LimitScope, By<LimitOutcome, Counter>>,
    once: By<OnceScope, By<OnceOutcome, Counter>>,
    keys: By<KeyTable, Gauge>,
    evicted: By<KeyTable, Counter>,
    replicas: Gauge,
    unsynced: Counter,
}

impl CountingMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let handles = Handles {
            limits: pair_counters(
                registry,
                "limit_decisions",
                "Requests held against a limit",
                ["scope", "outcome"],
            ),
            once: pair_counters(
                registry,
                "once_claims",
                "Requests and nonces that may be used once",
                ["scope", "outcome"],
            ),
            keys: gauges(
                registry,
                "guard_keys",
                "Keys in the tables of limits and of what is done once",
                "table",
            ),
            evicted: counters(
                registry,
                "guard_keys_evicted",
                "Keys that had to make room for others before their time was over",
                "table",
            ),
            replicas: gauge(
                registry,
                "replicas",
                "Replicas that answer Checks, as far as this one has heard",
            ),
            unsynced: counter(
                registry,
                "replica_syncs_failed",
                "Times that this replica could not say that it is there",
            ),
        };
        Self { handles: Arc::new(handles) }
    }

    /// Handles that nobody exports, for tests and programs without metrics.
    pub fn unregistered() -> Self {
        Self::register(&mut Registry::default())
    }

    /// A request was held against a limit.
    pub fn limited(&self, scope: LimitScope, outcome: LimitOutcome) {
        self.handles.limits.of(scope).of(outcome).inc();
    }

    /// How many requests came to this.
    pub fn limits(&self, scope: LimitScope, outcome: LimitOutcome) -> u64 {
        self.handles.limits.of(scope).of(outcome).get()
    }

    /// Something that may be done once was tried.
    pub fn tried_once(&self, scope: OnceScope, outcome: OnceOutcome) {
        self.handles.once.of(scope).of(outcome).inc();
    }

    /// How many keys a table holds.
    pub fn set_keys(&self, table: KeyTable, keys: usize) {
        self.handles.keys.of(table).set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// So many keys had to make room.
    pub fn evicted(&self, table: KeyTable, keys: usize) {
        if keys > 0 {
            self.handles.evicted.of(table).inc_by(keys as u64);
        }
    }

    /// How many had to make room so far.
    pub fn evictions(&self) -> u64 {
        KeyTable::ALL.iter().map(|table| self.handles.evicted.of(*table).get()).sum()
    }

    /// How many replicas answer Checks.
    pub fn set_replicas(&self, replicas: u32) {
        self.handles.replicas.set(replicas.into());
    }

    /// This replica could not say that it is there.
    pub fn sync_failed(&self) {
        self.handles.unsynced.inc();
    }
}
