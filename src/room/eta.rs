//! How long it will take: the admissions of the last 15 minutes, and the estimate made from them.

use serde::{Deserialize, Serialize};

use super::policy::{Millis, Policy};
use super::rate::Rate;
use super::standing::Eta;

const BUCKET_MS: Millis = 10_000;
const BUCKETS: usize = 90;
/// The windows of the weighted mean, in buckets, with their weights (from the seeds: 1, 5 and 15 minutes).
const WINDOWS: [(usize, f64); 3] = [(6, 0.5), (30, 0.3), (90, 0.2)];
/// Estimates err on the side of patience.
const MARGIN: f64 = 1.1;
/// The longest estimate given: a week. Beyond that nothing useful can be said.
const MAX_SECONDS: f64 = 604_800.0;

/// Calls per fixed bucket of 10 s, over the last 15 minutes.
///
/// Only time in which somebody waited and could be called counts, and only the calls made in it: a quiet hour in which
/// one visitor a minute walked straight in says nothing about how fast a line would move, and neither does a pause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Number of the newest bucket since the epoch.
    newest: u64,
    /// Newest first.
    buckets: Vec<Bucket>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bucket {
    calls: u64,
    busy_ms: Millis,
}

impl Default for History {
    fn default() -> Self {
        Self { newest: 0, buckets: vec![Bucket::default(); BUCKETS] }
    }
}

impl History {
    /// A history from its newest bucket (in steps of 10 s since the epoch) and the calls and busy milliseconds of
    /// each bucket, newest first; missing ones are empty.
    pub fn from_buckets(newest: u64, told: impl IntoIterator<Item = (u64, Millis)>) -> Self {
        let mut history = Self { newest, ..Self::default() };
        for (bucket, (calls, busy_ms)) in history.buckets.iter_mut().zip(told) {
            *bucket = Bucket { calls, busy_ms };
        }
        history
    }

    /// Notes that a line stood from `since` until `now`, and that `calls` were made at the end of it.
    pub fn note(&mut self, since: Millis, now: Millis, calls: u64) {
        self.advance(now / BUCKET_MS);
        self.buckets[0].calls += calls;
        // A tick is far shorter than a bucket; a longer gap is counted to the buckets it lies in.
        let mut until = now;
        for (age, bucket) in (0u64..).zip(self.buckets.iter_mut()) {
            let start = (self.newest - age.min(self.newest)) * BUCKET_MS;
            bucket.busy_ms += until.saturating_sub(since.max(start));
            until = until.min(start);
            if start <= since {
                break;
            }
        }
    }

    /// The clock was set back from one time to another: each bucket stands as far behind it as before.
    pub fn go_back(&mut self, from: Millis, to: Millis) {
        self.newest = self.newest.saturating_sub(from / BUCKET_MS - to / BUCKET_MS);
    }

    /// The calls of the last minute: of this bucket and the five before it.
    pub fn minute(&self, now: Millis) -> Recent {
        let (calls, busy_ms) = self.total(WINDOWS[0].0, now);
        Recent { calls, busy_ms }
    }

    /// Calls and busy milliseconds of so many buckets back from `now`.
    fn total(&self, buckets: usize, now: Millis) -> (u64, Millis) {
        let shift = usize::try_from((now / BUCKET_MS).saturating_sub(self.newest)).unwrap_or(usize::MAX);
        let within = self.buckets.iter().take(buckets.saturating_sub(shift));
        within.fold((0, 0), |(calls, busy), bucket| (calls + bucket.calls, busy + bucket.busy_ms))
    }

    /// What the last 15 minutes say about the speed of the line at `now`, within what `policy` can admit.
    pub fn speed(&self, policy: &Policy, now: Millis) -> Speed {
        let totals = WINDOWS.map(|(buckets, _)| self.total(buckets, now));
        let [one, five, fifteen] = totals.map(|(calls, _)| calls);
        let confidence = match () {
            () if fifteen >= 30 => 1.0,
            () if five >= 10 => 0.8,
            () if one >= 3 => 0.6,
            () => 0.2,
        };
        let (mut weighted, mut weights) = (0.0, 0.0);
        for ((_, weight), (calls, busy_ms)) in WINDOWS.iter().zip(totals) {
            if calls > 0 && busy_ms > 0 {
                weighted += weight * calls as f64 * 1_000.0 / busy_ms as f64;
                weights += weight;
            }
        }
        let measured = (weights > 0.0).then(|| weighted / weights);
        let bound = policy.rate.map(Rate::per_second);
        let per_second = match (measured, bound) {
            _ if policy.capacity == Some(0) => Some(0.0),
            (Some(measured), Some(bound)) => Some(measured.min(bound)),
            (Some(measured), None) => Some(measured),
            (None, _) => policy.own_rate(),
        };
        let confidence = if measured.is_some() { confidence } else { 0.2 };
        Speed { per_second: per_second.unwrap_or(0.0), confidence }
    }

    /// Whether every bucket is there, as in a history read from elsewhere it may not be.
    pub fn is_whole(&self) -> bool {
        self.buckets.len() == BUCKETS
    }

    fn advance(&mut self, bucket: u64) {
        let steps = usize::try_from(bucket.saturating_sub(self.newest)).unwrap_or(BUCKETS).min(BUCKETS);
        self.buckets.rotate_right(steps);
        self.buckets[..steps].fill(Bucket::default());
        self.newest = self.newest.max(bucket);
    }
}

/// What was done of late, in time in which somebody waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// Calls made.
    pub calls: u64,
    /// How long somebody waited, in milliseconds.
    pub busy_ms: Millis,
}

impl Recent {
    /// Calls per second in which somebody waited; `None`: nobody did.
    pub fn per_second(self) -> Option<f64> {
        (self.busy_ms > 0).then(|| self.calls as f64 * 1_000.0 / self.busy_ms as f64)
    }
}

/// How fast the line moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Calls per second; 0 when nobody is being let in.
    pub per_second: f64,
    /// How far to trust it: 1.0, 0.8, 0.6 or 0.2, by how many admissions back it.
    pub confidence: f64,
}

impl Speed {
    /// The line stands still.
    pub const STILL: Self = Self { per_second: 0.0, confidence: 0.2 };

    /// How fast a line moves at `now`: not at all where nobody may be called.
    pub fn of(history: &History, policy: &Policy, paused: bool, now: Millis) -> Self {
        let stands = paused || policy.capacity == Some(0);
        if stands { Self::STILL } else { history.speed(policy, now) }
    }

    /// How long the visitor at `position` (1 is the next) will wait; `None` if the line does not move.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to a week of seconds
    pub fn eta(self, position: u64) -> Option<Eta> {
        if self.per_second <= 0.0 {
            return None;
        }
        let seconds = (position as f64 / self.per_second * MARGIN).min(MAX_SECONDS);
        // Fewer admissions behind the figure, a wider interval around it.
        let (low, high) = match self.confidence {
            c if c >= 1.0 => (0.85, 1.2),
            c if c >= 0.8 => (0.75, 1.5),
            c if c >= 0.6 => (0.6, 2.0),
            _ => (0.4, 3.0),
        };
        let whole = |seconds: f64| seconds as u64;
        Some(Eta {
            seconds: whole(seconds.ceil()),
            low: whole((seconds * low).floor()),
            high: whole((seconds * high).ceil()),
            confidence: self.confidence,
        })
    }
}

/// When a waiting visitor should ask again, in seconds: about half the time they can hardly do better than,
/// between 2 and 10 s, and often enough that neither `patience` nor a call's `claim_ttl` runs out between two polls.
pub fn poll_after(eta: Option<Eta>, policy: &Policy) -> u32 {
    let by_eta = eta.map_or(10, |eta| eta.low.div_ceil(2).clamp(2, 10));
    let by_policy = (policy.patience / 3_000).min(policy.claim_ttl / 2_000).max(1);
    u32::try_from(by_eta.min(by_policy)).unwrap_or(10)
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // small whole figures
mod tests {
    use super::*;

    fn policy(pairs: &[(&str, &str)]) -> Policy {
        Policy::parse(pairs.iter().copied().chain([("room", "r")])).unwrap()
    }

    /// A line that moved at `per_second` for `seconds`, one note a second.
    fn moved(per_second: u64, seconds: u64) -> (History, Millis) {
        let mut history = History::default();
        let start = 1_700_000_000_000;
        for second in 0..seconds {
            history.note(start + second * 1_000, start + (second + 1) * 1_000, per_second);
        }
        (history, start + seconds * 1_000)
    }

    #[test]
    fn a_steady_line_is_predicted_within_its_interval() {
        let (history, now) = moved(4, 600);
        let speed = history.speed(&policy(&[("rate", "10/s")]), now);
        assert!((speed.per_second - 4.0).abs() < 0.1, "{speed:?}");
        assert!(speed.confidence >= 1.0);
        let eta = speed.eta(400).unwrap();
        assert!(eta.low <= 100 && 100 <= eta.high && (105..=115).contains(&eta.seconds), "{eta:?}");
    }

    #[test]
    fn only_the_elapsed_part_of_a_window_counts() {
        let (history, now) = moved(5, 12);
        let speed = history.speed(&policy(&[("rate", "10/s")]), now);
        assert!((speed.per_second - 5.0).abs() < 0.1, "{speed:?}");
    }

    #[test]
    fn confidence_grows_with_the_admissions_behind_it() {
        let policy = policy(&[("rate", "10/s")]);
        for (seconds, confidence) in [(0, 0.2), (2, 0.2), (3, 0.6), (10, 0.8), (30, 1.0)] {
            let (history, now) = moved(1, seconds);
            assert_eq!(history.speed(&policy, now).confidence, confidence, "{seconds} s");
        }
    }

    #[test]
    fn without_data_the_policy_speaks() {
        let fresh = History::default();
        assert_eq!(fresh.speed(&policy(&[("rate", "600/m")]), 1).per_second, 10.0);
        assert_eq!(fresh.speed(&policy(&[("capacity", "240")]), 1).per_second, 1.0);
        assert_eq!(fresh.speed(&policy(&[("capacity", "0")]), 1).eta(1), None);
    }

    #[test]
    fn what_is_measured_never_exceeds_the_policy() {
        let (history, now) = moved(50, 60);
        assert_eq!(history.speed(&policy(&[("rate", "10/s")]), now).per_second, 10.0);
    }

    #[test]
    fn the_past_is_forgotten() {
        let (history, now) = moved(50, 60);
        let later = history.speed(&policy(&[("rate", "60/s")]), now + 3_600_000);
        assert_eq!((later.per_second, later.confidence), (60.0, 0.2));
    }

    #[test]
    fn polls_come_often_enough_to_stay_alive() {
        let hasty = policy(&[("rate", "1/h"), ("patience", "6s")]);
        assert_eq!(poll_after(None, &hasty), 2);
        let brisk = policy(&[("rate", "1/h"), ("claim_ttl", "10s")]);
        assert_eq!(poll_after(None, &brisk), 5);
        let calm = policy(&[("rate", "1/h")]);
        assert_eq!(poll_after(None, &calm), 10);
        let design = Eta { seconds: 12, low: 9, high: 18, confidence: 0.8 };
        assert_eq!(poll_after(Some(design), &calm), 5);
    }
}
