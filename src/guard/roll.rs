//! The roll: which replicas are there, and the document that all of them have.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use uuid::Uuid;

use super::reach::Reach;
use crate::store::StoreError;
use crate::store::ledger::{Document, Muster, Offer, Presence, TooLong};
use crate::telemetry::metrics::label::StoreOp;

/// Who else is there, as far as this replica has heard.
pub struct Roll {
    reach: Arc<Reach>,
    presence: Presence,
    document: watch::Sender<Option<Document>>,
}

/// Why a document was not shared.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// It is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// There is one that this replica had not heard of; by now it has.
    #[error("the shared document was changed meanwhile; change the new one instead")]
    Outdated,
    /// The ledger did not answer; it may have the document.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Roll {
    pub(super) fn new(reach: Arc<Reach>, checks: bool) -> Self {
        Self { reach, presence: Presence { id: Uuid::new_v4(), checks }, document: watch::Sender::new(None) }
    }

    /// Replicas that answer Checks, 1 at least: those of five seconds before the last answer of the ledger.
    pub fn replicas(&self) -> u32 {
        self.reach.replicas.load(Ordering::Relaxed)
    }

    /// The shared document, always the newest that was heard of; `None`: there was none yet.
    pub fn document(&self) -> watch::Receiver<Option<Document>> {
        self.document.subscribe()
    }

    /// Shares a text in place of the document that this replica has; all replicas have it within two seconds. Its
    /// version.
    pub async fn post(&self, text: &str) -> Result<u64, PostError> {
        self.replace(self.version(), text).await
    }

    /// The same in place of the document of this version, for whoever has made the text from that.
    pub async fn replace(&self, known: u64, text: &str) -> Result<u64, PostError> {
        let document = Document::new(text)?;
        let call = self.reach.ledger.sync(&self.presence, known, Offer::New(&document));
        let muster = self.reach.timed.call(StoreOp::Sync, call).await?;
        let (version, is_ours) = (muster.version, muster.document.is_none());
        self.heard(muster);
        if !is_ours {
            return Err(PostError::Outdated);
        }
        self.learn(document.given(version));
        Ok(version)
    }

    /// Says that this replica is there, and hears what is new: [`Roll::document`] is the newest then.
    pub(super) async fn call(&self) -> Result<(), StoreError> {
        let known = self.document.borrow().clone();
        let version = known.as_ref().map_or(0, Document::version);
        let ledger = &self.reach.ledger;
        let call = ledger.sync(&self.presence, version, Offer::Nothing);
        let muster = self.reach.timed.call(StoreOp::Sync, call).await?;
        let is_lost = muster.version < version;
        self.heard(muster);
        if let Some(known) = known.filter(|_| is_lost) {
            tracing::warn!(version, "the store has lost the shared document; this replica puts it back");
            let call = ledger.sync(&self.presence, version, Offer::Lost(&known));
            // Where that fails, the next turn finds it lost again.
            if let Ok(muster) = self.reach.timed.call(StoreOp::Sync, call).await {
                self.heard(muster);
            }
        }
        Ok(())
    }

    fn heard(&self, muster: Muster) {
        let replicas = muster.checking.max(1);
        self.reach.replicas.store(replicas, Ordering::Relaxed);
        self.reach.metrics.set_replicas(replicas);
        if let Some(document) = muster.document {
            self.learn(document);
        }
    }

    fn learn(&self, document: Document) {
        self.document.send_if_modified(|known| {
            let is_newer = known.as_ref().map_or(0, Document::version) < document.version();
            if is_newer {
                *known = Some(document);
            }
            is_newer
        });
    }

    fn version(&self) -> u64 {
        self.document.borrow().as_ref().map_or(0, Document::version)
    }
}
