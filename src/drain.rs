//! Named tasks that live and end together: the first to fail, or a signal, drains all under a deadline.

mod tasks;

pub use self::tasks::{Cause, DrainError, DrainTimes, TaskFailure, Tasks};

use std::io;

use futures_util::stream::{self, Stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How far the end of the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nobody wants an end.
    Serving,
    /// Everything still works, but readiness is off: balancers shall send nobody new.
    NotReady,
    /// No new connections; what is under way is finished.
    Closing,
    /// Time is up: whatever is left is cut off.
    Over,
}

/// Tells tasks how far the end has come. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    phase: watch::Receiver<Phase>,
}

impl Shutdown {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until a phase is reached or passed; at once should [`Tasks`] be gone.
    pub fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        let mut receiver = self.phase.clone();
        async move {
            // An error means that the sender is gone, and with it whoever could still want this task.
            let _ = receiver.wait_for(|now| *now >= phase).await;
        }
    }

    /// Waits until no new work is to be taken in. What servers take as their signal.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        self.reached(Phase::Closing)
    }
}

/// The signals that end the process, by name: SIGTERM and SIGINT, as often as they come.
///
/// From here on they no longer end it by themselves. Fails if they cannot be received.
pub fn signals() -> io::Result<impl Stream<Item = &'static str> + Send + Unpin> {
    let received = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let next =
        async |(mut terminate, mut interrupt): (tokio::signal::unix::Signal, tokio::signal::unix::Signal)| {
            let name = tokio::select! {
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                else => return None,
            };
            Some((name, (terminate, interrupt)))
        };
    Ok(Box::pin(stream::unfold(received, next)))
}

#[cfg(test)]
mod tests;
