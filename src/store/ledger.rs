//! What replicas count together for each key: what is left of a limit, and what was there before. And who is there to
//! count.

use std::sync::Arc;

use async_trait::async_trait;

use super::StoreError;
use crate::room::digest::digest;
use crate::room::gcra::{Decision, Quota};
use crate::room::policy::Millis;

/// The shared counters.
///
/// No call waits longer than the store's budget. One whose answer was lost may have counted.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Spends one request from a key's quota, if that has any left.
    async fn spend(&self, key: Key, quota: Quota) -> Result<Decision, StoreError>;

    /// Claims a key for `ttl` milliseconds, 1 at least, and keeps who did. Another try of the request that has it is told so, and
    /// from then on [both](Holder::of_several) have it: nobody knows which of them will be heard.
    async fn claim(&self, key: Key, holder: Holder, ttl: Millis) -> Result<Claimed, StoreError>;

    /// What a claim of a key would come to now. Claims nothing.
    async fn look(&self, key: Key) -> Result<Claimed, StoreError>;

    /// Gives a key back, if this very try alone has it. What it has claimed before, answered or not, does not come after this.
    async fn release(&self, key: Key, holder: Holder) -> Result<(), StoreError>;

    /// Says that a replica is there, and hears how many are, and the document if it is newer than the version `known`.
    /// Whoever has not said so for [`STAY_MS`] is not there any more.
    async fn sync(&self, presence: &Presence, known: u64, offer: Offer<'_>) -> Result<Muster, StoreError>;
}

/// What is to be done with a document.
#[derive(Clone, Copy, Debug)]
pub enum Offer<'a> {
    /// Nothing.
    Nothing,
    /// It takes the place of the one known, with a version of its own, unless the ledger has a newer one: then that is
    /// in the answer.
    New(&'a Document),
    /// It is the one known, and the ledger has lost it.
    Lost(&'a Document),
}

/// How long a replica counts as there after it has said so, in milliseconds.
pub const STAY_MS: Millis = 5_000;

/// What is counted by: a digest, so that neither addresses nor names stand in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 16]);

impl Key {
    /// The key of these parts, the same on all replicas. Whoever counts something of another kind begins with another
    /// word.
    pub fn of(parts: &[&[u8]]) -> Self {
        Self(digest(parts))
    }

    /// The bucket that it is in, one of [`BUCKETS`]. Keys of a bucket are together; buckets spread over servers.
    pub fn bucket(self) -> u8 {
        self.0[0]
    }
}

/// How many buckets there are.
pub const BUCKETS: usize = 256;

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody had the key.
    First,
    /// This one has it, for so many milliseconds more.
    Taken(Holder, Millis),
}

/// One try of a request to claim a key, as a number below 2^53, which Lua has no trouble with and Redis keeps in the place
/// of a pointer: 36 bits of which request, 17 of which try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(u64);

/// Bits of the number that tell tries of one request apart. `lua/once.lua` has the same.
const TRY_BITS: u32 = 17;

impl Holder {
    /// A try of a request that has no id: no other is the same request.
    pub fn unique() -> Self {
        Self(random() >> (64 - 36 - TRY_BITS) | 1)
    }

    /// A new try of the request of this id, which whoever makes requests must not be able to choose.
    pub fn of(id: &str) -> Self {
        let [head @ .., _, _, _, _, _, _, _, _] = digest(&[b"holder", id.as_bytes()]);
        let request = u64::from_be_bytes(head) >> (64 - 36);
        Self(request << TRY_BITS | random() >> (64 - TRY_BITS) | 1)
    }

    /// Several tries of this request, none of them in particular: no try has this number.
    #[must_use]
    pub fn of_several(self) -> Self {
        Self(self.0 >> TRY_BITS << TRY_BITS)
    }

    /// Whether both are tries of one request.
    pub fn is_of_one_request(self, other: Self) -> bool {
        self.0 >> TRY_BITS == other.0 >> TRY_BITS
    }

    /// The one of this number.
    pub fn numbered(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Random bits, the high ones included.
fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 << 2
}

/// A replica that is there.
#[derive(Clone, Debug)]
pub struct Presence {
    /// What it is told apart by.
    pub id: uuid::Uuid,
    /// Whether it answers Checks, and so has a part in limits.
    pub checks: bool,
}

/// A text that all replicas have: whoever changes it posts the whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    version: u64,
    text: Arc<str>,
}

/// A document that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared document has {length} bytes, and {max} at most are shared", max = Document::MAX_LEN)]
pub struct TooLong {
    /// Its bytes.
    pub length: usize,
}

impl Document {
    /// The longest text, in bytes.
    pub const MAX_LEN: usize = 1 << 20;

    /// A text that is to be shared.
    pub fn new(text: &str) -> Result<Self, TooLong> {
        if text.len() > Self::MAX_LEN {
            return Err(TooLong { length: text.len() });
        }
        Ok(Self { version: 0, text: text.into() })
    }

    /// The same with the version that it was given.
    #[must_use]
    pub fn given(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// Its version: the later, the higher. 0: not shared yet.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Who is there, and what they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Muster {
    /// Replicas that answer Checks.
    pub checking: u32,
    /// The others.
    pub others: u32,
    /// The version of the document that the ledger has; 0: none. Less than one knows of: it was lost.
    pub version: u64,
    /// The document, if it is newer than what one knows of.
    pub document: Option<Document>,
}
