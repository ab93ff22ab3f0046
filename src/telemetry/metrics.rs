//! Metrics: handles looked up ahead of time, and their text for Prometheus.

pub mod counting;
pub mod guard;
mod handles;
pub mod identity;
pub mod label;
mod listener;
mod process;
pub mod room;
pub mod shards;
mod spread;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::RwLock;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::counting::CountingMetrics;
use self::guard::GuardMetrics;
use self::handles::{By, counter, counters, gauge, gauges, histograms, pair_counters};
use self::identity::IdentityMetrics;
use self::label::{
    ListenerLabel, OperatorCall, OperatorResult, PollAnswer, StoreFault, StoreOp, StreamKind, TokenFault,
    TokenLabel, VerdictLabel,
};
use self::listener::ConnectionFamilies;
pub use self::listener::ListenerMetrics;
use self::process::Process;
use self::room::{OTHER_ROOMS, RoomFamilies, RoomMetrics};
use self::shards::ShardMetrics;
use self::spread::{Durations, Spread};
use crate::room::name::RoomName;

/// Every metric of the process. Share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: RoomFamilies,
    max_rooms: usize,
    rooms: RwLock<HashMap<RoomName, Arc<RoomMetrics>>>,
    check_seconds: By<VerdictLabel, Durations>,
    store_seconds: By<StoreOp, Durations>,
    passes_remembered: Counter<u64, Spread>,
    passes_verified: Counter<u64, Spread>,
    store_errors: By<StoreOp, By<StoreFault, Counter>>,
    store_up: Gauge,
    clock_ahead: Gauge<f64, AtomicU64>,
    checkpoint_failing: Gauge,
    streams_open: By<StreamKind, Gauge>,
    streams_refused: Counter,
    config_errors: Counter,
    tokens_refused: By<TokenLabel, By<TokenFault, Counter>>,
    checks_in_flight: Gauge,
    checks_shed: Counter,
    polls: By<PollAnswer, Counter>,
    users_kept: Gauge,
    users_not_kept: Counter,
    listeners: By<ListenerLabel, ListenerMetrics>,
    shards: ShardMetrics,
    identity: IdentityMetrics,
    operator_calls: By<OperatorCall, By<OperatorResult, Counter>>,
    guard: GuardMetrics,
    counting: CountingMetrics,
}

impl Metrics {
    /// What [`Metrics::encode`] returns, as a `Content-Type`.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// All metrics at zero. At most `max_rooms` rooms get series of their own (some 60 each); those
    /// beyond share the room `_other`.
    pub fn new(max_rooms: usize) -> Self {
        let mut root = Registry::default();
        root.register_collector(Box::new(Process::starting_now()));
        let registry = root.sub_registry_with_prefix("anteroom");
        let clock_ahead: Gauge<f64, AtomicU64> = Gauge::default();
        registry.register_with_unit(
            "clock_ahead",
            "How far this process's clock is ahead of the store's; negative: behind it",
            Unit::Seconds,
            clock_ahead.clone(),
        );
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let connections = ConnectionFamilies::register(registry);
        Self {
            families: RoomFamilies::register(registry),
            max_rooms,
            rooms: RwLock::default(),
            passes_remembered: counter(
                registry,
                "passes_remembered",
                "Passes shown whose signature had been checked before",
            ),
            passes_verified: counter(
                registry,
                "passes_verified",
                "Passes shown whose signature had to be checked",
            ),
            check_seconds: histograms(registry, "check", "Time to answer a Check", "verdict"),
            store_seconds: histograms(registry, "store_call", "Time a store call takes", "op"),
            store_errors: pair_counters(registry, "store_errors", "Store calls that failed", ["op", "kind"]),
            store_up: gauge(registry, "store_up", "1 while the store answers, as far as is known"),
            clock_ahead,
            checkpoint_failing: gauge(
                registry,
                "checkpoint_failing",
                "1 while the embedded store cannot write to its state directory",
            ),
            streams_open: gauges(registry, "streams_open", "Streams open to visitors", "kind"),
            streams_refused: counter(
                registry,
                "streams_refused",
                "Streams refused because too many are open already",
            ),
            config_errors: counter(
                registry,
                "config_errors",
                "Requests whose policy could not be understood; the log names each mistake once",
            ),
            tokens_refused: pair_counters(
                registry,
                "tokens_refused",
                "Tickets and passes that prove nothing",
                ["kind", "reason"],
            ),
            checks_in_flight: gauge(registry, "checks_in_flight", "Checks being answered"),
            checks_shed: counter(
                registry,
                "checks_shed",
                "Checks turned away because too many are in flight",
            ),
            polls: counters(registry, "tracer_polls", "Polls of users known by name", "answer"),
            users_kept: gauge(registry, "tracer_users", "Users whose place is kept between their polls"),
            users_not_kept: counter(
                registry,
                "tracer_users_not_kept",
                "Polls of users whose place could not be remembered because too many are",
            ),
            listeners: By::new(|listener: ListenerLabel| connections.of(listener)),
            shards: ShardMetrics::register(registry),
            identity: IdentityMetrics::register(registry),
            operator_calls: pair_counters(registry, "operator_calls", "Calls of operators", ["op", "result"]),
            guard: GuardMetrics::register(registry),
            counting: CountingMetrics::register(registry),
            registry: root,
        }
    }

    /// The metrics of a room. Ask once per room and keep the answer: rooms past the bound get a new
    /// holder at each call, whose levels count into `_other` as long as it lives.
    pub fn room(&self, name: &RoomName) -> Arc<RoomMetrics> {
        if let Some(known) = self.rooms.read().get(name) {
            return Arc::clone(known);
        }
        let mut rooms = self.rooms.write();
        if let Some(known) = rooms.get(name) {
            return Arc::clone(known);
        }
        if rooms.len() >= self.max_rooms {
            return Arc::new(self.families.of(OTHER_ROOMS));
        }
        let new = Arc::new(self.families.of(name.as_str()));
        rooms.insert(name.clone(), Arc::clone(&new));
        new
    }

    /// A Check was answered, after so long. By verdict and not by room: what it costs depends on the
    /// way it took, and every room more would be a histogram more.
    pub fn check_took(&self, verdict: VerdictLabel, took: Duration) {
        self.check_seconds.of(verdict).observe(took);
    }

    /// A Check has begun; it counts as in flight until the guard is dropped.
    pub fn check_begun(&self) -> Open {
        Open::new(&self.checks_in_flight)
    }

    /// A Check was turned away because too many were in flight.
    pub fn check_shed(&self) {
        self.checks_shed.inc();
    }

    /// A store call returned, after so long, well or not.
    pub fn store_call_took(&self, op: StoreOp, took: Duration) {
        self.store_seconds.of(op).observe(took);
    }

    /// A store call failed, or was not even tried.
    pub fn store_call_failed(&self, op: StoreOp, fault: StoreFault) {
        self.store_errors.of(op).of(fault).inc();
    }

    /// Whether the store answers, as far as its connections tell.
    pub fn set_store_up(&self, up: bool) {
        self.store_up.set(up.into());
    }

    /// How far this process's clock is ahead of the store's, in milliseconds; negative: behind it.
    pub fn set_clock_ahead(&self, ms: i64) {
        self.clock_ahead.set(ms as f64 / 1_000.0);
    }

    /// Whether the embedded store's last attempt to keep its rooms on disk has failed.
    pub fn set_checkpoint_failing(&self, failing: bool) {
        self.checkpoint_failing.set(failing.into());
    }

    /// A stream was opened; it counts as open until the guard is dropped.
    pub fn stream_opened(&self, kind: StreamKind) -> Open {
        Open::new(self.streams_open.of(kind))
    }

    /// A stream was refused because too many are open.
    pub fn stream_refused(&self) {
        self.streams_refused.inc();
    }

    /// A user known by name has polled.
    pub fn polled(&self, answer: PollAnswer) {
        self.polls.of(answer).inc();
    }

    /// How many users' places are remembered.
    pub fn set_users_kept(&self, count: usize) {
        self.users_kept.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A user's place could not be remembered, as too many are.
    pub fn user_not_kept(&self) {
        self.users_not_kept.inc();
    }

    /// A request's policy could not be understood.
    pub fn config_error(&self) {
        self.config_errors.inc();
    }

    /// An operator has asked for something.
    pub fn operator_called(&self, call: OperatorCall, result: OperatorResult) {
        self.operator_calls.of(call).of(result).inc();
    }

    /// A pass was shown whose signature was or was not known to hold.
    pub fn pass_verified(&self, was_known: bool) {
        if was_known {
            self.passes_remembered.inc()
        } else {
            self.passes_verified.inc()
        };
    }

    /// A ticket or pass proved nothing.
    pub fn token_refused(&self, token: TokenLabel, fault: TokenFault) {
        self.tokens_refused.of(token).of(fault).inc();
    }

    /// The handles of a listener.
    pub fn listener(&self, listener: ListenerLabel) -> ListenerMetrics {
        self.listeners.of(listener).clone()
    }

    /// The handles of the gates before the rooms.
    pub fn guard(&self) -> GuardMetrics {
        self.guard.clone()
    }

    /// The handles of what replicas count together.
    pub fn counting(&self) -> CountingMetrics {
        self.counting.clone()
    }

    /// The handles of the connections to Redis.
    pub fn shards(&self) -> ShardMetrics {
        self.shards.clone()
    }

    /// The handles of users' tokens.
    pub fn identity(&self) -> IdentityMetrics {
        self.identity.clone()
    }

    /// Every metric as `OpenMetrics` text. Fails only if a metric cannot be written as text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Counts as open in a gauge until it is dropped.
#[derive(Debug)]
pub struct Open {
    gauge: Gauge,
}

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests;
