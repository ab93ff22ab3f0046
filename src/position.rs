//! Where do I stand? Polls, streams and gRPC for visitors; all of them follow `rooms::visit`.

pub mod cadence;
mod document;
pub mod entrance;
pub mod grpc;
pub mod http;
mod problem;
pub mod sse;
pub mod tracer;
pub mod watching;

use std::sync::Arc;

use crate::cookie::CookiePolicy;
use crate::drain::Shutdown;
use crate::guard::once::Deed;
use crate::room::checkin::Nonce;
use crate::rooms::visit::{Answer, Shown, VisitError};
use crate::rooms::{Room, Rooms};
use crate::store::ledger::Holder;
use crate::telemetry::metrics::label::counting::OnceScope;
use cadence::Cadence;
use entrance::Entrance;

/// What the visitors' interfaces work with.
#[derive(Clone)]
pub struct Desk {
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// How cookies are set.
    pub cookies: CookiePolicy,
    /// Who is turned away before the rooms are asked.
    pub entrance: Arc<Entrance>,
    /// What streams work with.
    pub streaming: Arc<Streaming>,
}

/// The header, or metadata, of the nonce of a check-in.
const NONCE_HEADER: &str = "x-anteroom-nonce";

impl Desk {
    /// Lets a called visitor in, and uses up the nonce where the room wants one: only then, so that whoever asks too
    /// early may ask again with the same.
    async fn let_in(&self, room: &Arc<Room>, shown: &Shown) -> Result<Answer, VisitError> {
        let answer = self.rooms.enter(room, shown).await?;
        if let Some((ttl, nonce)) = answer.uses_nonce_for.zip(shown.nonce.as_ref()) {
            let key = [room.name().as_str().as_bytes(), nonce.as_bytes()];
            // Whoever sends a nonce twice is refused, lost answer or not: that is what it is for.
            let (scope, holder) = (OnceScope::Nonce, Holder::unique());
            let deed = Deed { scope, key: &key, holder, ttl, deadline: None };
            match self.entrance.guard.once.first(deed).await {
                Ok(true) => {}
                Ok(false) => return Err(VisitError::UsedNonce),
                Err(error) => {
                    self.entrance.guard.once.take_back(deed);
                    return Err(error.into());
                }
            }
        }
        Ok(answer)
    }
}

/// The nonce among a header's values: there is one, and it is well-formed.
fn nonce<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<Nonce> {
    let first = values.next()?;
    values.next().is_none().then(|| Nonce::parse(first)).flatten()
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
