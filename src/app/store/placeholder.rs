//! PLACEHOLDER for `store::redis::RedisStore`, to be deleted when that is merged: it is never reached.
//!
//! What `app::store` asks of the store that takes its place: `connect`, `health`, `close`, and `Health`.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::room::name::RoomName;
use crate::room::policy::Millis;
use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;
use crate::room::state::{Beats, Call, Control, Newcomer, Outcome};
use crate::store::target::Target;
use crate::store::{Store, StoreError};

/// Whether the store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Not tried to the end yet.
    #[expect(dead_code, reason = "the placeholder knows at once")]
    Connecting,
    /// It answers.
    Up,
    /// It does not, and why, free of secrets.
    Down(String),
}

/// Not a store yet.
pub(in crate::app) struct RedisStore {
    health: watch::Sender<Health>,
}

const MISSING: &str = "the Redis store is not part of this build";

impl RedisStore {
    /// Begins to connect in the background. Fails only where trying is no use.
    // The store that takes its place can fail here.
    #[expect(clippy::unnecessary_wraps)]
    pub(super) fn connect(_target: &Target, _max_rooms: usize) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self { health: watch::Sender::new(Health::Down(MISSING.to_owned())) }))
    }

    /// Follows whether the store answers.
    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Ends its tasks and connections.
    // The store that takes its place waits here.
    #[expect(clippy::unused_async)]
    pub(super) async fn close(&self) {}
}

fn missing<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable(MISSING.to_owned()))
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
