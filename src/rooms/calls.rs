//! Store calls: not made at all where the last ones have failed, and made once more where the store has lost the room.

use super::{Room, Rooms};
use crate::room::state::Call;
use crate::store::StoreError;
use crate::telemetry::metrics::label::{StoreFault, StoreOp};

/// What goes along with a store call.
pub(super) struct Said {
    call: Call,
    /// The same with limits that were stated here too long ago to go along with every call; `None`: there are none.
    with_old_limits: Option<Call>,
}

impl Room {
    /// What to say with a visitor's or an operator's call.
    pub(super) fn says(&self) -> Said {
        self.stirs();
        self.says_at_a_tick()
    }

    /// The same where nothing has happened here.
    pub(super) fn says_at_a_tick(&self) -> Said {
        let call = Call { policy: self.policy_to_state(), hints: self.hints() };
        let old = if call.policy.is_none() { self.stated_policy() } else { None };
        let with_old_limits = old.map(|policy| Call { policy: Some(policy), ..call.clone() });
        Said { call, with_old_limits }
    }
}

impl Rooms {
    /// Makes a call for a visitor; refused at once while the room's calls fail.
    pub(super) async fn asked<'w, T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        room: &Room,
        operation: StoreOp,
        said: &'w Said,
        ask: impl Fn(&'w Call) -> F,
    ) -> Result<T, StoreError> {
        self.worth_asking(room, operation)?;
        self.tried(room, operation, said, ask).await
    }

    /// Fails where a call would be refused at once.
    pub(super) fn worth_asking(&self, room: &Room, operation: StoreOp) -> Result<(), StoreError> {
        if !room.breaker.is_open() {
            return Ok(());
        }
        self.metrics.store_call_failed(operation, StoreFault::NotTried);
        Err(StoreError::Unavailable("not tried: the room's last calls have all failed".to_owned()))
    }

    /// Makes a call in any case. Where the store has lost the room, limits stated long ago are better than none: it is
    /// made once more with these, so that a room that is known here is never told to be unknown.
    pub(super) async fn tried<'w, T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        room: &Room,
        operation: StoreOp,
        said: &'w Said,
        ask: impl Fn(&'w Call) -> F,
    ) -> Result<T, StoreError> {
        let result = self.noted(room, operation, ask(&said.call)).await;
        match (&result, &said.with_old_limits) {
            (Err(StoreError::NoRoom(_)), Some(call)) => self.noted(room, operation, ask(call)).await,
            _ => result,
        }
    }

    /// Makes a call, and notes for the room how it went.
    async fn noted<T>(
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
