//! Passes that were verified before: a bounded memory, so that a signature is checked once and not with every request.
//!
//! Only the signature's check is saved. Room, time and keys are looked at each time, and so is, by whoever asks,
//! whether the pass was given back. What does not hold is never remembered.

use super::name::RoomName;
use super::policy::Millis;
use super::token::{Claims, Fingerprint, KeyRing, Kind, TokenError};

/// Passes that share a set; the one not asked for the longest makes room.
const WAYS: usize = 4;

/// Where in a token its place in the memory is read from, counted from the end: in the middle of the signature, which
/// is as good as random in every token that can get in here.
const DRAWN_FROM: usize = 16;

/// A memory of verified passes.
#[derive(Debug)]
pub struct Verified {
    sets: Box<[[Option<Box<Known>>; WAYS]]>,
}

#[derive(Debug)]
struct Known {
    /// The whole token: nothing but the very same bytes is taken for it.
    token: Box<str>,
    /// The keys that vouched for it.
    keys: Fingerprint,
    claims: Claims,
}

impl Verified {
    /// A memory of at most this many passes, rounded up to a power of two, 4 at least. Each takes some 450 bytes.
    pub fn new(passes: usize) -> Self {
        let sets = passes.div_ceil(WAYS).next_power_of_two();
        Self { sets: std::iter::repeat_with(Default::default).take(sets).collect() }
    }

    /// What a pass says that was verified before by these very keys, belongs to this room and is not over.
    pub fn find(&mut self, keys: &KeyRing, room: &RoomName, token: &str, now: Millis) -> Option<&Claims> {
        let at = self.set_of(token)?;
        let set = &mut self.sets[at];
        let way = set.iter().position(|known| known.as_ref().is_some_and(|known| *known.token == *token))?;
        let known = set[way].as_ref()?;
        if known.keys != *keys.fingerprint() || known.claims.ends_at() <= now {
            set[way] = None;
            return None;
        }
        if known.claims.aud != *room {
            return None;
        }
        set[..=way].rotate_right(1);
        set[0].as_ref().map(|known| &known.claims)
    }

    /// Checks a pass as [`KeyRing::verify`] does, its signature only where it is not remembered. With it: whether it was.
    pub fn verify(
        &mut self,
        keys: &KeyRing,
        room: &RoomName,
        token: &str,
        now: Millis,
    ) -> (Result<Claims, TokenError>, bool) {
        if let Some(claims) = self.find(keys, room, token, now) {
            return (Ok(claims.clone()), true);
        }
        let verified = keys.verify(Kind::Pass, room, token, now);
        if let Ok(claims) = &verified {
            self.keep(keys, token, claims);
        }
        (verified, false)
    }

    fn keep(&mut self, keys: &KeyRing, token: &str, claims: &Claims) {
        let Some(at) = self.set_of(token) else { return };
        let set = &mut self.sets[at];
        set.rotate_right(1);
        let known = Known { token: token.into(), keys: *keys.fingerprint(), claims: claims.clone() };
        set[0] = Some(Box::new(known));
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.sets.iter().flatten().flatten().count()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn set_of(&self, token: &str) -> Option<usize> {
        let (_, end) = token.as_bytes().split_last_chunk::<DRAWN_FROM>()?;
        let drawn = u64::from_le_bytes(*end.first_chunk()?);
        // Base64: six bits of each byte count; the product's upper half depends on all of them.
        let mixed = usize::try_from(drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or_default();
        Some(mixed & (self.sets.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::{Key, Material};
    use super::*;

    fn ring(keys: &[(&str, u8)]) -> KeyRing {
        let keys = keys.iter().map(|(kid, secret)| Key {
            kid: (*kid).to_owned(),
            material: Material::Hs256(vec![*secret; 32]),
        });
        KeyRing::new(&keys.collect::<Vec<_>>()).unwrap()
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    fn pass(ring: &KeyRing, number: u64) -> String {
        let claims = Claims {
            aud: room("shop"),
            generation: 3,
            number,
            iat: 100,
            exp: 200,
            position: None,
            bound: None,
        };
        ring.sign(Kind::Pass, &claims).unwrap()
    }

    #[test]
    fn a_pass_is_verified_once_and_says_the_same_again() {
        let (ring, mut verified) = (ring(&[("k", 1)]), Verified::new(64));
        let pass = pass(&ring, 7);
        assert_eq!(verified.find(&ring, &room("shop"), &pass, 0), None);
        let (first, known) = verified.verify(&ring, &room("shop"), &pass, 0);
        assert!(!known);
        assert_eq!(verified.verify(&ring, &room("shop"), &pass, 199_999), (first.clone(), true));
        assert_eq!(verified.find(&ring, &room("shop"), &pass, 0), first.as_ref().ok());
    }

    #[test]
    fn time_room_and_keys_are_looked_at_each_time() {
        let both = ring(&[("new", 2), ("old", 1)]);
        let mut verified = Verified::new(64);
        let pass = pass(&ring(&[("old", 1)]), 7);
        let mut verify = |keys: &KeyRing, name, now| verified.verify(keys, &room(name), &pass, now);
        assert!(verify(&both, "shop", 0).0.is_ok() && verify(&both, "shop", 0).1);
        assert_eq!(verify(&both, "open", 0), (Err(TokenError::OtherRoom), false));
        assert!(verify(&both, "shop", 0).1);
        // The old key is dropped: what it vouched for is void.
        assert_eq!(verify(&ring(&[("new", 2)]), "shop", 0), (Err(TokenError::UnknownKey), false));
        // Another secret under the same name.
        assert!(!verify(&both, "shop", 0).1 && verify(&both, "shop", 0).1);
        assert_eq!(verify(&ring(&[("old", 9)]), "shop", 0), (Err(TokenError::BadSignature), false));
        assert!(!verify(&both, "shop", 0).1 && verify(&both, "shop", 0).1);
        assert_eq!(verify(&both, "shop", 200_000), (Err(TokenError::Expired), false));
    }

    #[test]
    fn what_differs_in_one_byte_is_not_it() {
        let (ring, mut verified) = (ring(&[("k", 1)]), Verified::new(64));
        let pass = pass(&ring, 7);
        assert!(verified.verify(&ring, &room("shop"), &pass, 0).0.is_ok());
        for at in 0..pass.len() {
            let mut forged = pass.clone().into_bytes();
            forged[at] ^= 1;
            let Ok(forged) = String::from_utf8(forged) else { continue };
            assert_eq!(verified.find(&ring, &room("shop"), &forged, 0), None, "{at}");
        }
        for end in 0..pass.len() {
            assert_eq!(verified.find(&ring, &room("shop"), &pass[..end], 0), None, "{end}");
        }
        assert_eq!(verified.len(), 1);
    }

    #[test]
    fn failures_are_not_remembered_nor_are_tickets() {
        let (ring, mut verified) = (ring(&[("k", 1)]), Verified::new(64));
        let foreign = pass(&self::ring(&[("k", 9)]), 7);
        let claims = Claims {
            aud: room("shop"),
            generation: 3,
            number: 7,
            iat: 100,
            exp: 200,
            position: None,
            bound: None,
        };
        let ticket = ring.sign(Kind::Ticket, &claims).unwrap();
        for token in ["", "a.b.c", &"x".repeat(4_096), &foreign, &ticket] {
            assert!(verified.verify(&ring, &room("shop"), token, 0).0.is_err());
        }
        assert!(verified.is_empty());
    }

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_asked_for() {
        let (ring, mut verified) = (ring(&[("k", 1)]), Verified::new(64));
        let regular = pass(&ring, 1);
        verified.verify(&ring, &room("shop"), &regular, 0).0.unwrap();
        for number in 2..1_000 {
            verified.verify(&ring, &room("shop"), &pass(&ring, number), 0).0.unwrap();
            assert!(verified.verify(&ring, &room("shop"), &regular, 0).1, "{number}");
            assert!(verified.len() <= 64);
        }
        assert_eq!(verified.len(), 64, "and uses it");
    }
}
