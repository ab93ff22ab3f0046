//! Where do I stand? Polls, streams and gRPC for visitors; all of them follow `rooms::visit`.

pub mod grpc;
pub mod http;
pub mod sse;
pub mod tracer;
pub mod watching;

use std::sync::Arc;
use std::time::Duration;

use crate::cookie::CookiePolicy;
use crate::drain::Shutdown;
use crate::rooms::Rooms;

/// What the visitors' interfaces work with.
#[derive(Clone)]
pub struct Desk {
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// How cookies are set.
    pub cookies: CookiePolicy,
    /// How streams are paced.
    pub cadence: Cadence,
    /// Ends the streams.
    pub shutdown: Shutdown,
}

/// How streams are paced.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    /// The longest time between two positions told to somebody far back.
    pub interval: Duration,
    /// The longest silence of a stream.
    pub heartbeat: Duration,
}
