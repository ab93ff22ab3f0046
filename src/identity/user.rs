//! A user, as a verified token tells of them.

use crate::room::policy::Millis;
use crate::room::state::Subject;

/// The longest `sub`, in bytes; that of an ID token has at most 255.
pub const MAX_SUBJECT: usize = 255;
/// The longest kind of user, in bytes.
pub const MAX_KIND: usize = 64;

/// Somebody for whom an issuer vouches. Its name and kind are fit for a header: no control characters, no blanks at the ends.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    issuer: Box<str>,
    name: String,
    kind: Option<String>,
    /// When the token ends, leeway included, milliseconds since the epoch.
    ends_at: Millis,
    id: Subject,
}

/// Whether a `sub` can be a user's name: not empty, not over [`MAX_SUBJECT`], and fit for a header.
pub fn is_name(sub: &str) -> bool {
    fits(sub, MAX_SUBJECT)
}

fn fits(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.trim() == text && !text.contains(|c: char| c.is_control())
}

impl std::fmt::Debug for User {
    /// Names of users are nobody's business: a log shows that there is one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User(redacted)")
    }
}

impl User {
    /// The user `name` of an issuer; `None` if a text is empty, too long, or does not fit into a header.
    pub fn new(issuer: &str, name: String, kind: Option<String>, ends_at: Millis) -> Option<Self> {
        let fit = is_name(&name) && kind.as_deref().is_none_or(|kind| fits(kind, MAX_KIND));
        let id = Subject::of(&[issuer, &name]);
        fit.then(|| Self { issuer: issuer.into(), name, kind, ends_at, id })
    }

    /// Who it is among all issuers' users: the same for the same user, whether this service or Envoy's `jwt_authn` has
    /// verified the token.
    pub fn id(&self) -> Subject {
        self.id
    }

    /// The token's `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The token's `sub`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of user it is, where the token says so.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// When the token ends, leeway included, milliseconds since the epoch.
    pub fn ends_at(&self) -> Millis {
        self.ends_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_a_header_is_nobody() {
        let user = |name: &str, kind: Option<&str>| User::new("i", name.into(), kind.map(Into::into), 0);
        for name in ["a", "auth0|5f7c", "a b", "김철수", &"x".repeat(255)] {
            assert_eq!(user(name, None).unwrap().name(), name);
        }
        for name in ["", " a", "a ", "a\nb", "a\0", "\u{7f}", "a\r\nx-user-id: b", &"x".repeat(256)] {
            assert_eq!(user(name, None), None, "{name:?}");
        }
        assert_eq!(user("a", Some("vip")).unwrap().kind(), Some("vip"));
        assert_eq!((user("a", Some("")), user("a", Some("a\nb"))), (None, None));
    }

    #[test]
    fn a_user_is_who_jwt_authn_says_it_is() {
        let user = User::new("https://id.example.com", "ann".into(), None, 0).unwrap();
        assert_eq!(user.id(), Subject::of(&["https://id.example.com", "ann"]));
        assert_ne!(user.id(), User::new("https://id.example.org", "ann".into(), None, 0).unwrap().id());
        assert_eq!(format!("{user:?}"), "User(redacted)");
    }
}
