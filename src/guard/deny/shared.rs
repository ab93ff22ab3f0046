//! The operators' entries: one document that all replicas have, changed by whoever of them an operator asks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Denials;
use crate::guard::Guard;
use crate::guard::roll::PostError;
use crate::room::deny::written::Written;
use crate::room::deny::{DenyError, Entry, Whom};
use crate::room::policy::Millis;
use crate::store::StoreError;
use crate::store::ledger::{Document, TooLong};

/// The most entries that operators may have made.
pub const MAX_SHARED: usize = 10_000;
/// How long an entry is kept that is over, in milliseconds. It means nobody; but another replica's clock may say that it is
/// not over yet, and one change made by a clock that is ahead must not take it back for all. An hour is far more than
/// clocks differ by that are looked after at all.
const KEPT: Millis = 3_600_000;
/// How often a change is tried that others are quicker than, or that has to make room.
const TRIES: u32 = 8;

/// The document.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Shared {
    deny: Vec<Written>,
}

/// Why the operators' entries were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There are [`MAX_SHARED`] already.
    #[error(
        "operators have made {MAX_SHARED} entries, and may have no more: take some back, or use the deny file"
    )]
    TooMany,
    /// The entry would mean nobody.
    #[error("until is over already: write a time to come, or none")]
    Over,
    /// No list can be made of them.
    #[error(transparent)]
    Deny(#[from] DenyError),
    /// All replicas have the change by now, but this one's deny file has grown meanwhile.
    #[error(
        "the change is made, and this replica cannot use the list beside its deny file: {0}; shorten that file"
    )]
    NotHere(DenyError),
    /// They come to too much text.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Operators have made no such entry.
    #[error("operators have made no entry for {0}; those of the deny file are changed there")]
    NotThere(Whom),
    /// What replicas share cannot be understood: it is a newer version's.
    #[error(
        "the entries that replicas share cannot be understood ({0}); ask a replica of the newest version"
    )]
    Unread(String),
    /// Others have changed it each time.
    #[error("others are changing the list at the same time; try again")]
    Busy,
    /// What others have changed meanwhile cannot be found out.
    #[error("the store does not answer ({0}): nothing was done")]
    Unheard(StoreError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A change of the operators' entries.
#[derive(Clone, Debug)]
pub enum Change {
    /// Somebody is to be refused; in place of an entry for the same.
    Add(Entry),
    /// Nobody is to be refused for this any more.
    Remove(Whom),
}

impl Guard {
    /// Changes the operators' entries for all replicas, and puts them in force here. Entries that are over for an hour go,
    /// and where there is no room otherwise, all that are over.
    ///
    /// [`ChangeError::Store`]: it may have been done. [`ChangeError::NotHere`]: it was. With every other error it was not.
    pub async fn change_shared(
        &self,
        change: &Change,
        denials: &Denials,
        now: Millis,
    ) -> Result<(), ChangeError> {
        let whom = match change {
            Change::Add(entry) if entry.is_over(now) => return Err(ChangeError::Over),
            Change::Add(entry) => &entry.whom,
            Change::Remove(whom) => whom,
        };
        // What an operator has asked another replica for a moment ago counts: its entry can be taken back here.
        self.roll.call().await.map_err(ChangeError::Unheard)?;
        let mut kept = KEPT;
        for _ in 0..TRIES {
            let known = self.roll.document().borrow().clone();
            let entries = known.as_ref().map(read).transpose()?.unwrap_or_default();
            let over_since = now.saturating_sub(kept);
            let is_any_over = entries.iter().any(|entry| entry.is_over(now) && !entry.is_over(over_since));
            let version = known.as_ref().map_or(0, Document::version);
            let changed = changed(entries, change, whom, over_since);
            let posted = match changed {
                Ok(entries) => self.post_shared(version, entries, change, denials).await,
                Err(error) => Err(error),
            };
            match posted {
                Err(ChangeError::Busy) => {}
                Err(ChangeError::TooMany | ChangeError::TooLong(_) | ChangeError::Deny(_)) if is_any_over => {
                    kept = 0;
                }
                done => return done,
            }
        }
        Err(ChangeError::Busy)
    }

    /// Shares these entries in place of those of this version. [`ChangeError::Busy`]: others have changed them meanwhile.
    async fn post_shared(
        &self,
        version: u64,
        entries: Vec<Entry>,
        change: &Change,
        denials: &Denials,
    ) -> Result<(), ChangeError> {
        let deny = entries.iter().map(Written::from).collect();
        let text = serde_json::to_string(&Shared { deny });
        let text = text.map_err(|error| ChangeError::Unread(error.to_string()))?;
        // Before anybody has it: every replica must be able to use it, beside a deny file like the one here.
        if matches!(change, Change::Add(_)) {
            denials.try_share(&entries)?;
        }
        match self.roll.replace(version, &text).await {
            Ok(version) => denials.share(version, entries).map_err(ChangeError::NotHere),
            Err(PostError::Outdated) => Err(ChangeError::Busy),
            Err(PostError::TooLong(error)) => Err(error.into()),
            Err(PostError::Store(error)) => Err(error.into()),
        }
    }

    /// Puts what operators have asked any replica for in force here, as it comes, until `closing`. What cannot be used
    /// leaves the list as it was.
    pub async fn follow_shared(&self, denials: Arc<Denials>, closing: impl Future<Output = ()>) {
        let mut document = self.roll.document();
        tokio::pin!(closing);
        loop {
            let known = document.borrow_and_update().clone();
            if let Some(known) = known {
                let taken = read(&known).and_then(|entries| Ok(denials.share(known.version(), entries)?));
                if let Err(error) = taken {
                    tracing::error!(%error, "operators' entries cannot be used; the deny list stays as it was");
                }
            }
            tokio::select! {
                () = &mut closing => return,
                changed = document.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// The entries after a change that means `whom`, without those that were over at `over_since`.
fn changed(
    mut entries: Vec<Entry>,
    change: &Change,
    whom: &Whom,
    over_since: Millis,
) -> Result<Vec<Entry>, ChangeError> {
    let count = entries.len();
    entries.retain(|entry| !entry.whom.means(whom));
    let is_there = entries.len() < count;
    entries.retain(|entry| !entry.is_over(over_since));
    match change {
        Change::Add(_) if entries.len() >= MAX_SHARED => return Err(ChangeError::TooMany),
        Change::Add(entry) => entries.push(entry.clone()),
        Change::Remove(_) if !is_there => return Err(ChangeError::NotThere(whom.clone())),
        Change::Remove(_) => {}
    }
    Ok(entries)
}

fn read(document: &Document) -> Result<Vec<Entry>, ChangeError> {
    let unread = |why: String| ChangeError::Unread(why);
    let shared: Shared = serde_json::from_str(document.text()).map_err(|error| unread(error.to_string()))?;
    if shared.deny.len() > MAX_SHARED {
        return Err(ChangeError::TooMany);
    }
    let entries = shared.deny.into_iter().map(Written::entry);
    entries.collect::<Result<_, _>>().map_err(|mistake| unread(mistake.to_string()))
}
