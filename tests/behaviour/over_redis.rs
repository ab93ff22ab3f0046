//! The store over Redis under the suite for every store: the scripts in a real server.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::HandClock;
use anteroom::store::Store;
use anteroom::store::redis::RedisStore;
use anteroom::store::redis::shards::{Health, Shards, Timing};
use anteroom::store::target::Target;
use anteroom::telemetry::metrics::shards::ShardMetrics;
use async_trait::async_trait;

use crate::redis_server::server::Server;
use crate::store::{MAX_ROOMS, Subject, behaves_like_a_store};

/// Any time will do; it moves by hand only.
const START_MS: u64 = 1_700_000_000_000;

/// A store over a server of its own.
struct OverRedis {
    store: Arc<RedisStore>,
    clock: HandClock,
    _server: Server,
}

#[async_trait]
impl Subject for OverRedis {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn pass(&self, time: Duration) {
        self.clock.set(self.clock.now_ms() + u64::try_from(time.as_millis()).unwrap());
    }
}

async fn fresh() -> OverRedis {
    let server = Server::start().await;
    let target = Target::parse(&server.url()).unwrap();
    let timing = Timing::with_budget(Duration::from_secs(20));
    let shards = Shards::connect(&target, timing, ShardMetrics::unregistered()).unwrap();
    shards.health().wait_for(Health::all_served).await.unwrap();
    let clock = HandClock::at(START_MS);
    let store = Arc::new(RedisStore::with_clock(shards, MAX_ROOMS, Some(clock.clone())));
    OverRedis { store, clock, _server: server }
}

behaves_like_a_store!(crate::over_redis::fresh, flavor = "multi_thread", worker_threads = 2);
