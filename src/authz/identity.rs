//! The gate "identity": who asks, by the token that a request shows, else by what Envoy's `jwt_authn` has verified.
//!
//! A user who is known at once is known to every gate. Checking a signature, or waiting for an issuer's keys, comes
//! behind the gates that turn floods away.

use std::sync::Arc;

use tokio::time::Instant;

use super::Gate;
use super::request::Question;
use crate::identity::user::User;
use crate::identity::{Answer, Identity, Known, Shown, token};
use crate::room::decision::Refusal;
use crate::room::gates::Anonymous;

impl Gate {
    /// The question, with the user where that is known at once.
    pub(super) fn recognised<'q>(&'q self, question: Question<'q>) -> Question<'q> {
        let Some(identity) = &self.identity else { return question };
        let question = question.telling_users(identity.headers());
        let user = match shown(identity, &question) {
            Shown::Token(token) => identity.remembered(token, self.rooms.now()),
            Shown::Nothing => verified_by_envoy(&question),
            Shown::Unclear => None,
        };
        if let Some(user) = user {
            question.is_from(user);
        }
        question
    }

    /// Whether the identity gate has something to say that takes the long way.
    pub(super) fn must_be_identified(&self, question: &Question<'_>, anonymous: Anonymous) -> bool {
        question.user().is_none()
            && (anonymous == Anonymous::Refuse
                || self.identity.as_ref().is_some_and(|identity| shown(identity, question) != Shown::Nothing))
    }

    /// Finds out who asks, until `deadline` at most; or why the request goes no further.
    ///
    /// A token that proves nothing is refused also where anonymous requests are let in: a client that believes to be
    /// signed in must not go on as somebody else without a word. On public paths it counts as no token.
    pub(super) async fn identify(
        &self,
        question: &Question<'_>,
        anonymous: Anonymous,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        if question.user().is_some() || question.is_preflight() {
            return Ok(());
        }
        let nobody = || match anonymous {
            Anonymous::Allow => Ok(()),
            Anonymous::Refuse if question.subject(None).is_some() => Ok(()),
            Anonymous::Refuse => Err(Refusal::NoUser),
        };
        let Some(identity) = &self.identity else { return nobody() };
        let is_public = is_public(identity, question);
        let answer = match shown(identity, question) {
            Shown::Nothing => return if is_public { Ok(()) } else { nobody() },
            Shown::Unclear => Answer::Refused(token::Refusal::Malformed),
            Shown::Token(token) => match identity.known(token, self.rooms.now()) {
                Known::Answer(answer) => answer,
                // Nobody waits where it does not matter.
                Known::MustAsk if is_public => return Ok(()),
                Known::MustAsk => {
                    identity.ask(token, deadline.saturating_duration_since(Instant::now())).await
                }
            },
        };
        match answer {
            Answer::User(user) => {
                question.is_from(user);
                Ok(())
            }
            _ if is_public => Ok(()),
            // The token of an issuer whom only Envoy knows, and vouches for.
            Answer::Refused(token::Refusal::UnknownIssuer) if question.subject(None).is_some() => {
                if let Some(user) = verified_by_envoy(question) {
                    question.is_from(user);
                }
                Ok(())
            }
            Answer::Refused(why) => {
                // The reason only: nothing of the token is written anywhere.
                tracing::debug!(request = question.request_id(), reason = %why, "a user's token is refused");
                Err(Refusal::BadToken)
            }
            Answer::Unavailable => Err(Refusal::UserUnknown),
        }
    }
}

fn shown<'q>(identity: &Identity, question: &Question<'q>) -> Shown<'q> {
    identity.shown(question.header_values(identity.token_header()), question.cookies())
}

fn verified_by_envoy(question: &Question<'_>) -> Option<Arc<User>> {
    let subject = question.subject(None)?;
    // Envoy's word is for this request only.
    User::new(subject.issuer, subject.name.to_owned(), None, u64::MAX).map(Arc::new)
}

/// Whether a request needs no user, whatever method the backend takes it for.
fn is_public(identity: &Identity, question: &Question<'_>) -> bool {
    let Some(target) = question.path_and_query() else { return false };
    question.methods().all(|method| identity.is_public(method, target))
}
