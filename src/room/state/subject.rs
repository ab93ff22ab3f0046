//! Who a place belongs to, where that is a user and not whoever holds a ticket.

use super::Subject;
use crate::room::digest::digest;

impl Subject {
    /// The digest of a name that has several parts.
    pub fn of(parts: &[&str]) -> Self {
        let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
        Self(digest(&parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rooms in a store know their users by these: another digest would make strangers of them.
    #[test]
    fn a_user_has_the_same_digest_in_every_version() {
        let known = Subject::of(&["https://id", "alice"]);
        assert_eq!(known.0[..4], [0x36, 0x9c, 0x2e, 0x21]);
    }
}
