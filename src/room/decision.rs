//! What a Check comes to.

use super::name::RoomName;
use super::policy::Millis;
use super::standing::{Place, Standing};

/// What a Check comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Let through untouched.
    Bypass(Bypass),
    /// Let in, with a pass.
    Admit(Admission),
    /// In line.
    Wait(Wait),
    /// The store is out and the policy says `hold`: wait without a number, ask again.
    Hold {
        /// Which room.
        room: RoomName,
        /// HTTP status of the answer.
        status: u16,
        /// When to ask again, in seconds.
        retry_after: u32,
    },
    /// Not let in, and not in line either.
    Refuse {
        /// Which room.
        room: RoomName,
        /// Why.
        reason: Refusal,
    },
    /// The question could not be understood or answered: an `error_response`.
    Error {
        /// What was wrong and what would be right; for the log and the body, free of secrets.
        message: String,
    },
}

/// Why a request passes untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// No room is meant by this request.
    NoRoom,
    /// The room's `mode` is `off`.
    Off,
    /// A CORS preflight: browsers send it without cookies, so it can hold no place.
    Preflight,
    /// The store is out and the policy says `open`.
    Outage,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 401: the room wants a signed-in user (`identity: subject`) and the request names none.
    NoSubject,
    /// 503: the store is out and the policy says `closed`.
    Outage,
}

/// A visitor let in.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// Which room.
    pub room: RoomName,
    /// Whose place it was.
    pub place: Place,
    /// The pass, a compact JWS, for the backend and the cookie.
    pub pass: String,
    /// When the pass ends, milliseconds since the epoch.
    pub expires_at: Millis,
    /// Seconds until then: the cookie's `Max-Age`.
    pub max_age: u64,
    /// The pass is new or renewed: set the cookie (and drop the ticket's).
    pub fresh: bool,
}

/// A visitor in line.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    /// Where they stand; its `status` is `waiting` or, for a moment, `called`.
    pub standing: Standing,
    /// HTTP status of the answer.
    pub status: u16,
    /// A new or renewed ticket and its cookie's `Max-Age` in seconds.
    pub ticket: Option<(String, u64)>,
}
