//! Tickets: the signed proof of a number, and the backup of the line.

use super::name::RoomName;
use super::policy::Millis;
use super::standing::Place;
use super::token::Claims;

/// The claims of a ticket issued now to whoever is at `position`; it lives for `ttl`, far longer than any `patience`.
pub fn claims(room: &RoomName, place: Place, position: u64, now: Millis, ttl: Millis) -> Claims {
    Claims {
        aud: room.clone(),
        generation: place.generation,
        number: place.number,
        iat: now / 1_000,
        exp: (now + ttl) / 1_000,
        position: Some(position),
        bound: None,
    }
}

/// Whether a ticket is past half its life and should be issued anew.
pub fn is_worn(ticket: &Claims, now: Millis) -> bool {
    now >= ticket.issued_at() + ticket.ends_at().saturating_sub(ticket.issued_at()) / 2
}
