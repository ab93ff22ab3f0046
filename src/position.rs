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
use crate::rooms::Rooms;
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
    /// What streams work with.
    pub streaming: Arc<Streaming>,
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
