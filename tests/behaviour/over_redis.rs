//! The store over Redis under the suite for every store: the scripts in a real server.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::HandClock;
use anteroom::room::snapshot::{Known, Snapshot};
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Newcomer, Outcome};
use anteroom::rooms::Options;
use anteroom::store::Store;
use anteroom::store::redis::RedisStore;
use anteroom::store::redis::shards::{Health, Shards, Timing};
use anteroom::store::target::Target;
use anteroom::telemetry::metrics::shards::ShardMetrics;
use async_trait::async_trait;

use crate::policies::{name, under};
use crate::redis_server::server::Server;
use crate::store::{MAX_ROOMS, Subject, behaves_like_a_store, place};
use crate::world::TICK;

/// Any time will do; it moves by hand only.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// A store over a server of its own.
pub(crate) struct OverRedis {
    store: Arc<RedisStore>,
    clock: HandClock,
    server: Server,
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

pub(crate) async fn fresh() -> OverRedis {
    let server = Server::start().await;
    let target = Target::parse(&server.url()).unwrap();
    let timing = Timing::with_budget(Duration::from_secs(20));
    let shards = Shards::connect(&target, timing, ShardMetrics::unregistered()).unwrap();
    shards.health().wait_for(Health::all_served).await.unwrap();
    let clock = HandClock::at(START_MS);
    let store = Arc::new(RedisStore::with_clock(shards, MAX_ROOMS, Some(clock.clone())));
    OverRedis { store, clock, server }
}

behaves_like_a_store!(crate::over_redis::fresh, flavor = "multi_thread", worker_threads = 2);

/// The options of a replica that is ticked by hand.
pub(crate) fn options() -> Options {
    Options {
        tick: TICK,
        store_budget: Duration::from_secs(20),
        ticket_ttl: 3_600_000,
        max_rooms: 10,
        max_streams: 10,
    }
}

impl OverRedis {
    /// Sets its clock, forward or back.
    pub(crate) fn set(&self, ms: u64) {
        self.clock.set(ms);
    }

    async fn arrive(&self, call: &Call, count: usize) -> Vec<Place> {
        let newcomers = vec![Newcomer::default(); count];
        let outcomes = self.store.arrive(&name("shop"), call, &newcomers).await.unwrap();
        outcomes.iter().map(place).collect()
    }

    async fn observe(&self, call: &Call, known: Option<&Snapshot>) -> Snapshot {
        self.store.observe(&name("shop"), call, &Beats::new(), known).await.unwrap()
    }

    async fn enter(&self, call: &Call, place: Place) -> Outcome {
        self.store.enter(&name("shop"), call, &[place]).await.unwrap()[0]
    }

    /// Deletes one key of the room, as a hand or a server that is full does.
    fn delete(&self, key: &str) {
        self.server.command(&["DEL", &format!("anteroom:{{shop}}:{key}")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_deleted_alone_comes_back_from_a_replica() {
    let (shop, call) = (fresh().await, under("capacity=0"));
    let places = shop.arrive(&call, 9).await;
    let known = shop.observe(&call, None).await;
    shop.delete("0:line");
    let doubtful = shop.observe(&call, None).await;
    assert!(doubtful.lines.iter().any(|line| line.in_doubt), "the replica must see that it knows better");
    let healed = shop.observe(&call, Some(&known)).await;
    for (position, place) in (1..).zip(&places) {
        assert_eq!(healed.know(*place), Known::Waiting(position));
    }
    let newcomer = shop.arrive(&call, 1).await[0];
    assert!(!places.contains(&newcomer), "a number is given once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_deleted_alone_comes_back_with_its_tickets() {
    let (shop, call) = (fresh().await, under("capacity=0"));
    let places = shop.arrive(&call, 3).await;
    shop.delete("0:line");
    for place in places.iter().rev() {
        assert!(matches!(shop.enter(&call, *place).await, Outcome::Waiting(..)), "{place:?}");
    }
    assert_eq!(shop.enter(&call, places[2]).await, Outcome::Waiting(places[2], 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_of_calls_deleted_alone_are_free_again() {
    let limits = under("capacity=2 claim_ttl=8s session_ttl=5s patience=60s");
    for key in ["0:called", "0:calls"] {
        let shop = fresh().await;
        let (inside, waiting) = (shop.arrive(&limits, 2).await, shop.arrive(&limits, 4).await);
        for place in &inside {
            shop.store.leave(&name("shop"), &limits, &[(*place, Some(START_MS + 5_000))]).await.unwrap();
        }
        assert_eq!(shop.observe(&limits, None).await.called, 2);
        shop.delete(key);
        // Beyond the pause after a loss, and the time to enter.
        for _ in 0..20 {
            shop.pass(Duration::from_secs(1)).await;
            shop.observe(&limits, None).await;
        }
        let mut entered = 0;
        for place in &waiting {
            entered += usize::from(matches!(shop.enter(&limits, *place).await, Outcome::Admitted(..)));
        }
        assert_eq!(entered, 2, "after {key} was deleted: {:?}", shop.observe(&limits, None).await);
    }
}
