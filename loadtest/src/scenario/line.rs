//! Lines that are filled past the service, where it is the store alone that is asked, and what a store's ticks take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::room::name::RoomName;
use anteroom::room::policy::Policy;
use anteroom::room::snapshot::Snapshot;
use anteroom::room::state::{Beats, Call, Newcomer};
use anteroom::store::redis::RedisStore;
use anteroom::store::redis::shards::{Health, Shards, Timing};
use anteroom::store::target::Target;
use anteroom::store::{Store, StoreError};
use anteroom::telemetry::metrics::shards::ShardMetrics;
use arc_swap::ArcSwapOption;

use crate::{Failed, stop};

/// How many arrive at once.
const BATCH: usize = 50_000;
/// How long a call to Redis may take: it is a bench, and the line is long.
const BUDGET: Duration = Duration::from_secs(20);
/// How many rooms a store may open.
const ROOMS: usize = 100_000;

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

/// A room in which nobody is let in and nobody is forgotten, and the call that states so.
pub(super) fn closed_room(name: &str) -> Result<(RoomName, Call), Failed> {
    let policy = Policy::parse(limits(name)).map_err(|mistakes| Failed(format!("{mistakes:?}")))?;
    let room =
        RoomName::parse(name).ok_or_else(|| Failed(format!("`{name}` should be the name of a room")))?;
    Ok((room, Call { policy: Some(Arc::new(policy)), ..Call::default() }))
}

/// Its limits, as a route states them.
pub(super) fn limits(name: &str) -> [(&str, &str); 3] {
    [("room", name), ("capacity", "0"), ("patience", "31d")]
}

/// A store over Redis as a replica has it, with a connection of its own.
pub(super) async fn connect(url: &str) -> Result<RedisStore, Failed> {
    let target = Target::parse(url).map_err(Failed)?;
    let shards = Shards::connect(&target, Timing::with_budget(BUDGET), ShardMetrics::unregistered())
        .map_err(|error| Failed(error.to_string()))?;
    let mut health = shards.health();
    let served = tokio::time::timeout(BUDGET, health.wait_for(Health::all_served)).await;
    served.map(drop).map_err(|_| Failed(format!("{url} does not answer within {BUDGET:?}")))?;
    Ok(RedisStore::new(shards, ROOMS))
}

/// So many more take their places.
pub(super) async fn fill(
    store: &dyn Store,
    (room, call): &(RoomName, Call),
    count: u64,
) -> Result<(), Failed> {
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    while left > 0 {
        stop::check()?;
        let some = left.min(BATCH);
        store.arrive(room, call, &vec![Newcomer::default(); some]).await?;
        left -= some;
    }
    Ok(())
}

/// A replica's copy of a line, as `rooms` keeps it.
#[derive(Default)]
pub(super) struct Copy {
    held: ArcSwapOption<Snapshot>,
}

impl Copy {
    /// Renews it; how long it took until the new snapshot was built, and to put it in the place of the one before.
    pub(super) async fn renew(
        &self,
        store: &dyn Store,
        (room, call): &(RoomName, Call),
        beats: &Beats,
    ) -> Result<(Duration, Duration), Failed> {
        let begun = Instant::now();
        let snapshot = store.observe(room, call, beats, None).await?;
        let built = Instant::now();
        // The one before is let go here, which is the longer part of it.
        drop(self.held.swap(Some(Arc::new(snapshot))));
        Ok((built - begun, built.elapsed()))
    }

    /// Who waits in it.
    pub(super) fn waiting(&self) -> u64 {
        self.held.load().as_ref().map_or(0, |snapshot| snapshot.waiting)
    }

    /// The generation of its line.
    pub(super) fn generation(&self) -> u64 {
        self.held.load().as_ref().map_or(0, |snapshot| snapshot.generation())
    }
}
