//! Readiness: named conditions that must all be met, and no drain.

use std::sync::Arc;

use tokio::sync::watch;

use crate::drain::{Phase, Shutdown};

/// Whether this process should be sent visitors. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness {
    conditions: Arc<watch::Sender<Vec<State>>>,
    shutdown: Shutdown,
}

#[derive(Debug)]
struct State {
    name: &'static str,
    // Why it is not met; `None`: it is met.
    unmet: Option<String>,
}

impl Readiness {
    /// Ready, as long as no condition says otherwise and the drain has not begun.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { conditions: Arc::new(watch::Sender::new(Vec::new())), shutdown }
    }

    /// Adds a condition, not met yet for this reason. Meant for start-up: conditions are never removed.
    pub fn condition(&self, name: &'static str, unmet: &str) -> Condition {
        let mut index = 0;
        self.conditions.send_modify(|conditions| {
            index = conditions.len();
            conditions.push(State { name, unmet: Some(unmet.to_owned()) });
        });
        Condition { conditions: Arc::clone(&self.conditions), index }
    }

    /// The conditions that are not met, and why; none when ready.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let conditions = self.conditions.borrow();
        let unmet = conditions.iter().filter_map(|state| Some((state.name, state.unmet.clone()?)));
        let draining = self.shutdown.phase() > Phase::Serving;
        unmet.chain(draining.then(|| ("drain", "the process is ending".to_owned()))).collect()
    }

    /// Whether every condition is met and the drain has not begun.
    pub fn is_ready(&self) -> bool {
        self.shutdown.phase() == Phase::Serving
            && self.conditions.borrow().iter().all(|state| state.unmet.is_none())
    }

    /// Waits until it is ready, or until it is not.
    ///
    /// Once the drain has begun it is never ready again: a task that waits for `true` must also watch
    /// [`Shutdown::closing`], or it will be cut off.
    pub async fn until(&self, ready: bool) {
        let mut changes = self.conditions.subscribe();
        let mut draining = Box::pin(self.shutdown.reached(Phase::NotReady));
        let mut drained = false;
        while self.is_ready() != ready {
            tokio::select! {
                // Its sender lives as long as `self`.
                _ = changes.changed() => {}
                () = &mut draining, if !drained => drained = true,
            }
        }
    }
}

/// The handle of one condition, for whoever knows whether it is met.
#[derive(Debug)]
pub struct Condition {
    conditions: Arc<watch::Sender<Vec<State>>>,
    index: usize,
}

impl Condition {
    /// It is met.
    pub fn met(&self) {
        self.set(None);
    }

    /// It is not met, for this reason.
    pub fn unmet(&self, reason: &str) {
        self.set(Some(reason));
    }

    fn set(&self, unmet: Option<&str>) {
        self.conditions.send_if_modified(|conditions| {
            // Handles are made together with their entry, and entries stay.
            let Some(state) = conditions.get_mut(self.index) else { return false };
            let changed = state.unmet.as_deref() != unmet;
            if changed {
                state.unmet = unmet.map(str::to_owned);
            }
            changed
        });
    }
}
