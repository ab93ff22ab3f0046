//! Counters and histograms that every Check writes to: spread over the threads, so that cores do not wait for each
//! other. `prometheus-client` has a lock in its histogram, and one word in its counter for all.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Atomic;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Among how many parts threads are shared out. More than this many cores share some, which costs time and no count.
const PARTS: usize = 8;

/// The part of this thread.
fn part() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PART: Cell<Option<usize>> = const { Cell::new(None) };
    }
    PART.with(|known| {
        known.get().unwrap_or_else(|| {
            let part = THREADS.fetch_add(1, Ordering::Relaxed) % PARTS;
            known.set(Some(part));
            part
        })
    })
}

/// Something on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Apart<T>(T);

/// A counter's value.
#[derive(Debug, Default)]
pub(super) struct Spread([Apart<AtomicU64>; PARTS]);

impl Atomic<u64> for Spread {
    fn inc(&self) -> u64 {
        self.inc_by(1)
    }

    fn inc_by(&self, count: u64) -> u64 {
        self.0[part()].0.fetch_add(count, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.iter().map(|part| part.0.load(Ordering::Relaxed)).sum()
    }
}

/// A histogram of durations, in seconds. Cheap to clone; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Durations {
    /// Upper bounds in nanoseconds, ascending, and in seconds.
    bounds: Arc<[(u64, f64)]>,
    parts: Arc<[Apart<Part>]>,
}

#[derive(Debug)]
struct Part {
    nanos: AtomicU64,
    /// One for each bound and one for what is beyond.
    counts: Box<[AtomicU64]>,
}

impl Durations {
    /// With these upper bounds in seconds, ascending.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds of a latency, in nanoseconds
    pub(super) fn new(bounds: &[f64]) -> Self {
        let part = || Part {
            nanos: AtomicU64::new(0),
            counts: std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect(),
        };
        Self {
            bounds: bounds.iter().map(|bound| ((bound * 1e9).round() as u64, *bound)).collect(),
            parts: std::iter::repeat_with(|| Apart(part())).take(PARTS).collect(),
        }
    }

    pub(super) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|(bound, _)| nanos <= *bound).unwrap_or(self.bounds.len());
        let Apart(part) = &self.parts[part()];
        part.counts[bucket].fetch_add(1, Ordering::Relaxed);
        part.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.bounds.iter().map(|(_, seconds)| *seconds).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .enumerate()
            .map(|(at, bound)| {
                (bound, self.parts.iter().map(|part| part.0.counts[at].load(Ordering::Relaxed)).sum())
            })
            .collect();
        let nanos: u64 = self.parts.iter().map(|part| part.0.nanos.load(Ordering::Relaxed)).sum();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(nanos as f64 / 1e9, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_count_is_counted() {
        let (counter, durations) = (Spread::default(), Durations::new(&[0.001, 0.01]));
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for micros in [500, 1_000, 5_000, 2_000_000] {
                        counter.inc_by(2);
                        durations.observe(Duration::from_micros(micros));
                    }
                });
            }
        });
        assert_eq!(counter.get(), 160);
        let counts = |at: usize| -> u64 {
            durations.parts.iter().map(|part| part.0.counts[at].load(Ordering::Relaxed)).sum()
        };
        assert_eq!([counts(0), counts(1), counts(2)], [40, 20, 20]);
    }
}
