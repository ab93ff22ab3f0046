//! Rate limits: so many requests per period for a key, some of them at once (GCRA).
//!
//! A key has spent nothing until it asks; each request costs it one interval (`period / count`), which passes by itself.
//! What is kept of a key is one moment: when it will have spent nothing (the theoretical arrival time). A request is
//! allowed while that moment stays within `burst` intervals from now. So in any `t` there are at most `burst + rate × t`,
//! and whoever asks once an interval is never refused.
//!
//! All whole numbers: a moment is microseconds and a rest in `1 / count` of one, so that `7/m` is exact as well. The twin
//! is `lua/limit.lua`, whose numbers are doubles: nothing here comes to 2^53.

use std::fmt;
use std::str::FromStr;

use super::policy::parse_count;
use super::rate::Rate;

/// Microseconds: since the epoch, or a time.
pub type Micros = u64;

/// The most requests per period, and the largest burst.
const MAX: u32 = 1_000_000;
/// The least burst where none is stated. With one of 1, a client that asks once an interval is refused whenever the
/// network brings a request a millisecond early.
const LEAST_BURST: u32 = 2;

/// So many requests per period for each key, and how many of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    rate: Rate,
    burst: u32,
    /// The replicas that share it.
    shares: u32,
}

/// When a key will have spent nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tat {
    /// The whole microseconds.
    pub at: Micros,
    /// What is to be added, in parts of a microsecond: as many as the quota has requests per period.
    pub rest: u32,
}

/// What came of a request, and how the key stands after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it was within the limit. If not, nothing was spent.
    pub allowed: bool,
    /// How many more would be allowed right now; at most the burst.
    pub remaining: u32,
    /// How long until one more would be allowed, in microseconds; 0: at once.
    pub retry_after: Micros,
    /// How long until the whole burst would be, in microseconds.
    pub reset: Micros,
}

impl Quota {
    /// What may be written, for error messages.
    pub const RULE: &'static str =
        "write a rate like 20/s, 600/m or 5/h, perhaps with a burst: 20/s burst 40; each from 1 to 1,000,000";

    /// A quota. Without a burst, it is one second's worth of the rate, and 2 at least. `None` where rate or burst is not
    /// within 1 and 1,000,000.
    pub fn new(rate: Rate, burst: Option<u32>) -> Option<Self> {
        let burst = burst.unwrap_or_else(|| rate.default_burst().max(LEAST_BURST));
        let fits = (1..=MAX).contains(&rate.count) && (1..=MAX).contains(&burst);
        fits.then_some(Self { rate, burst, shares: 1 })
    }

    /// Requests per period.
    pub fn count(&self) -> u32 {
        self.rate.count
    }

    /// The period.
    pub fn period(&self) -> Micros {
        self.rate.period.millis() * 1_000 * u64::from(self.shares)
    }

    /// How many requests may come at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// What one of so many replicas allows by itself: an equal part of the rate, and of the burst, of which each has one
    /// at least.
    #[must_use]
    pub fn share(&self, replicas: u32) -> Self {
        let shares = replicas.clamp(1, MAX);
        Self { burst: (self.burst / shares).max(1), shares, ..*self }
    }
}

impl FromStr for Quota {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (rate, burst) = match text.split_once("burst") {
            None => (text, None),
            Some((rate, burst)) => (rate, Some(parse_count(burst.trim()).ok_or(())?)),
        };
        Self::new(rate.trim().parse()?, burst).ok_or(())
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} burst {}", self.rate, self.burst)
    }
}

/// A request of a key comes in: whether it is allowed, and what is to be kept of the key.
///
/// `tat` is what was kept; `None`: nothing, or nothing any more. However far ahead it lies (the clock was set back, or
/// the quota was another one), the key counts as having spent its burst and no more: the next request is allowed after
/// one interval.
pub fn spend(tat: Option<Tat>, quota: &Quota, now: Micros) -> (Decision, Tat) {
    // In parts of a microsecond, `count` of which are one; so an interval is `period` of them.
    let (count, interval) = (u64::from(quota.count()), quota.period());
    let full = u64::from(quota.burst) * interval;
    let ahead = |tat: Tat| (tat.at - now).min(full / count + 1) * count + u64::from(tat.rest).min(count - 1);
    let spent = tat.filter(|tat| tat.at >= now).map_or(0, ahead);
    let is_too_far = spent > full;
    let spent = spent.min(full);
    let allowed = spent + interval <= full;
    let spent = if allowed { spent + interval } else { spent };
    let decision = Decision {
        allowed,
        remaining: u32::try_from((full - spent) / interval).unwrap_or(u32::MAX),
        retry_after: (spent + interval).saturating_sub(full).div_ceil(count),
        reset: spent.div_ceil(count),
    };
    let rest = u32::try_from(spent % count).unwrap_or(u32::MAX);
    let kept = Tat { at: now + spent / count, rest };
    // Who is refused stands as before.
    (decision, tat.filter(|_| !allowed && !is_too_far).unwrap_or(kept))
}

#[cfg(test)]
mod tests;
