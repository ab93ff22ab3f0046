//! Who a place belongs to, where that is a user and not whoever holds a ticket.

use sha2::{Digest as _, Sha256};

use super::Subject;

impl Subject {
    /// The digest of a name that has several parts. Their lengths go in too, or two names could be cut at another
    /// place and come to the same.
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cut_at_another_place_are_different() {
        assert_ne!(Subject::of(&["a", "bc"]), Subject::of(&["ab", "c"]));
        assert_ne!(Subject::of(&["a", "bc"]), Subject::of(&["a", "b", "c"]));
        assert_eq!(Subject::of(&["a", "bc"]), Subject::of(&["a", "bc"]));
    }
}
