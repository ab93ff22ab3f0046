//! Admission: how many may be called now, by rate, burst and capacity together or alone.

use serde::{Deserialize, Serialize};

use super::policy::{Millis, Mode, Policy};
use super::rate::Rate;

/// One credit in the unit they are kept in, so that every rate per second, minute or hour adds a whole number
/// of units per millisecond and nothing is ever rounded (the design's thousandths would lose a part of `7/m`).
const CREDIT: u64 = 3_600_000;

/// The most that one tick calls: bounds the time a room is held.
pub const MAX_CALLS_PER_TICK: u64 = 100_000;

/// A token bucket: refills at the policy's `rate` up to its `burst`; full at first.
///
/// Over any t seconds it hands out at most burst + rate × t.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credits {
    /// In units of 1/3,600,000 credit; at most burst × 3,600,000 < 2^53.
    units: u64,
    at: Millis,
}

impl Credits {
    /// A full bucket.
    pub fn full(policy: &Policy, now: Millis) -> Self {
        Self { units: Self::limit(policy), at: now }
    }

    /// An empty bucket: after a loss, what was spent before is not known.
    pub fn empty(now: Millis) -> Self {
        Self { units: 0, at: now }
    }

    /// Adds what has come since the last call; a bucket over a lowered burst loses the rest.
    pub fn refill(&mut self, policy: &Policy, now: Millis) {
        let elapsed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        let limit = Self::limit(policy);
        let gain = policy.rate.map_or(0, units_per_ms).saturating_mul(elapsed);
        self.units = self.units.saturating_add(gain).min(limit);
    }

    /// The clock was set back by so much: what comes from now on comes from the new time on.
    pub fn go_back(&mut self, by: Millis) {
        self.at = self.at.saturating_sub(by);
    }

    /// Whole credits at hand.
    pub fn whole(&self) -> u64 {
        self.units / CREDIT
    }

    /// Takes whole credits out; there must be as many.
    pub fn spend(&mut self, credits: u64) {
        self.units = self.units.saturating_sub(credits * CREDIT);
    }

    fn limit(policy: &Policy) -> u64 {
        u64::from(policy.burst) * CREDIT
    }
}

/// What a rate adds per millisecond, in units of 1/3,600,000 credit.
pub fn units_per_ms(rate: Rate) -> u64 {
    u64::from(rate.count) * (CREDIT / rate.period.millis())
}

/// How many may be called now: all, in a room that is off; else the least of the credits (rooms with a rate) and the free slots (rooms with a
/// capacity), at most [`MAX_CALLS_PER_TICK`].
pub fn quota(policy: &Policy, credits: &Credits, sessions: u64, called: u64) -> u64 {
    if policy.mode == Mode::Off {
        // Whoever still waits is to hear that they need not any more.
        return MAX_CALLS_PER_TICK;
    }
    // At rate 0 nobody is called, whatever the bucket held when that was said.
    let by_rate = policy.rate.map_or(u64::MAX, |rate| if rate.count == 0 { 0 } else { credits.whole() });
    let by_capacity = policy
        .capacity
        .map_or(u64::MAX, |capacity| u64::from(capacity).saturating_sub(sessions).saturating_sub(called));
    by_rate.min(by_capacity).min(MAX_CALLS_PER_TICK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(pairs: &[(&str, &str)]) -> Policy {
        Policy::parse(pairs.iter().copied().chain([("room", "r")])).unwrap()
    }

    proptest! {
        /// Over any stretch of time no more than burst + rate × t are handed out.
        #[test]
        fn the_bucket_holds_its_rate(
            count in 0..2_000u32, unit in prop::sample::select(vec!["s", "m", "h"]), burst in 1..50u32,
            steps in prop::collection::vec((0..5_000u64, 0..100u64), 1..60),
        ) {
            let policy = policy(&[("rate", &format!("{count}/{unit}")), ("burst", &burst.to_string())]);
            let rate = policy.rate.unwrap();
            let mut credits = Credits::full(&policy, 0);
            let mut now = 0;
            let mut spent: Vec<(u64, u64)> = Vec::new();
            for (step, want) in steps {
                now += step;
                credits.refill(&policy, now);
                let take = want.min(credits.whole());
                credits.spend(take);
                spent.push((now, take));
                for (i, (from, _)) in spent.iter().enumerate() {
                    let sum: u64 = spent[i..].iter().map(|(_, n)| n).sum();
                    let bound = u128::from(burst) * u128::from(rate.period.millis())
                        + u128::from(count) * u128::from(now - from);
                    prop_assert!(u128::from(sum) * u128::from(rate.period.millis()) <= bound);
                }
            }
        }
    }

    #[test]
    fn nothing_is_lost_to_rounding() {
        let policy = policy(&[("rate", "7/m"), ("burst", "1")]);
        let mut credits = Credits::empty(0);
        let mut admitted = 0;
        for now in (0..=3_600_000).step_by(13) {
            credits.refill(&policy, now);
            let take = credits.whole();
            credits.spend(take);
            admitted += take;
        }
        assert_eq!(admitted, 419, "7 a minute for an hour, less the one about to come");
    }

    #[test]
    fn either_limit_may_be_absent() {
        let both = policy(&[("rate", "10/s"), ("capacity", "3")]);
        assert_eq!(quota(&both, &Credits::full(&both, 0), 1, 1), 1);
        let rate = policy(&[("rate", "10/s")]);
        assert_eq!(quota(&rate, &Credits::full(&rate, 0), 500, 500), 10);
        let capacity = policy(&[("capacity", "3")]);
        assert_eq!(quota(&capacity, &Credits::full(&capacity, 0), 2, 5), 0);
        let still = policy(&[("rate", "0/s"), ("burst", "5")]);
        assert_eq!(quota(&still, &Credits::full(&still, 0), 0, 0), 0);
        let off = policy(&[("capacity", "0"), ("mode", "off")]);
        assert_eq!(quota(&off, &Credits::empty(0), 5, 5), MAX_CALLS_PER_TICK);
        let closed = policy(&[("capacity", "0")]);
        assert_eq!(quota(&closed, &Credits::full(&closed, 0), 0, 0), 0);
    }
}
