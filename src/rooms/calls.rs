//! Store calls: not made at all where the last ones have failed.

use super::{Room, Rooms};
use crate::store::StoreError;
use crate::telemetry::metrics::label::{StoreFault, StoreOp};

impl Rooms {
    /// Makes a call for a visitor; refused at once while the room's calls fail.
    pub(super) async fn asked<T>(
        &self,
        room: &Room,
        operation: StoreOp,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.worth_asking(room, operation)?;
        self.tried(room, operation, call).await
    }

    /// Fails where a call would be refused at once.
    pub(super) fn worth_asking(&self, room: &Room, operation: StoreOp) -> Result<(), StoreError> {
        if !room.breaker.is_open() {
            return Ok(());
        }
        self.metrics.store_call_failed(operation, StoreFault::NotTried);
        Err(StoreError::Unavailable("not tried: the room's last calls have all failed".to_owned()))
    }

    /// Makes a call in any case, and notes for the room how it went.
    pub(super) async fn tried<T>(
        &self,
        room: &Room,
        operation: StoreOp,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = self.now();
        let result = self.timed.call(operation, call).await;
        let is_out = matches!(result, Err(StoreError::Unavailable(_)));
        let turned = if is_out { room.breaker.failed(begun, self.now()) } else { room.breaker.answered() };
        if turned {
            // As it is now: another call may have turned it back.
            room.metrics.set_cut_off(room.breaker.is_open());
        }
        result
    }
}
