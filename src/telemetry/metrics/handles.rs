//! Handles of metrics, looked up ahead of time: one for each value of a label.

use std::fmt;
use std::marker::PhantomData;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::{Atomic, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::label::Label;
use super::spread::Durations;

/// Seconds a Check or a store call takes: 50 µs to 1 s; Envoy gives up at 100 ms.
const LATENCY_BUCKETS: [f64; 14] =
    [50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// One handle for each value of a label.
#[derive(Debug)]
pub(super) struct By<L, M> {
    handles: Box<[M]>,
    label: PhantomData<L>,
}

impl<L: Label, M> By<L, M> {
    /// Looks the handles up.
    pub(super) fn new(handle: impl FnMut(L) -> M) -> Self {
        Self { handles: L::ALL.iter().copied().map(handle).collect(), label: PhantomData }
    }

    /// The handle of this value.
    pub(super) fn of(&self, label: L) -> &M {
        &self.handles[label.index()]
    }
}

/// A gauge.
pub(super) fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

/// A counter.
pub(super) fn counter<A>(registry: &mut Registry, name: &str, help: &str) -> Counter<u64, A>
where
    A: Atomic<u64> + Default + fmt::Debug + Send + Sync + 'static,
{
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// Counters, one for each pair of values of two labels.
pub(super) fn pair_counters<A: Label, B: Label>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    labels: [&'static str; 2],
) -> By<A, By<B, Counter>> {
    let family: Family<[(&'static str, &'static str); 2], Counter> = Family::default();
    registry.register(name, help, family.clone());
    By::new(|a: A| {
        By::new(|b: B| family.get_or_create_owned(&[(labels[0], a.as_str()), (labels[1], b.as_str())]))
    })
}

/// Metrics of a kind, one for each value of a label.
fn by<L, M>(registry: &mut Registry, name: &str, help: &str, label: &'static str) -> By<L, M>
where
    L: Label,
    M: EncodeMetric + TypedMetric + Clone + Default + fmt::Debug + Send + Sync + 'static,
{
    let family: Family<[(&'static str, &'static str); 1], M> = Family::default();
    registry.register(name, help, family.clone());
    By::new(|value: L| family.get_or_create_owned(&[(label, value.as_str())]))
}

/// Gauges, one for each value of a label.
pub(super) fn gauges<L: Label>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
) -> By<L, Gauge> {
    by(registry, name, help, label)
}

type Latencies = Family<[(&'static str, &'static str); 1], Durations, fn() -> Durations>;

/// Histograms of seconds, one for each value of a label.
pub(super) fn histograms<L: Label>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
) -> By<L, Durations> {
    let family: Latencies = Family::new_with_constructor(|| Durations::new(&LATENCY_BUCKETS));
    registry.register_with_unit(name, help, Unit::Seconds, family.clone());
    By::new(|value: L| family.get_or_create_owned(&[(label, value.as_str())]))
}

/// Counters, one for each value of a label.
pub(super) fn counters<L: Label>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
) -> By<L, Counter> {
    by(registry, name, help, label)
}
