//! Passes: the signed proof of a session, checked without asking the store.

use super::name::RoomName;
use super::policy::Millis;
use super::standing::Place;
use super::state::SMALL_STEP_MS;
use super::token::Claims;

/// The claims of a pass for a session that ends at `until`.
///
/// Seconds are rounded down: a pass never outlives its slot.
pub fn claims(room: &RoomName, place: Place, now: Millis, until: Millis) -> Claims {
    Claims {
        aud: room.clone(),
        generation: place.generation,
        number: place.number,
        iat: now / 1_000,
        exp: until / 1_000,
        position: None,
        bound: None,
    }
}

/// Whether a quarter of `session_ttl` is over, so that this request should prolong the session.
///
/// A session thus lives for three quarters of `session_ttl` to all of it after the last request, at the cost of at
/// most four store calls per `session_ttl` for each active visitor.
///
/// So is a pass of a time to come: this clock was set back since, and the room's with it, whose slot ends earlier now.
pub fn is_worn(pass: &Claims, session_ttl: Millis, now: Millis) -> bool {
    pass.issued_at() > now + SMALL_STEP_MS || is_due(pass.ends_at(), session_ttl, now)
}

/// The same for a session that ends at `until`, whether a pass was given for it or not.
pub fn is_due(until: Millis, session_ttl: Millis, now: Millis) -> bool {
    until.saturating_sub(now) < session_ttl - session_ttl / 4
}
