//! Passes: the signed proof of a session, checked without asking the store.

use super::name::RoomName;
use super::policy::Millis;
use super::standing::Place;
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
    }
}

/// Whether less than half of `session_ttl` remains, so that this request should prolong the session.
pub fn is_worn(pass: &Claims, session_ttl: Millis, now: Millis) -> bool {
    pass.ends_at().saturating_sub(now) < session_ttl / 2
}
