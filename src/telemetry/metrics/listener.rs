//! What a listener counts: its connections, and those that it could not take.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Open;
use super::handles::{By, counters, gauges};
use super::label::ListenerLabel;

/// What one listener counts.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    open: Gauge,
    refused: Counter,
    accept_errors: Counter,
}

impl ListenerMetrics {
    /// A connection was accepted; it counts as open until the guard is dropped.
    pub fn connection_opened(&self) -> Open {
        Open::new(&self.open)
    }

    /// A connection was closed at once because too many are open.
    pub fn connection_refused(&self) {
        self.refused.inc();
    }

    /// A connection could not be accepted.
    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }
}

pub(super) struct ConnectionFamilies {
    open: By<ListenerLabel, Gauge>,
    refused: By<ListenerLabel, Counter>,
    accept_errors: By<ListenerLabel, Counter>,
}

impl ConnectionFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let by = "listener";
        Self {
            open: gauges(registry, "connections_open", "Connections open", by),
            refused: counters(
                registry,
                "connections_refused",
                "Connections closed at once because too many are open",
                by,
            ),
            accept_errors: counters(
                registry,
                "accept_errors",
                "Failed attempts to accept a connection; no more file descriptors, mostly",
                by,
            ),
        }
    }

    pub(super) fn of(&self, listener: ListenerLabel) -> ListenerMetrics {
        ListenerMetrics {
            open: self.open.of(listener).clone(),
            refused: self.refused.of(listener).clone(),
            accept_errors: self.accept_errors.of(listener).clone(),
        }
    }
}
