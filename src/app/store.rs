//! The store: the chosen one opened, tended while the program runs, and closed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::info;

use super::AppError;
use crate::admin::{Condition, Readiness};
use crate::clock::Clock;
use crate::config::settings::{Settings, StoreChoice};
use crate::drain::{Shutdown, Tasks};
use crate::room::name::RoomName;
use crate::store::Store;
use crate::store::checkpoint::{Checkpoint, CheckpointError};
use crate::store::ledger::Ledger;
use crate::store::memory::MemoryStore;
use crate::store::memory::ledger::MemoryLedger;
use crate::store::redis::RedisStore;
use crate::store::redis::shards::{ConnectError, Health, Shards, Timing};
use crate::store::target::Target;
use crate::telemetry::metrics::Metrics;

/// The least time between two checkpoints of the embedded store. What a crash loses comes back with tickets and
/// passes, but a session begun in this time may be given away before its pass is shown: so it is short.
const CHECKPOINT_GAP: Duration = Duration::from_millis(25);
/// Four times as long as a checkpoint took, the next one waits: large rooms are not written all the time.
const CHECKPOINT_REST: u32 = 4;
/// The longest that the end waits for a shared store to take its leave.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The slots of a cluster.
const SLOTS: usize = 16_384;

/// The store that was chosen.
pub(super) enum Opened {
    /// In this process.
    Memory { store: Arc<MemoryStore>, state_dir: Option<PathBuf> },
    /// In Redis.
    Redis(Arc<RedisStore>),
}

impl Opened {
    /// Opens the store. A shared one connects in the background: the program starts without it.
    pub(super) fn open(settings: &Settings, clock: Clock, metrics: &Metrics) -> Result<Self, AppError> {
        match &settings.store {
            StoreChoice::Memory { state_dir } => {
                let store = match state_dir {
                    Some(dir) => MemoryStore::open(clock, settings.max_rooms, Checkpoint::open(dir)?)?,
                    None => MemoryStore::new(clock, settings.max_rooms),
                };
                Ok(Self::Memory { store: Arc::new(store), state_dir: state_dir.clone() })
            }
            StoreChoice::Redis(target) => {
                info!(store = %target, "rooms live in Redis");
                Ok(Self::Redis(connect(target, settings, metrics)?))
            }
        }
    }

    /// The store, whichever it is.
    pub(super) fn any(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory { store, .. } => store.clone(),
            Self::Redis(store) => store.clone(),
        }
    }

    /// What is counted together, where the rooms are.
    pub(super) fn ledger(&self, clock: Clock, metrics: &Metrics) -> Arc<dyn Ledger> {
        match self {
            Self::Memory { .. } => Arc::new(MemoryLedger::new(clock, metrics.counting())),
            Self::Redis(store) => Arc::new(store.ledger()),
        }
    }

    /// The rooms that it has kept from before. A shared one is not asked: it has no list of them, and looking through all
    /// its keys would hold up everybody.
    pub(super) fn kept(&self) -> Vec<RoomName> {
        match self {
            Self::Memory { store, .. } => store.names(),
            Self::Redis(_) => Vec::new(),
        }
    }

    /// Where the store keeps files, if it keeps any.
    pub(super) fn state_dir(&self) -> Option<&Path> {
        match self {
            Self::Memory { state_dir, .. } => state_dir.as_deref(),
            Self::Redis(_) => None,
        }
    }

    /// Starts what the store needs while it is in use.
    pub(super) fn tend(&self, tasks: &mut Tasks, readiness: &Readiness, metrics: &Arc<Metrics>) {
        match self {
            Self::Memory { store, state_dir } => {
                metrics.set_store_up(true);
                if state_dir.is_some() {
                    tasks.spawn("checkpoint", checkpoint(store.clone(), metrics.clone(), tasks.shutdown()));
                }
            }
            Self::Redis(store) => {
                let reached = readiness.condition("store", "it has not answered yet");
                tasks.spawn("store", follow(store.health(), reached, metrics.clone(), tasks.shutdown()));
            }
        }
    }

    /// Ends the store, after everything that uses it.
    pub(super) async fn close(self) -> Result<(), AppError> {
        match self {
            Self::Memory { store, .. } => {
                store.save(true)?;
            }
            Self::Redis(store) => {
                if tokio::time::timeout(LAST_WORDS, store.close()).await.is_err() {
                    tracing::warn!("the connections to the store did not end in time and are dropped");
                }
            }
        }
        Ok(())
    }
}

/// Makes the Redis store, which connects by itself from now on.
fn connect(target: &Target, settings: &Settings, metrics: &Metrics) -> Result<Arc<RedisStore>, ConnectError> {
    let shards = Shards::connect(target, Timing::with_budget(settings.store_budget), metrics.shards())?;
    Ok(Arc::new(RedisStore::new(shards, settings.max_rooms)))
}

/// Readiness follows the *first* contact only. Were it to follow every outage, all replicas would leave the balancer
/// at once, and passes, polls and streams, which need no store, would end with them. One server of a cluster is
/// enough: the rooms on the others must not wait for those on a shard that is out.
async fn follow(
    mut health: watch::Receiver<Health>,
    reached: Condition,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) -> Result<(), std::convert::Infallible> {
    let closing = shutdown.closing();
    tokio::pin!(closing);
    let (mut ever, mut said) = (false, false);
    loop {
        let (any, all, problem) = {
            let health = health.borrow_and_update();
            // A server that answers is of no use before it is known which rooms it has.
            let any = health.any_served() && health.uncovered < SLOTS;
            (any, health.all_served(), problem(&health))
        };
        metrics.set_store_up(all);
        if any && !ever {
            ever = true;
            reached.met();
            info!("the store answers");
        } else if let Some(why) = problem.filter(|_| !ever) {
            reached.unmet(&why);
            if !said {
                said = true;
                tracing::warn!(why, "no store yet: not ready, and newcomers get no numbers until it answers");
            }
        }
        tokio::select! {
            () = &mut closing => return Ok(()),
            changed = health.changed() => if changed.is_err() {
                // The store is gone, and the process with it.
                closing.await;
                return Ok(());
            }
        }
    }
}

/// Why not every server of the store is there, as far as one reason tells.
fn problem(health: &Health) -> Option<String> {
    let of_a_server = || health.shards.iter().find_map(|shard| shard.problem.as_deref());
    of_a_server().or(health.problem.as_deref()).map(str::to_owned)
}

/// Writes the checkpoint until the end begins; the last one is written when all else has ended.
async fn checkpoint(
    store: Arc<MemoryStore>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) -> Result<(), CheckpointError> {
    let closing = shutdown.closing();
    tokio::pin!(closing);
    let mut failing = false;
    let mut rest = CHECKPOINT_GAP;
    loop {
        tokio::select! {
            () = &mut closing => return Ok(()),
            () = tokio::time::sleep(rest) => {}
        }
        let (store, begun) = (store.clone(), Instant::now());
        let saved = tokio::task::spawn_blocking(move || store.save(false)).await;
        rest = CHECKPOINT_GAP.max(begun.elapsed() * CHECKPOINT_REST);
        // A full disk must not stop the line, nor make us unready, as who waits, polls or is inside needs no disk: it is
        // said once, told by a metric as long as it lasts, and tried again.
        metrics.set_checkpoint_failing(!matches!(saved, Ok(Ok(_))));
        match saved {
            Ok(Ok(_)) if failing => {
                failing = false;
                info!("the checkpoint is written again");
            }
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::error!(%error, "the checkpoint cannot be written; a crash now would cost the last changes");
            }
            Err(lost) => tracing::error!(%lost, "writing the checkpoint panicked"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::shards::ShardHealth;
    use crate::store::target::Address;

    /// The health of servers: each is up, or out for this reason.
    fn health(servers: &[Option<&str>]) -> Health {
        let shard = |(port, problem): (u16, Option<&str>)| ShardHealth {
            server: Address::new("h", port),
            up: problem.is_none(),
            problem: problem.map(Arc::from),
        };
        Health {
            shards: (1..).zip(servers.iter().copied()).map(shard).collect(),
            uncovered: 0,
            problem: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_waits_for_the_first_contact_and_outlives_an_outage() {
        let mut tasks = Tasks::new();
        let readiness = Readiness::new(tasks.shutdown());
        let metrics = Arc::new(Metrics::new(1));
        let up = || metrics.encode().unwrap().contains("\nanteroom_store_up 1\n");
        let now = watch::Sender::new(health(&[]));
        let reached = readiness.condition("store", "it has not answered yet");
        tasks.spawn("store", follow(now.subscribe(), reached, metrics.clone(), tasks.shutdown()));
        let settle = || tokio::time::sleep(Duration::from_millis(1));
        settle().await;
        assert_eq!(readiness.missing(), [("store", "it has not answered yet".to_owned())]);
        assert!(!up(), "nothing is known yet");
        now.send_replace(health(&[Some("refused"), Some("refused")]));
        settle().await;
        assert_eq!((readiness.missing(), up()), (vec![("store", "refused".to_owned())], false));
        now.send_replace(health(&[Some("refused"), None]));
        readiness.until(true).await;
        assert!(!up(), "some rooms have no store");
        now.send_replace(health(&[None, None]));
        settle().await;
        assert!(readiness.is_ready() && up());
        now.send_replace(health(&[Some("gone"), Some("gone")]));
        settle().await;
        assert!(readiness.is_ready() && !up(), "passes, polls and streams go on");
        now.send_replace(health(&[None, None]));
        settle().await;
        assert!(readiness.is_ready() && up());
        drop(now);
        settle().await;
        let times = crate::drain::DrainTimes { lead: Duration::ZERO, grace: Duration::from_secs(1) };
        tasks.run_until_drained(times, futures_util::stream::iter(["SIGTERM"])).await.unwrap();
    }
}
