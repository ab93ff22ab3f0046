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

    /// Says every second that this replica is there, hears what is new and forgets what is over, until `closing`; then
    /// waits for the calls under way.
    pub async fn tend(&self, closing: impl Future<Output = ()>) {
        let mut ticks = tokio::time::interval(SYNC);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(closing);
        loop {
            tokio::select! {
                () = &mut closing => break,
                _ = ticks.tick() => self.turn().await,
            }
        }
        self.reach.close().await;
    }

    async fn turn(&self) {
        self.roll.call().await;
        self.limiter.sweep();
        self.once.sweep();
    }
}

#[cfg(test)]
mod tests;
