//! The name of a room: what may stand in a URL path, a cookie name, a Redis hash tag and a metric label alike.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A checked room name: 1 to [`RoomName::MAX_LEN`] of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
///
/// Everything else is refused, so that a name cannot break out of a cookie, a path or a Redis hash tag.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// What a name may look like, for error messages.
    pub const RULE: &'static str =
        "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter or digit";

    /// Checks a name; `None` if it breaks [`RoomName::RULE`].
    pub fn parse(name: &str) -> Option<Self> {
        let bytes = name.as_bytes();
        let fits = (1..=Self::MAX_LEN).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b));
        fits.then(|| Self(Arc::from(name)))
    }

    /// A stand-in while a policy is still being read; no checked name is empty.
    pub(super) fn unnamed() -> Self {
        Self(Arc::from(""))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> serde::Deserialize<'de> for RoomName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| serde::de::Error::custom(format!("a room name is {}", Self::RULE)))
    }
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_refused() {
        for good in ["shop", "a", "Sale-2026.11_30", &"x".repeat(64)] {
            assert!(RoomName::parse(good).is_some(), "{good:?}");
        }
        for bad in ["", " ", "a b", "{x}", "a/b", "..", "-a", "a;b", "a=b", "상점", "a\n", &"x".repeat(65)]
        {
            assert!(RoomName::parse(bad).is_none(), "{bad:?}");
        }
    }
}
