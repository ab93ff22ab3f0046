//! Figures of several rounds: their middle and ends, and ratios taken round by round.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The middle of some values, and the ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` of no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let last = values.len() - 1;
        Some(Self { low, median: f64::midpoint(values[last / 2], values[last.div_ceil(2)]), high })
    }

    /// One series over another, round by round: what slows the machine for a while slows both.
    pub(crate) fn ratio(
        one: impl IntoIterator<Item = f64>,
        other: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        Self::of(one.into_iter().zip(other).filter(|(_, other)| *other > 0.0).map(|(one, other)| one / other))
    }
}

/// The shares of requests whose latencies are told, by name.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Latencies in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Latencies {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latencies {
    /// Of nanoseconds.
    pub(crate) fn of(all: &Histogram<u64>) -> Self {
        let [p50, p90, p99, p999] = QUANTILES.map(|(_, share)| micros(all.value_at_quantile(share)));
        Self { p50, p90, p99, p999, max: micros(all.max()) }
    }
}

/// Microseconds.
pub(crate) fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

/// A point of a curve: this share of the requests was answered within so many microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Point {
    pub(crate) share: f64,
    pub(crate) micros: f64,
}

/// Latency by percentile, denser towards the end: 50 %, 75 %, 87.5 % … as far as there are requests to tell it.
pub(crate) fn curve(all: &Histogram<u64>) -> Vec<Point> {
    if all.is_empty() {
        return Vec::new();
    }
    let point = |share| Point { share, micros: micros(all.value_at_quantile(share)) };
    let mut points: Vec<Point> = (0..10).map(|step| point(f64::from(step) * 0.05)).collect();
    // Four steps for each halving of what is left; beyond one request in all there is nothing to tell.
    for step in 4.. {
        let left = 0.5_f64.powf(f64::from(step) / 4.0);
        if left * (all.len() as f64) < 1.0 {
            break;
        }
        points.push(point(1.0 - left));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::histogram;

    #[test]
    fn the_middle_of_an_even_number_lies_between() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(spread, Spread { low: 1.0, median: 2.5, high: 4.0 });
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // Medians over medians would be 1: the machine was slow in the second round, for both alike.
        let ratio = Spread::ratio([120.0, 60.0, 240.0], [100.0, 50.0, 200.0]).unwrap();
        assert!((ratio.low - 1.2).abs() < 1e-9 && (ratio.high - 1.2).abs() < 1e-9);
        assert_eq!(Spread::ratio([1.0], [0.0]), None);
    }

    #[test]
    fn percentiles_are_those_of_what_was_noted() {
        let mut all = histogram();
        for micros in 1..=1_000 {
            all.record(micros * 1_000).unwrap();
        }
        let told = Latencies::of(&all);
        for (value, right) in [(told.p50, 500.0), (told.p99, 990.0), (told.p999, 999.0), (told.max, 1_000.0)]
        {
            assert!((value / right - 1.0).abs() < 0.002, "{value} should be {right}");
        }
        let curve = curve(&all);
        assert!(curve.is_sorted_by(|a, b| a.share < b.share && a.micros <= b.micros));
        assert!(curve.last().unwrap().share <= 0.999);
    }
}
