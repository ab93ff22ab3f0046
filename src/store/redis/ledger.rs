//! The ledger over Redis: each bucket of keys has a hash tag of its own, so that they spread over all servers, and one
//! call of each operation under way.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fred::types::Value;
use tokio_util::task::TaskTracker;

use super::decode::{self, Garbled};
use super::lane::{Gathered, Lane, Runner};
use super::script::Script;
use super::{Link, RedisStore};
use crate::clock::HandClock;
use crate::room::gcra::{Decision, Quota};
use crate::room::policy::Millis;
use crate::store::StoreError;
use crate::store::ledger::{
    BUCKETS, Claimed, Document, Holder, Key, Ledger, Muster, Offer, Presence, STAY_MS,
};

/// Where replicas say that they are there. No name of a room begins like this tag, nor like those of the buckets
/// ([`crate::room::name::RoomName::RULE`]).
const MUSTER: &str = "~muster";

/// What is asked about a key, in one lane: what is given back comes behind its claim.
#[derive(Clone, Copy)]
enum Wish {
    /// It is claimed for so long.
    Claim(Holder, Millis),
    GiveBack(Holder),
    Look,
}

/// The ledger over Redis.
pub struct RedisLedger {
    link: Arc<Link>,
    buckets: Box<[Arc<Bucket>]>,
    tasks: TaskTracker,
}

/// The keys of a bucket as this replica asks for them.
struct Bucket {
    link: Arc<Link>,
    tag: String,
    spend: Arc<Lane<Spend>>,
    claim: Arc<Lane<Claim>>,
}

struct Spend;
struct Claim;

impl Gathered for Spend {
    type Call = ();
    type Item = (Key, Quota);
    type Answer = Decision;
}

impl Gathered for Claim {
    type Call = ();
    type Item = (Key, Wish);
    type Answer = Claimed;
}

impl RedisStore {
    /// The ledger over the same connections; it ends with the store.
    pub fn ledger(&self) -> RedisLedger {
        let metrics = self.link.shards.metrics();
        let bucket = |number: usize| Bucket {
            link: self.link.clone(),
            tag: format!("~{number}"),
            spend: Arc::new(Lane::new(metrics.clone())),
            claim: Arc::new(Lane::new(metrics.clone())),
        };
        RedisLedger {
            link: self.link.clone(),
            buckets: (0..BUCKETS).map(|number| Arc::new(bucket(number))).collect(),
            tasks: self.tasks.clone(),
        }
    }
}

impl RedisLedger {
    fn bucket(&self, key: Key) -> &Arc<Bucket> {
        &self.buckets[usize::from(key.bucket())]
    }

    async fn wish(&self, key: Key, wish: Wish) -> Result<Claimed, StoreError> {
        let bucket = self.bucket(key);
        one(bucket.claim.pass(bucket, &self.tasks, &(), &[(key, wish)]).await?)
    }

    async fn muster(
        &self,
        presence: &Presence,
        known: u64,
        offer: (&str, &str),
    ) -> Result<Muster, StoreError> {
        let keys =
            ["checking", "others", "document"].map(|key| format!("anteroom:{{{MUSTER}}}:{key}").into());
        let args: Vec<Bytes> = vec![
            presence.id.into_bytes().to_vec().into(),
            u8::from(presence.checks).to_string().into(),
            STAY_MS.to_string().into(),
            known.to_string().into(),
            offer.0.to_owned().into(),
            offer.1.to_owned().into(),
        ];
        let answer = script(&self.link, MUSTER, &self.link.scripts.muster, keys.to_vec(), args).await?;
        Ok(muster(answer)?)
    }
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn spend(&self, key: Key, quota: Quota) -> Result<Decision, StoreError> {
        let bucket = self.bucket(key);
        one(bucket.spend.pass(bucket, &self.tasks, &(), &[(key, quota)]).await?)
    }

    async fn claim(&self, key: Key, holder: Holder, ttl: Millis) -> Result<Claimed, StoreError> {
        self.wish(key, Wish::Claim(holder, ttl.max(1))).await
    }

    async fn look(&self, key: Key) -> Result<Claimed, StoreError> {
        self.wish(key, Wish::Look).await
    }

    async fn release(&self, key: Key, holder: Holder) -> Result<(), StoreError> {
        self.wish(key, Wish::GiveBack(holder)).await.map(drop)
    }

    async fn sync(&self, presence: &Presence, known: u64, offer: Offer<'_>) -> Result<Muster, StoreError> {
        let offer = match offer {
            Offer::Nothing => ("", ""),
            Offer::New(document) => ("new", document.text()),
            Offer::Lost(document) => ("lost", document.text()),
        };
        self.muster(presence, known, offer).await
    }
}

#[async_trait]
impl Runner<Spend> for Bucket {
    async fn run(&self, (): (), spends: Vec<(Key, Quota)>) -> Result<Vec<Decision>, StoreError> {
        let now = self.link.clock.as_ref().map(HandClock::now_ms);
        let mut args: Vec<Bytes> = vec![now.map(|now| (now * 1_000).to_string()).unwrap_or_default().into()];
        args.extend(spends.iter().map(|(_, quota)| packed(quota)));
        let keys = spends.iter().map(|(key, _)| self.key('l', *key)).collect();
        let answer = script(&self.link, &self.tag, &self.link.scripts.limit, keys, args).await?;
        Ok(decisions(answer, spends.len())?)
    }
}

#[async_trait]
impl Runner<Claim> for Bucket {
    async fn run(&self, (): (), wishes: Vec<(Key, Wish)>) -> Result<Vec<Claimed>, StoreError> {
        let of_each = wishes.iter().map(|(_, wish)| match wish {
            Wish::Claim(holder, ttl) => [ttl.to_string(), holder.number().to_string()],
            Wish::GiveBack(holder) => ["0".to_owned(), holder.number().to_string()],
            Wish::Look => ["look".to_owned(), "0".to_owned()],
        });
        let args = of_each.flatten().map(Bytes::from).collect();
        let keys = wishes.iter().map(|(key, _)| self.key('o', *key)).collect();
        let answer = script(&self.link, &self.tag, &self.link.scripts.once, keys, args).await?;
        Ok(claimed(answer, wishes.len())?)
    }
}

impl Bucket {
    /// The key's name: what it is for, and the digest as it is.
    fn key(&self, kind: char, key: Key) -> Bytes {
        let mut name = format!("anteroom:{{{}}}:{kind}", self.tag).into_bytes();
        name.extend(key.0);
        name.into()
    }
}

async fn script(
    link: &Link,
    tag: &str,
    script: &Script,
    keys: Vec<Bytes>,
    args: Vec<Bytes>,
) -> Result<Value, StoreError> {
    let answer = link.shards.run(tag, script, keys, args).await;
    answer.map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// A quota as the script reads it. Only whole quotas get here: what a replica allows by itself needs no store.
fn packed(quota: &Quota) -> Bytes {
    let period = u32::try_from(quota.period() / 1_000).unwrap_or(u32::MAX);
    [quota.count(), period, quota.burst()].map(u32::to_be_bytes).concat().into()
}

fn decisions(answer: Value, count: usize) -> Result<Vec<Decision>, Garbled> {
    let decided: Result<Vec<_>, _> = decode::array(answer)?
        .chunks(4)
        .map(|told| {
            let [allowed, remaining, retry_after, reset] = told else {
                return Err(Garbled("four numbers for each key"));
            };
            Ok(Decision {
                allowed: decode::number(allowed)? == 1,
                remaining: u32::try_from(decode::number(remaining)?).unwrap_or(u32::MAX),
                retry_after: decode::number(retry_after)?,
                reset: decode::number(reset)?,
            })
        })
        .collect();
    decided.and_then(|decided| for_each(decided, count))
}

fn claimed(answer: Value, count: usize) -> Result<Vec<Claimed>, Garbled> {
    let claimed: Result<Vec<_>, _> = decode::array(answer)?
        .chunks(2)
        .map(|told| {
            let [left, holder] = told else { return Err(Garbled("two numbers for each key")) };
            let (left, holder) = (decode::number(left)?, Holder::numbered(decode::number(holder)?));
            Ok(if left == 0 { Claimed::First } else { Claimed::Taken(holder, left) })
        })
        .collect();
    claimed.and_then(|claimed| for_each(claimed, count))
}

fn for_each<T>(answers: Vec<T>, count: usize) -> Result<Vec<T>, Garbled> {
    if answers.len() == count { Ok(answers) } else { Err(Garbled("an answer for each key")) }
}

fn one<T>(mut answers: Vec<T>) -> Result<T, StoreError> {
    answers.pop().ok_or_else(|| Garbled("an answer for each key").into())
}

fn muster(answer: Value) -> Result<Muster, Garbled> {
    let mut told = decode::array(answer)?.into_iter();
    let mut number = || told.next().ok_or(Garbled("three numbers")).and_then(|value| decode::number(&value));
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let (checking, others, version) = (count(number()?), count(number()?), number()?);
    let document = match told.next() {
        None | Some(Value::Null) => None,
        Some(text) => {
            let document =
                Document::new(decode::text(&text)?).map_err(|_| Garbled("a document of a megabyte"))?;
            Some(document.given(version))
        }
    };
    Ok(Muster { checking, others, version, document })
}

#[cfg(test)]
mod tests;
