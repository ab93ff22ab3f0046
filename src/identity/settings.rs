//! Whom to believe, as it is configured: plain data, checked by whoever makes it (`config/identity_file.rs`).

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use jsonwebtoken::Algorithm;

use super::public::PublicPaths;
use super::roots::Roots;

/// The most issuers.
pub const MAX_ISSUERS: usize = 16;
/// The most audiences of an issuer.
pub const MAX_AUDIENCES: usize = 64;
/// How far an issuer's clock may differ from ours, where nothing is said.
pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
/// The most it may differ.
pub const MAX_LEEWAY: Duration = Duration::from_mins(5);
/// How long fetched keys are fresh, where nothing is said.
pub const DEFAULT_REFRESH: Duration = Duration::from_mins(10);
/// How long keys are believed while their issuer cannot be asked, where nothing is said.
pub const DEFAULT_STALE: Duration = Duration::from_hours(24);

/// The algorithms that a token may be signed with. All of them by key pairs: a shared secret could sign as well as verify.
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// Everything about who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySettings {
    /// Who may vouch for users; 1 to [`MAX_ISSUERS`], no two of one name.
    pub issuers: Vec<IssuerSettings>,
    /// Where in a request the token is.
    pub token: TokenPlace,
    /// What the backend is told.
    pub headers: UserHeaders,
    /// What needs no user.
    pub public: PublicPaths,
}

/// Somebody who vouches for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// The `iss` of its tokens, to the letter.
    pub issuer: String,
    /// A token must be meant for one of these; at least one, at most [`MAX_AUDIENCES`].
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub jwks: JwksSource,
    /// What it signs with; at least one, of [`ALGORITHMS`].
    pub algorithms: Vec<Algorithm>,
    /// How far its clock may differ from ours; at most [`MAX_LEEWAY`].
    pub leeway: Duration,
    /// How long fetched keys are fresh; 10 s to 24 h.
    pub refresh: Duration,
    /// How long keys are believed while they cannot be fetched; `refresh` to 7 days.
    pub stale: Duration,
    /// The claim that says what kind of user this is.
    pub type_claim: String,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// A file, read again as long as the program runs.
    File(PathBuf),
    /// An `https` address; `http` where the configuration says that this is meant.
    Url {
        /// The address.
        url: Uri,
        /// Who vouches for its server, of `https`; `None`: whom the system believes.
        roots: Option<Roots>,
    },
}

/// Where in a request the token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPlace {
    /// The header, in lower case. In `authorization` the token comes behind `Bearer`, elsewhere `Bearer` may be left out.
    pub header: String,
    /// A cookie, looked at where the header shows none.
    pub cookie: Option<String>,
}

impl Default for TokenPlace {
    fn default() -> Self {
        Self { header: "authorization".to_owned(), cookie: None }
    }
}

/// Request headers that tell the backend who is asking. In lower case, and not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserHeaders {
    /// The user's `sub`.
    pub id: String,
    /// What kind of user this is, where the token says so.
    pub kind: String,
}

impl Default for UserHeaders {
    fn default() -> Self {
        Self { id: "x-user-id".to_owned(), kind: "x-user-type".to_owned() }
    }
}

impl UserHeaders {
    /// Whether a header is one of these to whoever reads it: in any case, and with `_` for `-`, as CGI and its heirs
    /// cannot tell the two apart.
    pub fn is_ours(&self, name: &str) -> bool {
        [&self.id, &self.kind].into_iter().any(|ours| {
            ours.len() == name.len()
                && ours.bytes().zip(name.bytes()).all(|(ours, theirs)| {
                    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
                    plain(ours) == plain(theirs)
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_headers_are_known_however_they_are_written() {
        let headers = UserHeaders::default();
        for name in ["x-user-id", "X-User-Id", "X-USER-TYPE", "x_user_id", "x-user_TYPE"] {
            assert!(headers.is_ours(name), "{name}");
        }
        for name in ["x-user", "x-user-ids", "x-user-name", "", "xx-user-id"] {
            assert!(!headers.is_ours(name), "{name}");
        }
    }
}
