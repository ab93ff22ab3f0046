//! Who is asking: users for whom an issuer vouches by a signed token (OIDC, JWT), verified with the issuer's keys.
//!
//! [`Identity::known`] answers without waiting wherever that is possible: from the memory of verified tokens, else by
//! checking the signature. Only a key that is not known yet makes somebody wait, for a fetch that all share.

pub mod fetch;
mod issuer;
pub mod jwks;
pub mod public;
mod remembered;
pub mod roots;
pub mod settings;
pub mod token;
pub mod user;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;

use crate::clock::Clock;
use crate::cookie::cookie_values;
use crate::drain::Shutdown;
use crate::room::policy::Millis;
use crate::telemetry::metrics::identity::{IdentityLabel, IdentityMetrics};
use issuer::{Found, Issuer};
use remembered::{Digest, Remembered};
use roots::SystemRoots;
use settings::{IdentitySettings, UserHeaders};
use token::{MAX_TOKEN, Outline, Refusal};
use user::User;

/// How many verified tokens are remembered, some 13 MiB of them, 40 MiB at most.
const MAX_REMEMBERED: usize = 65_536;

/// What a client hears who comes while an issuer cannot be asked: try again in as many seconds.
pub const RETRY_AFTER: u64 = 5;

/// Knows users by their tokens.
pub struct Identity {
    settings: IdentitySettings,
    issuers: Vec<Issuer>,
    remembered: Remembered,
    clock: Clock,
    metrics: IdentityMetrics,
}

/// The token in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown<'a> {
    /// There is none.
    Nothing,
    /// There is this one, of whatever worth.
    Token(&'a str),
    /// There are several, or what stands there is no text: nobody can say which one counts elsewhere.
    Unclear,
}

/// Who a token says is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This user.
    User(Arc<User>),
    /// Nobody: the token proves nothing.
    Refused(Refusal),
    /// It cannot be told now, as the issuer's keys are not known and cannot be fetched: try again in [`RETRY_AFTER`].
    Unavailable,
}

/// What can be said of a token at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// This.
    Answer(Answer),
    /// Its key is not known yet: [`Identity::ask`].
    MustAsk,
}

impl Identity {
    /// Believes these issuers; their keys come with [`Identity::tend`]. Fails where `https` servers are to be checked by the
    /// system's roots and it has none.
    pub fn new(settings: IdentitySettings, clock: Clock, metrics: IdentityMetrics) -> io::Result<Self> {
        let system = SystemRoots::default();
        let issuer = |issuer: &settings::IssuerSettings| {
            let source = fetch::source(&issuer.jwks, &system)?;
            let metrics = metrics.issuer(&issuer.issuer);
            Ok(Issuer::new(issuer.clone(), source, clock, metrics))
        };
        let issuers = settings.issuers.iter().map(issuer).collect::<io::Result<_>>()?;
        Ok(Self { settings, issuers, remembered: Remembered::new(MAX_REMEMBERED), clock, metrics })
    }

    /// Keeps the issuers' keys fresh until no new work is to be taken in.
    pub async fn tend(&self, shutdown: &Shutdown) {
        let tending = future::join_all(self.issuers.iter().map(Issuer::tend));
        tokio::select! {
            () = shutdown.closing() => {}
            _ = tending => {}
        }
    }

    /// What the backend is told, and by which headers. Whatever a client sends under these names is not true.
    pub fn headers(&self) -> &UserHeaders {
        &self.settings.headers
    }

    /// Whether a request needs no user: see [`public::PublicPaths::takes`].
    pub fn is_public(&self, method: &str, target: &str) -> bool {
        self.settings.public.takes(method, target)
    }

    /// The header that tokens come in, in lower case.
    pub fn token_header(&self) -> &str {
        &self.settings.token.header
    }

    /// The token in a request: `header` are the values of [`Identity::token_header`], `cookies` those of `Cookie` headers.
    ///
    /// Credentials of another kind (`Basic`) are none of ours. The cookie counts where the header shows nothing.
    pub fn shown<'a>(
        &self,
        mut header: impl Iterator<Item = &'a [u8]>,
        cookies: impl Iterator<Item = &'a [u8]>,
    ) -> Shown<'a> {
        let in_header = match (header.next(), header.next()) {
            (None, _) => Shown::Nothing,
            (Some(value), None) => self.in_header(value),
            (Some(_), Some(_)) => Shown::Unclear,
        };
        match (in_header, &self.settings.token.cookie) {
            (Shown::Nothing, Some(cookie)) => {
                let mut values = cookie_values(cookies, cookie);
                let Some(first) = values.next() else { return Shown::Nothing };
                // The same value twice comes once.
                if values.next().is_none() { Shown::Token(first) } else { Shown::Unclear }
            }
            (shown, _) => shown,
        }
    }

    fn in_header<'a>(&self, value: &'a [u8]) -> Shown<'a> {
        let Ok(value) = std::str::from_utf8(value) else { return Shown::Unclear };
        let value = value.trim_matches([' ', '\t']);
        let bearer = match value.split_once([' ', '\t']) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Some(token.trim_start_matches([' ', '\t']))
            }
            _ => None,
        };
        match bearer {
            Some(token) => Shown::Token(token),
            None if value.is_empty() || self.settings.token.header == "authorization" => Shown::Nothing,
            None => Shown::Token(value),
        }
    }

    /// Who shows this token, if it was verified before: for next to nothing. `now`: milliseconds since the epoch.
    pub fn remembered(&self, token: &str, now: Millis) -> Option<Arc<User>> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let user = self.remembered.find(&Digest::of(token), now)?;
        self.metrics.remembered();
        Some(user)
    }

    /// Who shows this token, as far as can be said at once. `now`: milliseconds since the epoch.
    pub fn known(&self, token: &str, now: Millis) -> Known {
        if let Some(user) = self.remembered(token, now) {
            return Known::Answer(Answer::User(user));
        }
        match self.examine(token, now) {
            Ok(answer) => Known::Answer(self.noted(answer)),
            Err(_) => Known::MustAsk,
        }
    }

    /// Who shows this token: waits for the issuer's keys where it must, `within` at most.
    pub async fn who(&self, token: &str, within: Duration) -> Answer {
        match self.known(token, self.clock.now_ms()) {
            Known::Answer(answer) => answer,
            Known::MustAsk => self.ask(token, within).await,
        }
    }

    /// Who shows this token, where [`Identity::known`] cannot say: waits for the issuer's keys, `within` at most.
    pub async fn ask(&self, token: &str, within: Duration) -> Answer {
        let first = match self.examine(token, self.clock.now_ms()) {
            Ok(answer) => return self.noted(answer),
            Err(issuer) => issuer,
        };
        let asked = tokio::time::timeout(within, first.asked()).await;
        let answer = asked.ok().and_then(|()| self.examine(token, self.clock.now_ms()).ok());
        self.noted(answer.unwrap_or(Answer::Unavailable))
    }

    /// Who shows this token, or else the issuer that must be asked first.
    fn examine(&self, token: &str, now: Millis) -> Result<Answer, &Issuer> {
        let outline = match Outline::read(token) {
            Ok(outline) => outline,
            Err(refusal) => return Ok(Answer::Refused(refusal)),
        };
        let Some(issuer) = self.issuers.iter().find(|issuer| issuer.settings().issuer == outline.issuer)
        else {
            return Ok(Answer::Refused(Refusal::UnknownIssuer));
        };
        let key = match issuer.find(&outline, now) {
            Ok(Found::Key(key)) => key,
            Ok(Found::Unknown) => return Ok(Answer::Refused(Refusal::UnknownKey)),
            Ok(Found::Unavailable) => return Ok(Answer::Unavailable),
            Ok(Found::MustAsk) => return Err(issuer),
            Err(refusal) => return Ok(Answer::Refused(refusal)),
        };
        Ok(match token::verify(token, &key, outline.algorithm, issuer.settings(), now) {
            Ok(user) => {
                let user = Arc::new(user);
                self.remembered.keep(Digest::of(token), key, user.clone());
                self.metrics.set_kept(self.remembered.len());
                Answer::User(user)
            }
            Err(refusal) => Answer::Refused(refusal),
        })
    }

    fn noted(&self, answer: Answer) -> Answer {
        self.metrics.answered(match &answer {
            Answer::User(_) => IdentityLabel::Verified,
            Answer::Refused(refusal) => IdentityLabel::from(*refusal),
            Answer::Unavailable => IdentityLabel::Unavailable,
        });
        answer
    }
}

#[cfg(test)]
#[path = "../tests/support/issuer.rs"]
mod signer;
