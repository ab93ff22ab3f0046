//! The embedded store under the suite for every store.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::store::Store;
use anteroom::store::checkpoint::Checkpoint;
use anteroom::store::memory::MemoryStore;
use async_trait::async_trait;
use tempfile::TempDir;

use crate::store::{MAX_ROOMS, Subject, behaves_like_a_store};

/// A store over tokio's time, with its directory if it keeps one.
struct Embedded {
    store: Arc<MemoryStore>,
    _dir: Option<TempDir>,
}

#[async_trait]
impl Subject for Embedded {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }
}

async fn forgetful() -> Embedded {
    Embedded { store: Arc::new(MemoryStore::new(Clock::system(), MAX_ROOMS)), _dir: None }
}

async fn kept() -> Embedded {
    let dir = TempDir::new().unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let store = MemoryStore::open(Clock::system(), MAX_ROOMS, checkpoint).unwrap();
    Embedded { store: Arc::new(store), _dir: Some(dir) }
}

mod that_forgets {
    super::behaves_like_a_store!(super::forgetful, start_paused = true);
}

mod with_a_checkpoint {
    super::behaves_like_a_store!(super::kept, start_paused = true);
}
