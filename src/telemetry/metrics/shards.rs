//! What the connections to Redis count: calls, repeats, connections, looks at the cluster.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;

use super::handles::{By, counters};
use super::label::{CallResult, LinkEvent, Refresh, Resent};

/// The handles. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct ShardMetrics {
    handles: Arc<Handles>,
}

#[derive(Debug)]
struct Handles {
    calls: By<CallResult, Counter>,
    resent: By<Resent, Counter>,
    links: By<LinkEvent, Counter>,
    refreshes: By<Refresh, Counter>,
    batch: Histogram,
    queued: Gauge,
    turned_away: Counter,
}

impl ShardMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let handles = Handles {
            calls: counters(registry, "redis_calls", "Calls to Redis, by how they ended", "result"),
            resent: counters(
                registry,
                "redis_calls_resent",
                "Calls sent again because they did not run the first time",
                "why",
            ),
            links: counters(registry, "redis_connections", "Connections to Redis servers", "event"),
            refreshes: counters(
                registry,
                "redis_topology_refreshes",
                "Looks at which server holds which slots",
                "result",
            ),
            batch: Histogram::new([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0]),
            queued: Gauge::default(),
            turned_away: Counter::default(),
        };
        let (batch, queued, turned_away) =
            (handles.batch.clone(), handles.queued.clone(), handles.turned_away.clone());
        registry.register("redis_batch_visitors", "Visitors in one call to Redis", batch);
        registry.register("redis_queued_visitors", "Visitors that wait for the next call to Redis", queued);
        registry.register(
            "redis_turned_away",
            "Visitors refused because as many as allowed wait for a call to Redis",
            turned_away,
        );
        Self { handles: Arc::new(handles) }
    }

    /// Handles that nobody exports, for programs without metrics.
    pub fn unregistered() -> Self {
        Self::register(&mut Registry::default())
    }

    /// A call ended.
    pub fn called(&self, result: CallResult) {
        self.handles.calls.of(result).inc();
    }

    /// How many calls ended so.
    pub fn calls(&self, result: CallResult) -> u64 {
        self.handles.calls.of(result).get()
    }

    /// A call is sent again.
    pub fn resent(&self, why: Resent) {
        self.handles.resent.of(why).inc();
    }

    /// How many calls were sent again for this reason.
    pub fn resends(&self, why: Resent) -> u64 {
        self.handles.resent.of(why).get()
    }

    /// A connection was opened or ended.
    pub fn linked(&self, event: LinkEvent) {
        self.handles.links.of(event).inc();
    }

    /// How many connections came to this.
    pub fn links(&self, event: LinkEvent) -> u64 {
        self.handles.links.of(event).get()
    }

    /// So many visitors wait for a call.
    pub fn queued(&self, visitors: usize) {
        self.handles.queued.inc_by(i64::try_from(visitors).unwrap_or(i64::MAX));
    }

    /// So many wait no more: they go with a call, or have given up.
    pub fn unqueued(&self, visitors: usize) {
        self.handles.queued.dec_by(i64::try_from(visitors).unwrap_or(i64::MAX));
    }

    /// A call goes out for so many visitors.
    pub fn gathered(&self, visitors: usize) {
        self.handles.batch.observe(visitors as f64);
    }

    /// So many visitors were refused because too many wait.
    pub fn turned_away(&self, visitors: usize) {
        self.handles.turned_away.inc_by(visitors as u64);
    }

    /// How many visitors wait for a call.
    pub fn waiting(&self) -> i64 {
        self.handles.queued.get()
    }

    /// A look at the cluster ended.
    pub fn refreshed(&self, result: Refresh) {
        self.handles.refreshes.of(result).inc();
    }

    /// How many looks at the cluster ended so.
    pub fn refreshes(&self, result: Refresh) -> u64 {
        self.handles.refreshes.of(result).get()
    }
}
