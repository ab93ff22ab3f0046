//! A Lua script as the store runs it: its text, and the digest that Redis knows it by.

use sha1::{Digest, Sha1};

/// A script. Redis runs it by its digest; a server that does not have it is sent the text.
#[derive(Clone, Debug)]
pub struct Script {
    /// The operation, for logs and metrics.
    pub name: &'static str,
    /// The text.
    pub text: &'static str,
    /// SHA-1 of the text, 40 hex digits: what EVALSHA takes.
    pub sha: String,
}

impl Script {
    /// A script from its text.
    pub fn new(name: &'static str, text: &'static str) -> Self {
        let sha = Sha1::digest(text.as_bytes())
            .iter()
            .fold(String::new(), |sha, byte| sha + &format!("{byte:02x}"));
        Self { name, text, sha }
    }
}
