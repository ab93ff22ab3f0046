//! What a Check comes to, and how it gets there.

use std::fmt;

use super::checkin::Checkin;
use super::gcra::{Micros, Quota};
use super::name::RoomName;
use super::pass;
use super::policy::{Identity, Millis, Mode, OnOutage, Policy};
use super::snapshot::Known;
use super::standing::{Place, Standing};
use super::token::Claims;

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
        /// Which room; `None`: a route without one.
        room: Option<RoomName>,
        /// Why.
        reason: Refusal,
        /// The place that it was given before: its visitor keeps it, and need not take another one.
        kept: Option<Admission>,
    },
    /// The question could not be understood or answered: an `error_response`.
    Error {
        /// What was wrong and what would be right; for the log and the body, free of secrets.
        message: String,
    },
}

impl Verdict {
    /// Not let in, without a place.
    pub fn refuse(room: Option<&RoomName>, reason: Refusal) -> Self {
        Self::Refuse { room: room.cloned(), reason, kept: None }
    }
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
    /// 403: the deny list names whoever asks.
    Denied,
    /// 401: the route is for signed-in users (`anonymous: refuse`) and the request names none.
    NoUser,
    /// 401: the request shows a token that proves nobody.
    BadToken,
    /// 503: who asks cannot be known now, as the issuer's keys cannot be fetched.
    UserUnknown,
    /// 401: the room wants a signed-in user (`identity: subject`) and the request names none.
    NoSubject,
    /// 429: a limit of the route is used up.
    Limited(Limited),
    /// 400: the route wants an idempotency key, and there is none, or none that could be one.
    NoKey,
    /// 409: a request with this idempotency key has passed already.
    Repeated,
    /// 503: the store is out and the policy says `closed`.
    Outage,
}

impl Refusal {
    /// The HTTP status for it.
    pub const fn status(&self) -> u16 {
        match self {
            Self::NoKey => 400,
            Self::NoUser | Self::BadToken | Self::NoSubject => 401,
            Self::Denied => 403,
            Self::Repeated => 409,
            Self::Limited(_) => 429,
            Self::UserUnknown | Self::Outage => 503,
        }
    }
}

/// What a client of the API is told; a Check says more, and in its room's name. Neither by which entry of a list nor why a
/// token proves nothing: whoever is meant should not learn what to change.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Limited(limited) => return limited.fmt(f),
            Self::Denied => "this client is not let in",
            Self::BadToken => "the user's token that this request shows proves nobody, or has expired",
            Self::UserUnknown => "the keys that prove who is asking cannot be fetched; try again",
            Self::NoUser | Self::NoSubject => "this room wants a signed-in user",
            Self::NoKey => "an idempotency key is needed",
            Self::Repeated => "a request with this idempotency key has been passed on already",
            Self::Outage => "nobody is let in until the line can be reached again",
        })
    }
}

/// A limit that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// The name of the limit: `ip`, `user`, `client`, `api` or `join`.
    pub scope: &'static str,
    /// What it counts, for its clients: `for each ip`, and the like.
    pub counts: &'static str,
    /// The limit.
    pub quota: Quota,
    /// How long until one more request is allowed.
    pub retry_after: Micros,
    /// How long until the whole burst is.
    pub reset: Micros,
}

impl Limited {
    /// When to come back, and the fields of `draft-ietf-httpapi-ratelimit-headers`: headers with their values.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let Self { scope, quota, retry_after, reset, .. } = self;
        let window = quota.period().div_ceil(1_000_000);
        [
            ("retry-after", seconds(*retry_after).to_string()),
            ("ratelimit-policy", format!("\"{scope}\";q={};w={window}", quota.count())),
            ("ratelimit", format!("\"{scope}\";r=0;t={}", seconds(*reset))),
        ]
    }
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counts, quota, retry_after, .. } = self;
        write!(f, "at most {quota} {counts}; ask again in {} s", seconds(*retry_after))
    }
}

/// Whole seconds, 1 at least: nobody is told to come back too early.
fn seconds(time: Micros) -> u64 {
    time.div_ceil(1_000_000).max(1)
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
    /// Where they stand; its `status` is `waiting` or, where a nonce is wanted to come in, `called`.
    pub standing: Standing,
    /// HTTP status of the answer.
    pub status: u16,
    /// A new or renewed ticket and its cookie's `Max-Age` in seconds.
    pub ticket: Option<(String, u64)>,
}

/// What is known when a Check is to be decided.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The limits that Envoy stated for this request.
    pub policy: &'a Policy,
    /// A verified user is named.
    pub has_subject: bool,
    /// The pass: its signature, room and time already checked, and neither given back nor from before a reset.
    pub pass: Option<PassShown<'a>>,
    /// The ticket, checked likewise.
    pub ticket: Option<&'a Claims>,
    /// What the room's snapshot says of the ticket's place; `None` without a ticket or a snapshot.
    pub known: Option<Known>,
    /// Now.
    pub now: Millis,
}

/// A pass, and what the room's snapshot says of it.
#[derive(Clone, Copy, Debug)]
pub struct PassShown<'a> {
    /// What it says.
    pub claims: &'a Claims,
    /// The session behind it may have been lost with the store's past, or end earlier than it tells.
    pub may_be_lost: bool,
}

/// The next step of a Check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not let in.
    Refuse(Refusal),
    /// The pass is good as it is. No store call.
    Admit,
    /// The pass is good; ask the store to prolong the session. If it calls the session over, decide again without.
    Renew,
    /// In line at this position. No store call.
    Wait(u64),
    /// Called, and to come in with a nonce, which no Check shows. No store call.
    Called,
    /// Show the ticket to the store: it was called, or only the store can tell.
    Enter,
    /// Ask the store for a number.
    Arrive,
}

/// Whether a request passes untouched, whatever it shows.
pub fn bypass(policy: &Policy, preflight: bool) -> Option<Bypass> {
    match policy.mode {
        Mode::Off => Some(Bypass::Off),
        Mode::Enforce => preflight.then_some(Bypass::Preflight),
    }
}

/// Decides what to do about a request, from what is known without asking the store.
pub fn decide(facts: &Facts<'_>) -> Step {
    if let Some(pass) = facts.pass {
        let worn = pass::is_worn(pass.claims, facts.policy.session_ttl, facts.now);
        return if worn || pass.may_be_lost { Step::Renew } else { Step::Admit };
    }
    if facts.policy.identity == Identity::Subject && !facts.has_subject {
        return Step::Refuse(Refusal::NoSubject);
    }
    match (facts.ticket, facts.known) {
        (None, _) => Step::Arrive,
        (Some(_), Some(Known::Waiting(position))) => Step::Wait(position),
        (Some(_), Some(Known::Called)) if facts.policy.checkin == Checkin::Nonce => Step::Called,
        // Gone too: the session may be there while the answer that carried the pass was lost on its way.
        (Some(_), _) => Step::Enter,
    }
}

/// What newcomers get while the store does not answer.
pub fn without_store(policy: &Policy) -> Verdict {
    match policy.on_outage {
        OnOutage::Open => Verdict::Bypass(Bypass::Outage),
        OnOutage::Closed => Verdict::refuse(Some(&policy.room), Refusal::Outage),
        OnOutage::Hold => Verdict::Hold {
            room: policy.room.clone(),
            status: policy.waiting_status,
            retry_after: HOLD_RETRY_S,
        },
    }
}

/// When to ask again during an outage, in seconds.
const HOLD_RETRY_S: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(exp: u64) -> Claims {
        Claims {
            aud: RoomName::parse("shop").unwrap(),
            generation: 1,
            number: 7,
            iat: 0,
            exp,
            position: None,
            bound: None,
        }
    }

    fn policy(more: &[(&str, &str)]) -> Policy {
        let base = [("room", "shop"), ("capacity", "2"), ("session_ttl", "100s")];
        Policy::parse(base.into_iter().chain(more.iter().copied())).unwrap()
    }

    fn facts(policy: &Policy) -> Facts<'_> {
        Facts { policy, has_subject: false, pass: None, ticket: None, known: None, now: 0 }
    }

    #[test]
    fn a_pass_needs_no_store_until_a_quarter_of_it_is_over() {
        let policy = policy(&[]);
        let pass = claims(100);
        let with = |may_be_lost, now| {
            let pass = Some(PassShown { claims: &pass, may_be_lost });
            decide(&Facts { pass, now, ..facts(&policy) })
        };
        assert_eq!(with(false, 25_000), Step::Admit);
        assert_eq!(with(false, 25_001), Step::Renew);
        assert_eq!(with(true, 0), Step::Renew);
    }

    /// This clock was set back since, and the slot behind it ends earlier than it tells.
    #[test]
    fn a_pass_of_a_time_to_come_is_shown_to_the_store() {
        let policy = policy(&[]);
        let pass = Claims { iat: 600, ..claims(700) };
        let at = |now| {
            let pass = Some(PassShown { claims: &pass, may_be_lost: false });
            decide(&Facts { pass, now, ..facts(&policy) })
        };
        assert_eq!([0, 598_999].map(at), [Step::Renew; 2]);
        assert_eq!(at(599_000), Step::Admit, "as near as clocks of two replicas are");
    }

    #[test]
    fn a_ticket_waits_by_the_snapshot_and_asks_the_store_for_the_rest() {
        let policy = policy(&[]);
        let ticket = claims(100);
        let with = |known| Facts { ticket: Some(&ticket), known, ..facts(&policy) };
        assert_eq!(decide(&with(Some(Known::Waiting(3)))), Step::Wait(3));
        for known in [None, Some(Known::Called), Some(Known::Gone), Some(Known::Unknown)] {
            assert_eq!(decide(&with(known)), Step::Enter);
        }
        assert_eq!(decide(&facts(&policy)), Step::Arrive);
    }

    #[test]
    fn where_a_nonce_is_wanted_a_check_takes_up_no_call() {
        let policy = policy(&[("checkin", "nonce")]);
        let ticket = claims(100);
        let with = |known| decide(&Facts { ticket: Some(&ticket), known, ..facts(&policy) });
        assert_eq!(with(Some(Known::Called)), Step::Called);
        assert_eq!(with(Some(Known::Waiting(3))), Step::Wait(3));
        for known in [None, Some(Known::Gone), Some(Known::Unknown)] {
            assert_eq!(with(known), Step::Enter, "only the store can tell");
        }
        assert_eq!(decide(&facts(&policy)), Step::Arrive);
    }

    #[test]
    fn rooms_that_are_off_and_preflights_pass_free() {
        let off = policy(&[("mode", "off")]);
        assert_eq!(bypass(&off, true), Some(Bypass::Off));
        let on = policy(&[]);
        assert_eq!((bypass(&on, true), bypass(&on, false)), (Some(Bypass::Preflight), None));
    }

    #[test]
    fn a_room_of_users_refuses_strangers() {
        let users = policy(&[("identity", "subject")]);
        assert_eq!(decide(&facts(&users)), Step::Refuse(Refusal::NoSubject));
        assert_eq!(decide(&Facts { has_subject: true, ..facts(&users) }), Step::Arrive);
    }

    #[test]
    fn the_policy_says_what_an_outage_means() {
        assert!(matches!(without_store(&policy(&[])), Verdict::Hold { status: 429, .. }));
        assert_eq!(without_store(&policy(&[("on_outage", "open")])), Verdict::Bypass(Bypass::Outage));
        assert!(matches!(
            without_store(&policy(&[("on_outage", "closed")])),
            Verdict::Refuse { reason: Refusal::Outage, .. }
        ));
    }
}
