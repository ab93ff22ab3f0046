//! PLACEHOLDER for `store::redis::RedisStore`: it connects, but answers no call. To be deleted at the merge, where
//! `app::store` names `crate::store::redis::RedisStore` instead: `connect`, `health` and `close` are all it asks for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::room::name::RoomName;
use crate::room::policy::Millis;
use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;
use crate::room::state::{Beats, Call, Control, Newcomer, Outcome};
use crate::store::redis::shards::{ConnectError, Health, Shards, Timing};
use crate::store::target::Target;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::shards::ShardMetrics;

/// Not a store yet.
pub(in crate::app) struct RedisStore {
    shards: Arc<Shards>,
}

impl RedisStore {
    /// Begins to connect in the background. Fails only where trying is no use.
    pub(super) fn connect(
        target: &Target,
        budget: Duration,
        metrics: ShardMetrics,
    ) -> Result<Arc<Self>, ConnectError> {
        Ok(Arc::new(Self { shards: Shards::connect(target, Timing::with_budget(budget), metrics)? }))
    }

    /// Follows how the servers are.
    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.shards.health()
    }

    /// Ends its tasks and connections.
    pub(super) async fn close(&self) {
        self.shards.close().await;
    }
}

fn missing<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("the Redis store is not part of this build".to_owned()))
}

#[async_trait]
impl Store for RedisStore {
    async fn arrive(&self, _: &RoomName, _: &Call, _: &[Newcomer]) -> Result<Vec<Outcome>, StoreError> {
        missing()
    }

    async fn observe(
        &self,
        _: &RoomName,
        _: &Call,
        _: &Beats,
        _: Option<&Snapshot>,
    ) -> Result<Snapshot, StoreError> {
        missing()
    }

    async fn enter(&self, _: &RoomName, _: &Call, _: &[Place]) -> Result<Vec<Outcome>, StoreError> {
        missing()
    }

    async fn touch(
        &self,
        _: &RoomName,
        _: &Call,
        _: &[(Place, Millis)],
    ) -> Result<Vec<Option<Millis>>, StoreError> {
        missing()
    }

    async fn leave(
        &self,
        _: &RoomName,
        _: &Call,
        _: &[(Place, Option<Millis>)],
    ) -> Result<Vec<bool>, StoreError> {
        missing()
    }

    async fn control(&self, _: &RoomName, _: &Call, _: Control) -> Result<(), StoreError> {
        missing()
    }
}
