//! What is counted of the gates before the rooms.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::handles::{By, counter, counters, gauge};
use super::label::Denied;

/// What is counted of the gates. Clones count into the same.
#[derive(Clone, Debug)]
pub struct GuardMetrics {
    denied: Arc<By<Denied, Counter>>,
    deny_entries: Gauge,
    deny_file_errors: Counter,
    addresses_unread: Counter,
}

impl GuardMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let denied =
            counters(registry, "denied", "Requests refused because the deny list names their sender", "by");
        Self {
            denied: Arc::new(denied),
            deny_entries: gauge(registry, "deny_entries", "Entries of the deny list"),
            deny_file_errors: counter(
                registry,
                "deny_file_errors",
                "Times the deny file could not be read or understood; the list stays as it was",
            ),
            addresses_unread: counter(
                registry,
                "client_addresses_unread",
                "Requests with something else in X-Forwarded-For where the client's address should stand",
            ),
        }
    }

    /// A request was refused.
    pub fn denied(&self, by: Denied) {
        self.denied.of(by).inc();
    }

    /// How many entries the list has.
    pub fn set_deny_entries(&self, count: usize) {
        self.deny_entries.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// No address stood where that of a client should.
    pub fn address_unread(&self) {
        self.addresses_unread.inc();
    }

    /// The file could not be taken.
    pub fn deny_file_failed(&self) {
        self.deny_file_errors.inc();
    }
}
