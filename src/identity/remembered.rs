//! Tokens that were verified before: a bounded memory, so that a signature is checked once and not with every request.
//!
//! A token is known by its SHA-256 and not kept. What it proves ends with it, and with the key that vouched for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::jwks::Key;
use super::user::User;
use crate::room::policy::Millis;

/// Tokens that share a set; the one not asked for the longest makes room.
const WAYS: usize = 4;
/// Parts with a lock each: cores that ask for different tokens hardly ever wait for each other.
const SHARDS: usize = 64;

/// What a token is known by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    /// The digest of a token.
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Eight bytes of it as a number, from that place on.
    fn number(&self, at: usize) -> usize {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[at..at + 8]);
        // Any bits will do, so what a small machine cuts off is not missed.
        usize::try_from(u64::from_le_bytes(bytes) >> 32).unwrap_or_default()
    }
}

type Set = [Option<Box<Known>>; WAYS];

struct Known {
    digest: Digest,
    key: Arc<Key>,
    user: Arc<User>,
}

/// A memory of verified tokens.
pub(super) struct Remembered {
    shards: Box<[Mutex<Box<[Set]>>]>,
    kept: AtomicUsize,
}

impl Remembered {
    /// A memory of at most this many tokens, rounded up to a power of two, 256 at least. Each takes some 200 bytes, 600 at
    /// most, once it is there.
    pub(super) fn new(tokens: usize) -> Self {
        let sets = tokens.div_ceil(SHARDS * WAYS).next_power_of_two();
        let shard = || Mutex::new(std::iter::repeat_with(Set::default).take(sets).collect());
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect(), kept: AtomicUsize::new(0) }
    }

    /// The user of a token verified before, if neither it nor its key has ended.
    pub(super) fn find(&self, digest: &Digest, now: Millis) -> Option<Arc<User>> {
        let mut shard = self.shard(digest).lock();
        let set = set_of(&mut shard, digest);
        let way = set.iter().position(|known| known.as_ref().is_some_and(|known| known.digest == *digest))?;
        let known = set[way].as_ref()?;
        if known.user.ends_at() <= now || !known.key.holds(now) {
            set[way] = None;
            self.kept.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        set[..=way].rotate_right(1);
        set[0].as_ref().map(|known| known.user.clone())
    }

    /// Remembers a token that this key has vouched for.
    pub(super) fn keep(&self, digest: Digest, key: Arc<Key>, user: Arc<User>) {
        let mut shard = self.shard(&digest).lock();
        let set = set_of(&mut shard, &digest);
        // Two requests may have verified it at the same time.
        let known = set.iter().position(|known| known.as_ref().is_some_and(|known| known.digest == digest));
        let way = known.unwrap_or(WAYS - 1);
        if set[way].is_none() {
            self.kept.fetch_add(1, Ordering::Relaxed);
        }
        set[..=way].rotate_right(1);
        set[0] = Some(Box::new(Known { digest, key, user }));
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    fn shard(&self, digest: &Digest) -> &Mutex<Box<[Set]>> {
        &self.shards[digest.number(0) % SHARDS]
    }
}

fn set_of<'a>(shard: &'a mut [Set], digest: &Digest) -> &'a mut Set {
    let at = digest.number(8) & (shard.len() - 1);
    &mut shard[at]
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;

    use super::super::jwks::KeySet;
    use super::*;

    const JWKS: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn key(until: Millis) -> Arc<Key> {
        let (keys, _) = KeySet::read(JWKS.as_bytes(), &[Algorithm::EdDSA]).unwrap();
        let key = keys.find(Some("a"), Algorithm::EdDSA).unwrap().clone();
        key.believe_until(until);
        key
    }

    fn user(name: &str, ends_at: Millis) -> Arc<User> {
        Arc::new(User::new("i", name.to_owned(), None, ends_at).unwrap())
    }

    #[test]
    fn a_token_is_known_until_it_or_its_key_ends() {
        let (remembered, key) = (Remembered::new(1_000), key(200));
        let digest = Digest::of("token");
        assert!(remembered.find(&digest, 0).is_none());
        remembered.keep(digest, key.clone(), user("ann", 100));
        assert_eq!(remembered.find(&digest, 99).unwrap().name(), "ann");
        assert!(remembered.find(&Digest::of("token "), 0).is_none());
        assert!(remembered.find(&digest, 100).is_none() && remembered.len() == 0);
        remembered.keep(digest, key.clone(), user("ann", 1_000));
        remembered.keep(digest, key.clone(), user("ann", 1_000));
        assert_eq!(remembered.len(), 1);
        assert!(remembered.find(&digest, 199).is_some() && remembered.find(&digest, 200).is_none());
        remembered.keep(digest, key.clone(), user("ann", 1_000));
        key.believe_until(0);
        assert!(remembered.find(&digest, 0).is_none() && remembered.len() == 0);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stays() {
        let (remembered, key) = (Remembered::new(256), key(10));
        for n in 0..5_000 {
            remembered.keep(Digest::of(&n.to_string()), key.clone(), user("ann", 10));
            assert!(remembered.find(&Digest::of(&n.to_string()), 0).is_some());
        }
        assert!(remembered.len() <= 256 && remembered.len() > 200, "{}", remembered.len());
    }
}
