//! Where do I stand? Polls, streams and gRPC for visitors; all of them follow `rooms::visit`.

pub mod cadence;
mod document;
pub mod grpc;
pub mod http;
mod problem;
pub mod sse;
pub mod tracer;
pub mod watching;

use std::sync::Arc;

use crate::cookie::CookiePolicy;
use crate::drain::Shutdown;
use crate::guard::deny::Denials;
use crate::room::deny::Asker;
use crate::rooms::Rooms;
use crate::rooms::visit::{Shown, VisitError};
use cadence::Cadence;

/// What the visitors' interfaces work with.
#[derive(Clone)]
pub struct Desk {
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// How cookies are set.
    pub cookies: CookiePolicy,
    /// How many trusted proxies stand before the one that asks.
    pub trusted_hops: usize,
    /// Who is refused before anything else, whatever the room.
    pub denials: Arc<Denials>,
    /// What streams work with.
    pub streaming: Arc<Streaming>,
}

impl Desk {
    /// Refuses whom the deny list names. Here nobody is a verified user.
    fn look_at(&self, shown: &Shown) -> Result<(), VisitError> {
        let asker = Asker { address: shown.address, user_agent: shown.user_agent.as_deref(), subject: None };
        if !self.denials.is_empty() && self.denials.refuses(&asker, self.rooms.now()) {
            return Err(VisitError::Denied);
        }
        Ok(())
    }
}

/// What all streams share.
pub struct Streaming {
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// How they are paced.
    pub cadence: Cadence,
    /// Ends them.
    pub shutdown: Shutdown,
}

impl Streaming {
    /// Wakes all streams when the process begins to end, so that they send their clients elsewhere. Runs beside
    /// the servers.
    pub async fn end(self: Arc<Self>) {
        self.shutdown.closing().await;
        self.rooms.wake_all_streams();
    }
}
