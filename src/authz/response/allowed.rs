//! A request that is let through: what its backend and its client get, written straight into the answer's bytes.
//!
//! Nearly every answer is one of these. Made of messages it was some forty `String`s.

use std::sync::Arc;

use super::{
    EXPIRES_HEADER, NUMBER_HEADER, PASS_HEADER, ROOM_HEADER, TICKET_HEADER, has_no_cookies, metadata,
};
use crate::authz::request::Question;
use crate::cookie::{CookiePolicy, TokenCookie, cookie_values};
use crate::identity::settings::UserHeaders;
use crate::identity::user::User;
use crate::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::pb::wire::{put_choice, put_message, put_text};
use crate::room::decision::{Admission, Bypass};
use crate::room::name::RoomName;
use crate::room::policy::Millis;
use crate::room::standing::Place;

/// What is set for the backend of a visitor who was let in.
const SET: [&str; 4] = [ROOM_HEADER, NUMBER_HEADER, EXPIRES_HEADER, PASS_HEADER];
/// Headers a backend may trust. A client's own are removed even where Envoy does not show them to us
/// (`allowed_headers`).
const OURS: [&str; 5] = [ROOM_HEADER, NUMBER_HEADER, EXPIRES_HEADER, PASS_HEADER, TICKET_HEADER];

/// A session, as the backend hears of it.
#[derive(Clone, Copy, Debug)]
pub struct Inside<'a> {
    /// The room.
    pub room: &'a RoomName,
    /// Whose place it was.
    pub place: Place,
    /// The pass, a compact JWS.
    pub pass: &'a str,
    /// When the pass ends, milliseconds since the epoch.
    pub expires_at: Millis,
}

/// Why a request is let through.
#[derive(Clone, Copy, Debug)]
enum Why<'a> {
    Inside(Inside<'a>),
    Bypass(Bypass),
}

/// What the backend hears of who asks.
#[derive(Debug)]
struct Users<'a> {
    headers: &'a UserHeaders,
    /// `None`: nobody who is known, and whatever the client says of it is removed.
    user: Option<Arc<User>>,
}

impl Users<'_> {
    /// Both headers with what they are set to.
    fn values(&self) -> [(&str, Option<&str>); 2] {
        let name = self.user.as_ref().map(|user| user.name());
        let kind = self.user.as_ref().and_then(|user| user.kind());
        [(&self.headers.id, name), (&self.headers.kind, kind)]
    }
}

/// A header for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

/// A request let through.
#[derive(Debug)]
pub struct Allowed<'a> {
    why: Why<'a>,
    users: Option<Users<'a>>,
    /// Headers that begin like ours but are none of them: the client's own invention.
    forged: Vec<String>,
    /// Headers for the client.
    told: Vec<Told>,
}

impl<'a> Allowed<'a> {
    /// Somebody inside, whose client has the pass already.
    pub fn inside(inside: Inside<'a>, question: &Question<'a>) -> Self {
        Self::new(Why::Inside(inside), question)
    }

    fn new(why: Why<'a>, question: &Question<'a>) -> Self {
        let users = question.user_headers().map(|headers| Users { headers, user: question.user().cloned() });
        Self { why, users, forged: forged(question), told: Vec::new() }
    }

    /// Somebody let in; a client without the pass gets it.
    pub(super) fn admitted(
        admission: &'a Admission,
        question: &Question<'a>,
        cookies: &CookiePolicy,
    ) -> Self {
        let Admission { room, place, pass, expires_at, .. } = admission;
        let inside = Inside { room, place: *place, pass, expires_at: *expires_at };
        Self { told: tokens(admission, question, cookies), ..Self::inside(inside, question) }
    }

    /// A request that needs no room.
    pub(super) fn bypass(why: Bypass, question: &Question<'a>) -> Self {
        Self::new(Why::Bypass(why), question)
    }

    /// Headers for the client, cookies among them.
    pub fn told(&self) -> &[Told] {
        &self.told
    }

    /// Headers for the backend, each in place of what the client may have sent.
    pub fn each_set(&self, mut set: impl FnMut(&str, &str)) {
        if let Why::Inside(Inside { room, place, pass, expires_at }) = self.why {
            let (mut number, mut expires) = (itoa::Buffer::new(), itoa::Buffer::new());
            let values =
                [room.as_str(), number.format(place.number), expires.format(expires_at / 1_000), pass];
            for (name, value) in SET.into_iter().zip(values) {
                set(name, value);
            }
        }
        for (name, value) in self.users.iter().flat_map(Users::values) {
            if let Some(value) = value {
                set(name, value);
            }
        }
    }

    /// Request headers the backend must not get from a client. Envoy removes after it has set: none of them is set.
    fn removed(&self) -> impl Iterator<Item = &str> {
        let kept = match self.why {
            Why::Inside(_) => &SET[..],
            Why::Bypass(_) => &[],
        };
        let ours = OURS.into_iter().filter(move |name| !kept.contains(name));
        let users = self.users.iter().flat_map(Users::values);
        let users = users.filter(|(_, value)| value.is_none()).map(|(name, _)| name);
        ours.chain(users).chain(self.forged.iter().map(String::as_str))
    }

    /// Writes the `CheckResponse` as it goes to Envoy.
    pub fn encode(&self, response: &mut Vec<u8>) {
        // Status code 0, which lets the request through, is an empty message.
        put_message(response, 1, |_| {});
        put_message(response, 3, |ok| {
            self.each_set(|name, value| {
                put_header(ok, 2, name, value, HeaderAppendAction::OverwriteIfExistsOrAdd);
            });
            for name in self.removed() {
                put_text(ok, 5, name);
            }
            for Told { name, value } in &self.told {
                // A cookie stands beside those that the backend sets, and beside our other one.
                let action = if *name == "set-cookie" {
                    HeaderAppendAction::AppendIfExistsOrAdd
                } else {
                    HeaderAppendAction::OverwriteIfExistsOrAdd
                };
                put_header(ok, 6, name, value, action);
            }
        });
        put_message(response, 4, |noted| match self.why {
            Why::Inside(inside) => metadata::put(noted, &metadata::admitted(inside.room, inside.place)),
            Why::Bypass(why) => metadata::put(noted, &metadata::bypassed(why)),
        });
    }
}

/// What the client of somebody let in is given, if it does not have the pass yet.
pub(super) fn tokens(admission: &Admission, question: &Question<'_>, cookies: &CookiePolicy) -> Vec<Told> {
    let Admission { room, pass, max_age, fresh, .. } = admission;
    if !*fresh {
        return Vec::new();
    }
    let set = |value| Told { name: "set-cookie", value };
    let mut told = vec![set(TokenCookie::Pass.set(room, pass, *max_age, cookies))];
    // The ticket has done its work: nobody should line up with it once the pass is over.
    if cookie_values(question.cookies(), &TokenCookie::Ticket.name(room)).next().is_some() {
        told.push(set(TokenCookie::Ticket.clear(room, cookies)));
    }
    if has_no_cookies(question, room) {
        told.push(Told { name: PASS_HEADER, value: pass.clone() });
    }
    told
}

/// A `HeaderValueOption`.
fn put_header(message: &mut Vec<u8>, tag: u32, name: &str, value: &str, action: HeaderAppendAction) {
    put_message(message, tag, |option| {
        put_message(option, 1, |header| {
            put_text(header, 1, name);
            put_text(header, 2, value);
        });
        put_choice(option, 3, action as u8);
    });
}

/// The names, in lower case, of the request's headers that begin like ours and are none, or read like those that tell of
/// users and are written differently.
fn forged(question: &Question<'_>) -> Vec<String> {
    let ours = question.anteroom_headers();
    let ours = ours.filter(|name| !OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)));
    // Those written like ours are set or removed by that name.
    let users = question.headers_about_users().filter(|name| name.contains('_'));
    let mut names: Vec<String> = ours.chain(users).map(str::to_ascii_lowercase).collect();
    names.sort_unstable();
    names.dedup();
    names
}
