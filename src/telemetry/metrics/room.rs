//! The metrics of one room.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::{Atomic, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::label::{Label, VerdictLabel};
use super::spread::Spread;
use crate::room::policy::Policy;
use crate::room::rate::Rate;

type ByRoom<M, C = fn() -> M> = Family<[(&'static str, String); 1], M, C>;

/// The name that rooms past the bound share; no room can be called that.
pub(super) const OTHER_ROOMS: &str = "_other";

/// Position given at arrival.
const POSITION_BUCKETS: [f64; 13] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6];
/// Seconds from arrival to entry: from "at once" to a night in line.
const WAIT_BUCKETS: [f64; 14] =
    [0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0, 28_800.0];

/// How long a wait was over how long was told. Between 0.5 and 1.5 nobody complains.
const ETA_BUCKETS: [f64; 11] = [0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0];

/// Makes histograms with these buckets.
#[derive(Clone, Copy, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// The families all rooms share; one series per room in each.
#[derive(Debug)]
pub(super) struct RoomFamilies {
    checks: Family<[(&'static str, String); 2], Counter<u64, Spread>>,
    waiting: ByRoom<Gauge>,
    called: ByRoom<Gauge>,
    sessions: ByRoom<Gauge>,
    capacity: ByRoom<Gauge>,
    rate_limit: ByRoom<Gauge<f64, AtomicU64>>,
    paused: ByRoom<Gauge>,
    position: ByRoom<Histogram, Buckets>,
    wait: ByRoom<Histogram, Buckets>,
    eta_ratio: ByRoom<Histogram, Buckets>,
    admissions: ByRoom<Counter>,
    policy_conflicts: ByRoom<Counter>,
    away_noted: ByRoom<Counter>,
    away_ignored: ByRoom<Counter>,
    cut_off: ByRoom<Gauge>,
}

impl RoomFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            checks: Family::default(),
            waiting: Family::default(),
            called: Family::default(),
            sessions: Family::default(),
            capacity: Family::default(),
            rate_limit: Family::default(),
            paused: Family::default(),
            position: Family::new_with_constructor(Buckets(&POSITION_BUCKETS)),
            wait: Family::new_with_constructor(Buckets(&WAIT_BUCKETS)),
            eta_ratio: Family::new_with_constructor(Buckets(&ETA_BUCKETS)),
            admissions: Family::default(),
            policy_conflicts: Family::default(),
            away_noted: Family::default(),
            away_ignored: Family::default(),
            cut_off: Family::default(),
        };
        registry.register("checks", "Checks answered, by what they came to", families.checks.clone());
        registry.register("waiting", "Visitors in line", families.waiting.clone());
        registry.register("called", "Visitors whose turn it is and who may enter", families.called.clone());
        registry.register("sessions", "Visitors inside", families.sessions.clone());
        registry.register(
            "capacity",
            "Visitors that may be inside at once; absent where the policy sets no capacity",
            families.capacity.clone(),
        );
        registry.register(
            "rate_limit",
            "Visitors who may be called in a second; absent where the policy sets no rate",
            families.rate_limit.clone(),
        );
        registry.register("paused", "1 while an operator has paused the room", families.paused.clone());
        registry.register("position", "Position given at arrival", families.position.clone());
        registry.register_with_unit(
            "wait",
            "Time from arrival to entry",
            Unit::Seconds,
            families.wait.clone(),
        );
        registry.register(
            "eta_ratio",
            "How long the last in line waited over how long was told: 1 is right, 2 twice as long; 4 or more before the end",
            families.eta_ratio.clone(),
        );
        registry.register(
            "admissions",
            "Visitors let in: sessions begun, not requests",
            families.admissions.clone(),
        );
        registry.register(
            "policy_conflicts",
            "Times that two sources stated different limits for the room",
            families.policy_conflicts.clone(),
        );
        registry.register(
            "away_noted",
            "Pages that went away: their places are given up unless they are heard of again",
            families.away_noted.clone(),
        );
        registry.register(
            "away_ignored",
            "Pages that went away and were not in line any more, or were too many at once",
            families.away_ignored.clone(),
        );
        registry.register(
            "cut_off",
            "1 while the room's store calls are refused at once, because the last ones all failed",
            families.cut_off.clone(),
        );
        families
    }

    /// Handles for one room, under the name `room`.
    pub(super) fn of(&self, room: &str) -> RoomMetrics {
        let name = [("room", room.to_owned())];
        let checks = VerdictLabel::ALL.iter().map(|verdict| {
            let labels = [("room", room.to_owned()), ("verdict", verdict.as_str().to_owned())];
            self.checks.get_or_create_owned(&labels)
        });
        RoomMetrics {
            checks: checks.collect(),
            waiting: Level::new(self.waiting.get_or_create_owned(&name)),
            called: Level::new(self.called.get_or_create_owned(&name)),
            sessions: Level::new(self.sessions.get_or_create_owned(&name)),
            capacity: Limit { family: self.capacity.clone(), room: name.clone() },
            rate_limit: Limit { family: self.rate_limit.clone(), room: name.clone() },
            paused: Level::new(self.paused.get_or_create_owned(&name)),
            position: self.position.get_or_create_owned(&name),
            wait: self.wait.get_or_create_owned(&name),
            eta_ratio: self.eta_ratio.get_or_create_owned(&name),
            admissions: self.admissions.get_or_create_owned(&name),
            policy_conflicts: self.policy_conflicts.get_or_create_owned(&name),
            away_noted: self.away_noted.get_or_create_owned(&name),
            away_ignored: self.away_ignored.get_or_create_owned(&name),
            cut_off: Level::new(self.cut_off.get_or_create_owned(&name)),
        }
    }
}

/// The metrics of one room: handles looked up once, so that using them formats and looks up nothing.
///
/// Levels belong to the holder: when it goes, what it last set is taken off again.
#[derive(Debug)]
pub struct RoomMetrics {
    checks: Box<[Counter<u64, Spread>]>,
    waiting: Level,
    called: Level,
    sessions: Level,
    capacity: Limit<i64, AtomicI64>,
    rate_limit: Limit<f64, AtomicU64>,
    paused: Level,
    position: Histogram,
    wait: Histogram,
    eta_ratio: Histogram,
    admissions: Counter,
    policy_conflicts: Counter,
    away_noted: Counter,
    away_ignored: Counter,
    cut_off: Level,
}

impl RoomMetrics {
    /// A Check was answered.
    pub fn checked(&self, verdict: VerdictLabel) {
        self.checks[verdict.index()].inc();
    }

    /// The room as its latest snapshot shows it: visitors waiting, called and inside.
    pub fn observed(&self, waiting: u64, called: u64, sessions: u64) {
        self.waiting.set(waiting);
        self.called.set(called);
        self.sessions.set(sessions);
    }

    /// The limits in force, and whether anybody is called under them at all.
    pub fn set_limits(&self, policy: &Policy, paused: bool) {
        self.capacity.set(policy.capacity.map(i64::from));
        self.rate_limit.set(policy.rate.map(Rate::per_second));
        self.paused.set(paused.into());
    }

    /// A visitor arrived and was given this position, at least 1.
    pub fn arrived(&self, position: u64) {
        self.position.observe(position as f64);
    }

    /// A visitor entered, so many milliseconds after arriving.
    pub fn entered(&self, waited_ms: u64) {
        self.admissions.inc();
        self.wait.observe(waited_ms as f64 / 1_000.0);
    }

    /// The turn of somebody came whose wait was so many times as long as told.
    pub fn eta_proved(&self, ratio: f64) {
        self.eta_ratio.observe(ratio);
    }

    /// Two sources stated different limits for this room.
    pub fn policy_conflicted(&self) {
        self.policy_conflicts.inc();
    }

    /// So many pages went away, whose places are given up unless they are heard of again.
    pub fn away_noted(&self, count: usize) {
        self.away_noted.inc_by(count as u64);
    }

    /// So many pages went away whose places are left to silence.
    pub fn away_ignored(&self, count: usize) {
        self.away_ignored.inc_by(count as u64);
    }

    /// The room's store calls are refused at once from now on, or are made again.
    pub fn set_cut_off(&self, cut_off: bool) {
        self.cut_off.set(cut_off.into());
    }
}

/// A gauge that is there only where there is such a limit: 0 already means that nobody may enter.
#[derive(Debug)]
struct Limit<N, A> {
    family: ByRoom<Gauge<N, A>>,
    room: [(&'static str, String); 1],
}

impl<N, A: Atomic<N> + Default> Limit<N, A> {
    fn set(&self, limit: Option<N>) {
        match limit {
            // Rooms that share a series have no limit in common.
            Some(limit) if self.room[0].1 != OTHER_ROOMS => {
                self.family.get_or_create(&self.room).set(limit);
            }
            _ => {
                self.family.remove(&self.room);
            }
        }
    }
}

/// A gauge that several holders share as a sum: each sets its own part.
///
/// Rooms past the bound share one series; plain `set` would let each of them wipe out the others.
#[derive(Debug)]
struct Level {
    sum: Gauge,
    part: AtomicI64,
}

impl Level {
    fn new(sum: Gauge) -> Self {
        Self { sum, part: AtomicI64::new(0) }
    }

    fn set(&self, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        let before = self.part.swap(value, Ordering::Relaxed);
        self.sum.inc_by(value.wrapping_sub(before));
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.set(0);
    }
}
