//! The gates before the client API: those of a Check, in the same order (`guard::order`), before each call on a room.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::header::{COOKIE, HeaderMap, HeaderValue, USER_AGENT};

use crate::client_address::Proxies;
use crate::guard::Guard;
use crate::guard::deny::Denials;
use crate::guard::order::{Caller, Limits, Order};
use crate::identity::user::User;
use crate::identity::{self, Answer, Identity, token};
use crate::room::decision::Refusal;
use crate::room::deny::Asker;
use crate::room::gcra::Quota;
use crate::room::state::Subject;
use crate::rooms::Rooms;
use crate::rooms::visit::{Shown, VisitError};

/// Turns away who is not to reach the rooms.
pub struct Entrance {
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// Who is refused before anything else, whatever the room.
    pub denials: Arc<Denials>,
    /// What counts calls, and what may be done once.
    pub guard: Arc<Guard>,
    /// Who knows users by their tokens; `None`: nobody does.
    pub identity: Option<Arc<Identity>>,
    /// The calls that each address may make, whatever the room; `None`: as many as it likes.
    pub api_limit: Option<Quota>,
    /// Whose word on clients' addresses counts.
    pub proxies: Arc<Proxies>,
    /// How long a call may wait for the keys of a user's issuer.
    pub budget: Duration,
}

/// What becomes of a call with a user's token that proves nobody, or cannot be judged now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadToken {
    /// It is refused: whoever takes themselves for signed in must not go on as nobody without a word.
    Refused,
    /// It is refused for one in the header. One in a cookie counts as none: a page that waits sends it unasked and cannot
    /// renew it, and must not lose its place because it ran out meanwhile.
    RefusedInHeader,
    /// Tokens are not read: users are taken at their word.
    Unread,
}

impl Entrance {
    /// Who has sent a request with these headers, the tokens of a room not read yet; or why it goes no further. Counted.
    pub(super) async fn visitor(
        &self,
        headers: &HeaderMap,
        bad_token: BadToken,
    ) -> Result<Shown, VisitError> {
        let now = self.rooms.now();
        let identity = self.identity.as_deref().filter(|_| bad_token != BadToken::Unread);
        let by_cookie = |identity: &Identity| {
            let header = values(headers, identity.token_header());
            identity.shown(header, std::iter::empty()) == identity::Shown::Nothing
        };
        let calling = Calling {
            address: self.proxies.client(values(headers, "x-forwarded-for"), None),
            user_agent: headers.get(USER_AGENT).map(HeaderValue::as_bytes),
            token: identity.map(|identity| (identity, shown(identity, headers))),
            may_be_bad: bad_token == BadToken::RefusedInHeader && identity.is_some_and(by_cookie),
            user: OnceLock::new(),
            budget: self.budget,
        };
        // A user who is known at once is known to every gate.
        if let Some((identity, identity::Shown::Token(token))) = calling.token
            && let Some(user) = identity.remembered(token, now)
        {
            calling.is_from(user);
        }
        let order = Order {
            guard: &self.guard,
            denials: Some(&self.denials),
            room: "",
            limits: Limits { api: self.api_limit, ..Limits::default() },
            now,
        };
        match order.turns_away(&calling).await {
            Some(reason) => Err(VisitError::Refused(reason)),
            None => Ok(calling.shown()),
        }
    }
}

/// A call before the gates.
struct Calling<'a> {
    address: Option<IpAddr>,
    user_agent: Option<&'a [u8]>,
    /// The user's token, and who can tell what it is worth.
    token: Option<(&'a Identity, identity::Shown<'a>)>,
    /// Whether it counts as none where it proves nobody.
    may_be_bad: bool,
    user: OnceLock<Arc<User>>,
    budget: Duration,
}

impl Calling<'_> {
    fn is_from(&self, user: Arc<User>) {
        // A second word could only be the same.
        let _ = self.user.set(user);
    }

    fn shown(&self) -> Shown {
        let subject = self.user.get().map(|user| Subject::of(&[user.issuer(), user.name()]));
        Shown {
            subject,
            // Whoever shows no token may be a user all the same: one whom only Envoy knows, or whose page cannot send it.
            knows_users: subject.is_some(),
            address: self.address,
            user_agent: self.user_agent.map(<[u8]>::to_vec),
            ..Shown::default()
        }
    }
}

impl Caller for Calling<'_> {
    fn asker(&self) -> Asker<'_> {
        Asker {
            address: self.address,
            user_agent: self.user_agent,
            subject: self.user.get().map(|user| (user.issuer(), user.name())),
        }
    }

    async fn identify(&self) -> Result<(), Refusal> {
        let Some((identity, shown)) = self.token.filter(|_| self.user.get().is_none()) else { return Ok(()) };
        let answer = match shown {
            identity::Shown::Nothing => return Ok(()),
            identity::Shown::Unclear => Answer::Refused(token::Refusal::Malformed),
            identity::Shown::Token(token) => identity.who(token, self.budget).await,
        };
        match answer {
            Answer::User(user) => {
                self.is_from(user);
                Ok(())
            }
            _ if self.may_be_bad => Ok(()),
            Answer::Refused(why) => {
                // The reason only: nothing of the token is written anywhere.
                tracing::debug!(reason = %why, "a user's token is refused");
                Err(Refusal::BadToken)
            }
            Answer::Unavailable => Err(Refusal::UserUnknown),
        }
    }
}

fn shown<'h>(identity: &Identity, headers: &'h HeaderMap) -> identity::Shown<'h> {
    identity.shown(values(headers, identity.token_header()), values(headers, COOKIE.as_str()))
}

/// All values of a header, in order.
pub(super) fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes)
}
