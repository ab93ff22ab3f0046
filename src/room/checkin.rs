//! How a visitor who was called comes in: by the ticket alone, or with a nonce made up for each check-in, so that a
//! request which somebody has recorded gives nothing when it is sent again.

use serde::{Deserialize, Serialize};

use super::policy::Millis;

/// How long a nonce is remembered at most: a day.
const REMEMBERED_MS: Millis = 24 * 3_600_000;

/// What a called visitor shows to come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checkin {
    /// The ticket, wherever it is asked for (default).
    #[default]
    Ticket,
    /// The ticket and a nonce, by the client API and nowhere else.
    Nonce,
}

impl Checkin {
    /// Whether the ticket alone does: then policies are written without, as they were before there was a choice.
    // By reference: serde asks so.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn is_by_ticket(&self) -> bool {
        *self == Self::Ticket
    }
}

/// What a client has made up for one check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// What it may be, in words.
    pub const RULE: &str = "16 to 64 of A-Z, a-z, 0-9, _ and -, made up anew for each check-in";

    /// Reads one; `None` breaks [`Nonce::RULE`].
    pub fn parse(text: &[u8]) -> Option<Self> {
        let fits = (16..=64).contains(&text.len())
            && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte));
        fits.then(|| String::from_utf8(text.to_vec()).ok().map(Self)).flatten()
    }

    /// It, as it came.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// For how many milliseconds from `now` a used nonce is remembered, at least 1: as long as the tokens that were shown
/// with it may be shown again, and no longer than a day.
pub fn remembered_for(tokens_end_at: Millis, now: Millis) -> Millis {
    tokens_end_at.saturating_sub(now).clamp(1, REMEMBERED_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_16_to_64_plain_characters() {
        for good in ["0123456789abcdef", "8f1c2a8e-3c5e-4f64-9b7a-1d2e3f405162", &"_".repeat(64)] {
            assert_eq!(Nonce::parse(good.as_bytes()).unwrap().as_bytes(), good.as_bytes());
        }
        for bad in [
            "",
            "0123456789abcde",
            &"a".repeat(65),
            "0123456789abcdef ",
            "0123456789abcdé",
            "0123456789abc.ef",
        ] {
            assert_eq!(Nonce::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Nonce::parse(&[0xff; 20]), None);
    }

    #[test]
    fn it_is_remembered_as_long_as_the_ticket_could_be_shown_and_a_day_at_most() {
        assert_eq!(remembered_for(61_000, 1_000), 60_000);
        assert_eq!(remembered_for(2 * REMEMBERED_MS, 1_000), REMEMBERED_MS);
        assert_eq!(remembered_for(0, 1_000), 1);
    }
}
