//! Where rooms are kept: one trait, one method per operation of `room::state`.

pub mod breaker;
pub mod checkpoint;
pub mod expiring;
pub mod ledger;
pub mod memory;
pub mod outage;
pub mod redis;
pub mod target;
pub mod timed;

use async_trait::async_trait;

use crate::room::name::RoomName;
use crate::room::policy::Millis;
use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;
use crate::room::state::{Beats, Call, Control, Newcomer, Outcome};
use crate::telemetry::metrics::label::StoreFault;

/// A store of rooms. Each method is the operation of the same name of [`crate::room::state::State`].
///
/// A call with a policy makes the room where it does not exist; one without fails with [`StoreError::NoRoom`].
/// No call waits longer than the store's budget.
#[async_trait]
pub trait Store: Send + Sync {
    /// Gives each newcomer a number, or lets them in at once.
    async fn arrive(
        &self,
        room: &RoomName,
        call: &Call,
        newcomers: &[Newcomer],
    ) -> Result<Vec<Outcome>, StoreError>;

    /// The tick: takes in who was heard of, and returns the snapshot.
    async fn observe(
        &self,
        room: &RoomName,
        call: &Call,
        beats: &Beats,
        known: Option<&Snapshot>,
    ) -> Result<Snapshot, StoreError>;

    /// Turns called numbers into sessions.
    async fn enter(&self, room: &RoomName, call: &Call, places: &[Place])
    -> Result<Vec<Outcome>, StoreError>;

    /// Prolongs sessions.
    async fn touch(
        &self,
        room: &RoomName,
        call: &Call,
        passes: &[(Place, Millis)],
    ) -> Result<Vec<Option<Millis>>, StoreError>;

    /// Gives up places and sessions.
    async fn leave(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[(Place, Option<Millis>)],
    ) -> Result<Vec<bool>, StoreError>;

    /// Notes places whose pages are going away, each with its grace in milliseconds.
    async fn away(
        &self,
        room: &RoomName,
        call: &Call,
        places: &[(Place, Millis)],
    ) -> Result<Vec<bool>, StoreError>;

    /// Does what an operator asks.
    async fn control(&self, room: &RoomName, call: &Call, control: Control) -> Result<(), StoreError>;
}

/// Why a store did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Nobody has stated limits for this room yet.
    #[error("no room {0} is known here")]
    NoRoom(RoomName),
    /// There are as many rooms as allowed.
    #[error(
        "room {room} cannot be opened: there are {max} rooms already; raise --max-rooms or check the room names"
    )]
    TooManyRooms {
        /// The room that was meant.
        room: RoomName,
        /// The limit.
        max: usize,
    },
    /// No answer in time, or none at all.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
}

impl From<&StoreError> for StoreFault {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NoRoom(_) => Self::NoRoom,
            StoreError::TooManyRooms { .. } => Self::TooManyRooms,
            StoreError::Unavailable(_) => Self::Unavailable,
        }
    }
}
