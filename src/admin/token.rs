//! The operators' token: who shows it may look at rooms and control them.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A secret that operators show. Only its digest is kept, and it stands in no log and no error.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken {
    digest: [u8; 32],
}

impl AdminToken {
    /// The fewest bytes of a token.
    pub const MIN_LEN: usize = 16;
    /// The most bytes of a token.
    pub const MAX_LEN: usize = 1_024;

    /// A token from the text of its file, without the spaces and line ends around it. An error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.trim();
        let fits = (Self::MIN_LEN..=Self::MAX_LEN).contains(&token.len());
        // What an HTTP header can carry.
        if !fits || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Self::rule());
        }
        Ok(Self { digest: digest(token.as_bytes()) })
    }

    /// What a token is, and how to get one.
    pub fn rule() -> String {
        let (least, most) = (Self::MIN_LEN, Self::MAX_LEN);
        format!("write {least} to {most} visible ASCII characters without spaces: openssl rand -hex 32")
    }

    /// Whether this is the token. How long that takes tells nothing about it.
    pub fn is(&self, shown: &[u8]) -> bool {
        // Of the digests, so that neither length nor first difference can be measured.
        self.digest.ct_eq(&digest(shown)).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_and_nothing_else_and_never_shown() {
        let token = AdminToken::parse(" correct-horse-battery\n").unwrap();
        assert!(token.is(b"correct-horse-battery"));
        for other in ["", "correct-horse-batter", "correct-horse-battery ", "Correct-horse-battery"] {
            assert!(!token.is(other.as_bytes()), "{other:?}");
        }
        assert_eq!(format!("{token:?}"), "AdminToken");
        for wrong in ["", "fifteen-bytes-x", "sixteen bytes, two words", "ein-schlüssel-für-alle"] {
            let error = AdminToken::parse(wrong).unwrap_err();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
        assert!(AdminToken::parse(&"x".repeat(AdminToken::MAX_LEN + 1)).is_err());
    }
}
