//! What a line costs Redis: memory and CPU for each visitor, and what a tick costs with a million waiting.
//!
//! Run by `make bench-redis`: starts a redis-server of its own, fills a room, prints, and ends it.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // A program for people to read; what fails ends it.

#[path = "../../tests/support/redis.rs"]
mod redis;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::room::bits::Bits;
use anteroom::room::name::RoomName;
use anteroom::room::policy::Policy;
use anteroom::room::snapshot::Snapshot;
use anteroom::room::state::{Beats, Call, Newcomer, Outcome, Subject};
use anteroom::store::Store as _;
use anteroom::store::redis::RedisStore;
use anteroom::store::redis::shards::{Shards, Timing};
use anteroom::store::target::Target;
use anteroom::telemetry::metrics::shards::ShardMetrics;
use redis::server::Server;

const VISITORS: usize = 1_000_000;
/// A room of users, whom nobody calls.
const USERS: &str = "capacity=0 patience=31d identity=subject";

#[tokio::main]
async fn main() {
    let server = Server::start().await;
    let target = Target::parse(&server.url()).unwrap();
    let timing = Timing::with_budget(Duration::from_secs(20));
    let shards = Shards::connect(&target, timing, ShardMetrics::unregistered()).unwrap();
    shards.health().wait_for(anteroom::store::redis::shards::Health::all_served).await.unwrap();
    let bench = Bench { store: RedisStore::new(shards, 100), server };
    println!("Redis {}, one room, no admissions unless said\n", bench.info("server", "redis_version"));
    println!("{:<44} {:>10} {:>12} {:>12}", "arrivals", "calls", "µs of script", "µs of CPU");
    println!("{:<44} {:>10} {:>12} {:>12}", "", "", "each", "each");
    for (batch, calls) in [(1, 20_000), (10, 10_000), (100, 5_000), (1_000, 500)] {
        bench.arrivals(&format!("batch of {batch}"), "capacity=0", batch, calls).await;
    }
    bench.arrivals("batch of 100, all let in at once (rate)", "rate=1000000000/s", 100, 5_000).await;
    bench.arrivals("batch of 100, all let in at once (capacity)", "capacity=1000000", 100, 2_000).await;
    bench.arrivals("batch of 1, a user each", USERS, 1, 20_000).await;
    bench.arrivals("batch of 100, a user each", USERS, 100, 2_000).await;
    bench.a_million().await;
    bench.a_million_users().await;
    bench.store.close().await;
}

struct Bench {
    store: RedisStore,
    server: Server,
}

impl Bench {
    fn info(&self, section: &str, key: &str) -> String {
        self.server.info(section).get(key).cloned().unwrap_or_default()
    }

    /// Microseconds spent in scripts, and CPU microseconds of the server, since it started.
    fn spent(&self) -> (f64, f64) {
        let scripts: f64 = ["cmdstat_evalsha", "cmdstat_eval"]
            .iter()
            .filter_map(|key| {
                self.server
                    .info("commandstats")
                    .get(*key)?
                    .split("usec=")
                    .nth(1)?
                    .split(',')
                    .next()?
                    .parse::<f64>()
                    .ok()
            })
            .sum();
        let cpu: f64 = ["used_cpu_user", "used_cpu_sys"]
            .iter()
            .filter_map(|key| self.info("cpu", key).parse::<f64>().ok())
            .sum();
        (scripts, cpu * 1e6)
    }

    fn memory(&self) -> f64 {
        self.info("memory", "used_memory").parse().unwrap_or_default()
    }

    async fn arrivals(&self, what: &str, words: &str, batch: usize, calls: usize) {
        self.server.command(&["FLUSHALL"]);
        let call = call(words);
        let newcomers = |turn| if words == USERS { users(turn, batch) } else { strangers(batch) };
        self.store.arrive(&room(), &call, &newcomers(0)).await.unwrap();
        let before = self.spent();
        for turn in 1..=calls {
            self.store.arrive(&room(), &call, &newcomers(turn)).await.unwrap();
        }
        let after = self.spent();
        let count = (calls * batch) as f64;
        let (script, cpu) = ((after.0 - before.0) / count, (after.1 - before.1) / count);
        println!("{what:<44} {calls:>10} {script:>12.3} {cpu:>12.3}");
    }

    async fn a_million(&self) {
        self.server.command(&["FLUSHALL"]);
        let call = call("capacity=0 patience=31d");
        let empty = self.memory();
        let newcomers = strangers(100);
        let before = self.spent();
        let mut last = None;
        for _ in 0..VISITORS / 100 {
            last = self.store.arrive(&room(), &call, &newcomers).await.unwrap().last().copied();
        }
        let after = self.spent();
        assert!(matches!(last, Some(Outcome::Waiting(_, position)) if position == VISITORS as u64));
        println!("\n{VISITORS} waiting, that came in batches of 100");
        let each = |total: f64| total / VISITORS as f64;
        println!("{:<44} {:>10.3} bytes", "memory for each", each(self.memory() - empty));
        println!("{:<44} {:>10.3} µs", "script for each arrival", each(after.0 - before.0));
        println!("{:<44} {:>10.3} µs", "CPU of Redis for each arrival", each(after.1 - before.1));
        let snapshot = self.tick("tick of one replica, nobody heard of", &call, &Beats::new()).await;
        let mut everybody = Bits::default();
        for number in 1..=VISITORS as u64 {
            everybody.insert(number);
        }
        let beats = vec![(snapshot.generation(), everybody)];
        self.tick("tick of one replica, all of them heard of", &call, &beats).await;
        println!("{:<44} {:>10.3} bytes", "memory for each, all heard of", each(self.memory() - empty));
        self.a_call_of_many().await;
    }

    /// Users who come, and who come again to the place they have.
    async fn a_million_users(&self) {
        const BATCH: usize = 100;
        self.server.command(&["FLUSHALL"]);
        let call = call(USERS);
        let empty = self.memory();
        let turns = VISITORS / BATCH;
        println!("\n{VISITORS} users, that came in batches of {BATCH}");
        let each = |total: f64, count: usize| total / count as f64;
        let print = |what: &str, value: f64, unit: &str| println!("{what:<44} {value:>10.3} {unit}");
        for (what, turns) in [("first", 0..turns), ("again", 0..turns / 10)] {
            let (count, before) = (turns.len() * BATCH, self.spent());
            let mut last = None;
            for turn in turns {
                let outcomes = self.store.arrive(&room(), &call, &users(turn, BATCH)).await.unwrap();
                last = outcomes.last().copied();
            }
            let after = self.spent();
            assert!(matches!(last, Some(Outcome::Waiting(_, position)) if position == count as u64));
            print(&format!("script for each that comes, {what}"), each(after.0 - before.0, count), "µs");
            print(&format!("CPU of Redis for each, {what}"), each(after.1 - before.1, count), "µs");
        }
        let of_key = self.server.command(&["MEMORY", "USAGE", "anteroom:{bench}:users", "SAMPLES", "0"]);
        print("memory for each, in the users' key", each(of_key.trim().parse().unwrap(), VISITORS), "bytes");
        print("memory for each, in all", each(self.memory() - empty, VISITORS), "bytes");
        self.tick("tick of one replica", &call, &Beats::new()).await;
    }

    async fn tick(&self, what: &str, call: &Call, beats: &Beats) -> Snapshot {
        const TICKS: usize = 200;
        let before = self.spent();
        let begun = Instant::now();
        let mut snapshot = None;
        for _ in 0..TICKS {
            snapshot = Some(self.store.observe(&room(), call, beats, None).await.unwrap());
        }
        let took = begun.elapsed().as_micros() as f64 / TICKS as f64;
        let after = self.spent();
        let (script, cpu) = ((after.0 - before.0) / TICKS as f64, (after.1 - before.1) / TICKS as f64);
        println!(
            "{what:<44} {script:>10.0} µs of script, {cpu:.0} µs of CPU, {took:.0} µs until the snapshot is there"
        );
        snapshot.unwrap()
    }

    /// How long a shard is held when many are called at once.
    async fn a_call_of_many(&self) {
        let generous = call("rate=1000000000/s burst=100000 patience=31d");
        // The first of these finds out what the limits are now, the second has the credits for it.
        for _ in 0..2 {
            let before = self.spent().0;
            let snapshot = self.store.observe(&room(), &generous, &Beats::new(), None).await.unwrap();
            let took = self.spent().0 - before;
            println!("{:<44} {took:>10.0} µs of script", format!("tick, {} called by then", snapshot.called));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn strangers(count: usize) -> Vec<Newcomer> {
    vec![Newcomer::default(); count]
}

/// The users of a turn: in each turn others.
fn users(turn: usize, count: usize) -> Vec<Newcomer> {
    let user = |number: usize| Subject::of(&["https://id.example", &number.to_string()]);
    let numbers = turn * count..(turn + 1) * count;
    numbers.map(|number| Newcomer { subject: Some(user(number)), anew: false }).collect()
}

fn room() -> RoomName {
    RoomName::parse("bench").unwrap()
}

fn call(words: &str) -> Call {
    let pairs = words.split_whitespace().filter_map(|word| word.split_once('='));
    let policy = Policy::parse(pairs.chain([("room", "bench")])).unwrap();
    Call { policy: Some(Arc::new(policy)), ..Call::default() }
}
