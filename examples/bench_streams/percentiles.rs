//! How long it took until those who were called had heard of it.

use std::fmt;
use std::time::Duration;

/// From the change of the limits until those who are called have heard of it.
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
    pub(crate) count: usize,
}

impl Percentiles {
    pub(crate) fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |permille: usize| {
            let rank = (all.len() * permille).div_ceil(1_000).clamp(1, all.len());
            all[rank - 1]
        };
        Self { p50: at(500), p99: at(990), max: at(1_000), count: all.len() }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [self.p50, self.p99, self.max].map(|time| time.as_millis());
        write!(f, "p50 {p50} ms, p99 {p99} ms, max {max} ms")
    }
}
