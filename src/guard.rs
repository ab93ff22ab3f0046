//! What stands before the rooms: who is refused whatever the line says, limits for each key, and what may be done once.
//! Replicas count together, over a ledger; while that is out, each goes on with its share.

pub mod deny;
pub mod limiter;
pub mod once;
pub mod order;
mod reach;
pub mod roll;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::store::ledger::Ledger;
use crate::telemetry::metrics::Metrics;
use limiter::Limiter;
use once::Once;
use reach::Reach;
use roll::Roll;

/// How often a replica says that it is there, and hears what is new.
const SYNC: Duration = Duration::from_secs(1);
/// How often it is tried whether what was out is back.
const TRIAL: Duration = Duration::from_millis(250);

/// The guard of a process.
pub struct Guard {
    reach: Arc<Reach>,
    /// Limits.
    pub limiter: Limiter,
    /// What may be done once.
    pub once: Once,
    /// Who else is there, and the document that all of them have.
    pub roll: Roll,
}

/// How a guard works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The longest a call of the ledger may take.
    pub budget: Duration,
    /// Whether this process answers Checks, and so has a part in their limits.
    pub checks: bool,
}

impl Guard {
    /// A guard over a ledger.
    pub fn new(options: Options, ledger: Arc<dyn Ledger>, clock: Clock, metrics: &Arc<Metrics>) -> Self {
        let reach = Arc::new(Reach::new(options.budget, ledger, clock, metrics.clone()));
        Self {
            limiter: Limiter::new(reach.clone()),
            once: Once::new(reach.clone()),
            roll: Roll::new(reach.clone(), options.checks),
            reach,
        }
    }

    /// Says every second that this replica is there, hears what is new and forgets what is over, and finds out four times
    /// a second what is back after an outage; until `closing`, and for a second more where something is still to be done.
    pub async fn tend(&self, closing: impl Future<Output = ()>) {
        let every = |time| {
            let mut ticks = tokio::time::interval(time);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        };
        let (mut turns, mut trials) = (every(SYNC), every(TRIAL));
        tokio::pin!(closing);
        loop {
            tokio::select! {
                () = &mut closing => break,
                _ = turns.tick() => self.turn().await,
                _ = trials.tick() => self.reach.try_again().await,
            }
        }
        self.once.close().await;
    }

    async fn turn(&self) {
        if self.roll.call().await.is_err() {
            self.reach.metrics.sync_failed();
        }
        self.limiter.sweep();
        self.once.sweep();
    }
}

#[cfg(test)]
mod tests;
