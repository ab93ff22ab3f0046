//! Limits: so many requests for each address, user or client.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;

use super::reach::Reach;
use crate::room::decision::Limited;
use crate::room::gcra::{self, Decision, Micros, Quota, Tat};
use crate::store::expiring::Expiring;
use crate::store::ledger::Key;
use crate::telemetry::metrics::label::Label as _;
use crate::telemetry::metrics::label::counting::{KeyTable, LimitOutcome, LimitScope};

/// The most keys remembered as being beyond their limits. The one that would first be within again makes room: it
/// costs a call more.
const MAX_BEYOND: usize = 65_536;
/// The most keys whose share is counted here while the ledger is out. The one that would soonest have spent nothing
/// makes room.
const MAX_SHARES: usize = 65_536;

/// One limit that a request is held against.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Whose requests are counted.
    pub scope: LimitScope,
    /// The room that they go to; a room with several quotas has a count for each.
    pub room: &'a str,
    /// Who asks, in parts: an address, a user's issuer and name, and the like.
    pub who: &'a [&'a [u8]],
    /// What they may.
    pub quota: Quota,
}

/// What came of a request that was held against limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There were none.
    Unlimited,
    /// It is within all of them; how it stands with the nearest.
    Allowed(Standing),
    /// It is beyond one at least; how it stands with that which lasts longest.
    Refused(Standing),
}

/// How somebody stands with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whose requests it counts.
    pub scope: LimitScope,
    /// The limit.
    pub quota: Quota,
    /// How many more requests would be allowed right now.
    pub remaining: u32,
    /// How long until one more would be; zero: at once.
    pub retry_after: Duration,
    /// How long until the whole burst would be.
    pub reset: Duration,
}

impl From<Standing> for Limited {
    fn from(standing: Standing) -> Self {
        let micros = |time: Duration| Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX);
        Self {
            scope: standing.scope.as_str(),
            counts: match standing.scope {
                LimitScope::Ip => "for each ip",
                LimitScope::User => "for each user",
                LimitScope::Client => "for each client",
                LimitScope::Api => "calls for each address",
                LimitScope::Join => "new places for each address",
            },
            quota: standing.quota,
            retry_after: micros(standing.retry_after),
            reset: micros(standing.reset),
        }
    }
}

/// The limits of a process.
///
/// Once a key is at its limit, it is remembered here until the moment at which the next request would be allowed: so a
/// flood costs about as many calls as it is allowed requests, however large it is. A key's moment is never put off by
/// others, as what is refused costs nothing; so nobody is refused here whom the ledger would have allowed.
pub struct Limiter {
    reach: Arc<Reach>,
    beyond: Expiring<Beyond>,
    shares: Expiring<Tat>,
}

/// A key that is at its limit.
#[derive(Clone, Copy, Debug)]
struct Beyond {
    /// When one more request would be allowed.
    until: Micros,
    /// When the whole burst would be.
    full_at: Micros,
}

impl Limiter {
    pub(super) fn new(reach: Arc<Reach>) -> Self {
        Self { reach, beyond: Expiring::new(MAX_BEYOND), shares: Expiring::new(MAX_SHARES) }
    }

    /// Holds a request against limits, all at once.
    ///
    /// Where it is remembered to be beyond one of them, none is charged. Where the ledger says so, the others are
    /// charged all the same, as they may be on other servers: once for each time that the one refuses without having
    /// been remembered, so at most about once for each request that it allows.
    pub async fn spend(&self, asks: &[Ask<'_>]) -> Verdict {
        let now = self.reach.clock.now_us();
        let keys: Vec<Key> = asks.iter().map(Ask::key).collect();
        let known = asks.iter().zip(&keys).filter_map(|(ask, key)| {
            let beyond = self.beyond.get(*key, now)?;
            let refused = Decision {
                allowed: false,
                remaining: 0,
                retry_after: beyond.until.saturating_sub(now),
                reset: beyond.full_at.saturating_sub(now),
            };
            Some((ask, refused))
        });
        if let Some((ask, refused)) = known.max_by_key(|(_, refused)| refused.retry_after) {
            self.reach.metrics.limited(ask.scope, LimitOutcome::Remembered);
            return Verdict::Refused(Standing::of(ask, &refused));
        }
        let decided = join_all(asks.iter().zip(keys).map(|(ask, key)| self.decide(ask, key, now))).await;
        let all = asks.iter().zip(&decided);
        let refused = all.clone().filter(|(_, decision)| !decision.allowed);
        if let Some((ask, decision)) = refused.max_by_key(|(_, decision)| decision.retry_after) {
            return Verdict::Refused(Standing::of(ask, decision));
        }
        match all.min_by_key(|(_, decision)| (decision.remaining, std::cmp::Reverse(decision.reset))) {
            Some((ask, decision)) => Verdict::Allowed(Standing::of(ask, decision)),
            None => Verdict::Unlimited,
        }
    }

    /// How many keys are remembered as being beyond their limits.
    pub fn remembered(&self) -> usize {
        self.beyond.len()
    }

    pub(super) fn sweep(&self) {
        let now = self.reach.clock.now_us();
        for (table, keys) in [
            (KeyTable::Refused, {
                self.beyond.sweep(now);
                self.beyond.len()
            }),
            (KeyTable::Shares, {
                self.shares.sweep(now);
                self.shares.len()
            }),
        ] {
            self.reach.metrics.set_keys(table, keys);
        }
    }

    async fn decide(&self, ask: &Ask<'_>, key: Key, begun: Micros) -> Decision {
        let (decision, outcomes) = match self.reach.spend(key, ask.quota).await {
            Ok(decision) => {
                self.remember(key, &decision, begun);
                (decision, [LimitOutcome::Allowed, LimitOutcome::Refused])
            }
            // Counted and logged where the call was made.
            Err(_) => (self.share(ask, key), [LimitOutcome::ShareAllowed, LimitOutcome::ShareRefused]),
        };
        self.reach.metrics.limited(ask.scope, outcomes[usize::from(!decision.allowed)]);
        decision
    }

    /// Remembers a key that is at its limit, whether this request was the last within or the first beyond. Counted from
    /// before the question, so that nobody is kept too long.
    fn remember(&self, key: Key, decision: &Decision, begun: Micros) {
        if decision.retry_after == 0 {
            return;
        }
        let (until, full_at) = (begun + decision.retry_after, begun + decision.reset);
        let ((), evicted) = self.beyond.update(key, begun, |before| {
            // Answers may come in another order than they were given in.
            let later = before.is_none_or(|before| before.until < until);
            (later.then_some((until, Beyond { until, full_at })), ())
        });
        self.reach.metrics.evicted(KeyTable::Refused, evicted);
    }

    /// What this replica allows by itself.
    fn share(&self, ask: &Ask<'_>, key: Key) -> Decision {
        let now = self.reach.clock.now_us();
        let quota = ask.quota.share(self.reach.replicas.load(Ordering::Relaxed));
        let (decision, evicted) = self.shares.update(key, now, |tat| {
            let (decision, tat) = gcra::spend(tat, &quota, now);
            (Some((now + decision.reset, tat)), decision)
        });
        self.reach.metrics.evicted(KeyTable::Shares, evicted);
        decision
    }
}

impl Ask<'_> {
    fn key(&self) -> Key {
        let quota = self.quota.to_string();
        let mut parts =
            vec![b"limit", self.scope.as_str().as_bytes(), self.room.as_bytes(), quota.as_bytes()];
        parts.extend(self.who);
        Key::of(&parts)
    }
}

impl Standing {
    fn of(ask: &Ask<'_>, decision: &Decision) -> Self {
        Self {
            scope: ask.scope,
            quota: ask.quota,
            remaining: decision.remaining,
            retry_after: Duration::from_micros(decision.retry_after),
            reset: Duration::from_micros(decision.reset),
        }
    }
}
