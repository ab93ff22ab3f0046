//! Bound tokens: a ticket or pass that counts only for whoever it was given to, so that a copied cookie is worth
//! nothing elsewhere.
//!
//! A token names what it is bound to: the kind, and a digest of it. What a room's policy says decides what new tokens
//! are bound to, and whether bindings count at all; which kind counts is the token's own word, so that a room can be
//! changed from one kind to another while people wait. A token without a binding, from before the policy wanted one,
//! is as good as it was: nobody loses their place over a change of the policy.

use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::state::Subject;

/// Bytes of the digest in a token: enough that nobody finds another address or browser that fits.
const DIGEST: usize = 12;

/// What tokens of a room are bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bind {
    /// To nothing: whoever shows it holds it (default).
    #[default]
    None,
    /// To the verified user. Whoever is none has tokens that are not bound.
    Subject,
    /// To the network of the client's address: /24 of IPv4, /64 of IPv6.
    Ip,
    /// To the `User-Agent`.
    UserAgent,
}

/// Who shows a token, or is given one, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bearer<'a> {
    /// The verified user.
    pub subject: Option<Subject>,
    /// Whether a verified user would be known: in a Check, but where visitors ask for their position only who shows a
    /// token.
    pub knows_users: bool,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The `User-Agent`, as sent.
    pub user_agent: Option<&'a [u8]>,
}

/// What a token is bound to, as it stands in its claim `bnd`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound(String);

impl Bind {
    /// Whether there is none: then tokens are written without, as they were before there were any.
    // By reference: serde asks so.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// What a token given to `bearer` for another, `held`, is bound to: what is not known of them is taken over.
    pub fn passed_on(self, held: Option<&Bound>, bearer: &Bearer<'_>) -> Option<Bound> {
        let held = held.filter(|_| self != Self::None);
        // A user's token stays theirs where nobody can tell who shows it, whatever the room binds to by now.
        let is_unproved = held.is_some_and(|held| held.kind() == Some(Self::Subject)) && !bearer.knows_users;
        let fresh = if is_unproved { None } else { self.bound(bearer) };
        fresh.or_else(|| held.cloned())
    }

    /// What a token given to `bearer` is bound to; `None`: to nothing, or to something that is not known of them.
    pub fn bound(self, bearer: &Bearer<'_>) -> Option<Bound> {
        let (kind, digest) = match self {
            Self::None => return None,
            Self::Subject => ("sub", digest(self, &bearer.subject?.0)),
            Self::Ip => match bearer.address?.to_canonical() {
                IpAddr::V4(address) => ("ip", digest(self, &address.octets()[..3])),
                IpAddr::V6(address) => ("ip", digest(self, &address.octets()[..8])),
            },
            Self::UserAgent => ("ua", digest(self, bearer.user_agent?)),
        };
        Some(Bound(format!("{kind}.{digest}")))
    }

    /// Whether a token counts for `bearer`: it is not bound, or to them, or bindings do not count here. One bound to
    /// a user counts where users are not known; what is given for it there stays bound ([`Bind::passed_on`]).
    pub fn accepts(self, bound: Option<&Bound>, bearer: &Bearer<'_>) -> bool {
        let Some(bound) = bound.filter(|_| self != Self::None) else { return true };
        match bound.kind() {
            Some(Self::Subject) if !bearer.knows_users => true,
            Some(kind) => kind.bound(bearer).as_ref() == Some(bound),
            None => false,
        }
    }
}

impl Bound {
    /// What kind it is; `None`: one of a newer version's.
    fn kind(&self) -> Option<Bind> {
        match self.0.split_once('.')?.0 {
            "sub" => Some(Bind::Subject),
            "ip" => Some(Bind::Ip),
            "ua" => Some(Bind::UserAgent),
            _ => None,
        }
    }
}

fn digest(kind: Bind, bytes: &[u8]) -> String {
    let digest = Sha256::new().chain_update([kind as u8]).chain_update(bytes).finalize();
    BASE64_URL_SAFE_NO_PAD.encode(&digest[..DIGEST])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Bearer<'static> {
        Bearer { address: Some(address.parse().unwrap()), ..Bearer::default() }
    }

    fn with(user_agent: &str) -> Bearer<'_> {
        Bearer { user_agent: Some(user_agent.as_bytes()), ..Bearer::default() }
    }

    #[test]
    fn a_token_counts_for_whoever_it_was_given_to() {
        let user = |n| Bearer { subject: Some(Subject([n; 16])), knows_users: true, ..Bearer::default() };
        let nobody = Bearer { knows_users: true, ..Bearer::default() };
        for (bind, mine, same, other) in [
            (Bind::Ip, at("192.0.2.1"), at("192.0.2.254"), at("192.0.3.1")),
            (Bind::Ip, at("192.0.2.1"), at("::ffff:192.0.2.9"), at("::192.0.2.1")),
            (Bind::Ip, at("2001:db8::1"), at("2001:db8::ffff:0:0:1"), at("2001:db8:0:1::1")),
            (Bind::UserAgent, with("a"), with("a"), with("b")),
            (Bind::Subject, user(1), user(1), user(2)),
        ] {
            let bound = bind.bound(&mine);
            assert!(bound.is_some() && bind.accepts(bound.as_ref(), &same), "{bind:?}");
            assert!(!bind.accepts(bound.as_ref(), &other), "{bind:?}");
            assert!(!bind.accepts(bound.as_ref(), &nobody), "{bind:?}: nobody knows who this is");
            assert!(Bind::None.accepts(bound.as_ref(), &other), "bindings do not count here");
        }
    }

    #[test]
    fn where_users_are_not_known_their_tokens_count_and_stay_theirs() {
        let user = Bearer { subject: Some(Subject([1; 16])), knows_users: true, ..Bearer::default() };
        let (bound, unknown) = (Bind::Subject.bound(&user), Bearer::default());
        assert!(Bind::Subject.accepts(bound.as_ref(), &unknown));
        assert_eq!(Bind::Subject.passed_on(bound.as_ref(), &unknown), bound);
        assert_eq!(Bind::None.passed_on(bound.as_ref(), &unknown), None);
        let there = at("192.0.2.1");
        assert_eq!(
            Bind::Ip.passed_on(bound.as_ref(), &there),
            bound,
            "a thief could bind it to their own address"
        );
        let known = Bearer { knows_users: true, ..there };
        assert_eq!(
            Bind::Ip.passed_on(bound.as_ref(), &known),
            Bind::Ip.bound(&there),
            "the kind has changed"
        );
    }

    #[test]
    fn the_token_says_which_kind_counts() {
        let bound = Bind::Ip.bound(&at("192.0.2.1"));
        assert!(Bind::UserAgent.accepts(bound.as_ref(), &at("192.0.2.7")));
        assert!(!Bind::UserAgent.accepts(bound.as_ref(), &with("a")));
        assert!(Bind::Ip.accepts(None, &at("192.0.2.1")), "from before the room wanted any");
        assert!(!Bind::Ip.accepts(Some(&Bound("new.AAAA".into())), &at("192.0.2.1")));
    }

    #[test]
    fn what_is_not_known_of_somebody_binds_nothing() {
        for bind in [Bind::None, Bind::Subject, Bind::Ip, Bind::UserAgent] {
            assert_eq!(bind.bound(&Bearer::default()), None, "{bind:?}");
        }
    }
}
