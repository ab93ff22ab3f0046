//! What limits cost Redis: CPU and memory for each key, and calls in a flood of one address among honest clients.
//!
//! Run by `make bench-limits`: starts a redis-server of its own, counts, prints, and ends it.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // A program for people to read; what fails ends it.

#[path = "../../tests/support/redis.rs"]
mod redis;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::clock::Clock;
use anteroom::guard::limiter::{Ask, Verdict};
use anteroom::guard::{Guard, Options};
use anteroom::room::gcra::Quota;
use anteroom::store::ledger::{Holder, Key, Ledger as _};
use anteroom::store::redis::RedisStore;
use anteroom::store::redis::shards::{Health, Shards, Timing};
use anteroom::store::target::Target;
use anteroom::telemetry::metrics::Metrics;
use anteroom::telemetry::metrics::label::counting::LimitScope;
use futures_util::future::join_all;
use redis::server::Server;
use tokio::task::JoinSet;

const KEYS: usize = 200_000;
/// Honest clients, at half of what they may.
const HONEST: usize = 200;
const HONEST_RATE: u32 = 10;
const LIMIT: &str = "20/s";
/// What the flood asks for, as a multiple of the limit.
const FLOOD: u32 = 20;
const LASTS: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    let server = Server::start().await;
    let bench = Bench { store: connect(&server).await, server };
    println!("Redis {}\n", bench.info("server", "redis_version"));
    println!("{:<52} {:>12} {:>12}", "spending from a limit", "µs of script", "µs of CPU");
    for at_once in [1, 10, 100, 1_000] {
        bench.batches(at_once).await;
    }
    println!();
    let hour: Quota = "7/h burst 1".parse().unwrap();
    for (what, quota) in [
        ("memory for a key, whole microseconds", "60/h burst 1".parse().unwrap()),
        ("memory for a key, with a rest", hour),
    ] {
        bench
            .memory(what, |ledger, key| {
                Box::pin(async move { assert!(ledger.spend(key, quota).await.is_ok()) })
            })
            .await;
    }
    bench
        .memory("memory for a key that is claimed", |ledger, key| {
            let holder = Holder::of("17");
            Box::pin(async move { assert!(ledger.claim(key, holder, 300_000).await.is_ok()) })
        })
        .await;
    println!("\n{HONEST} honest clients at {HONEST_RATE}/s each, limit {LIMIT}, two replicas, {LASTS:?}");
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>12} {:>10} {:>10} {:>9} {:>9}",
        "", "requests", "allowed", "refused", "calls/s", "CPU Redis", "CPU here", "p50", "p99"
    );
    bench.together("honest alone", false).await;
    bench.together("honest, and a flood", true).await;
    bench.store.close().await;
}

struct Bench {
    store: RedisStore,
    server: Server,
}

/// What a client heard: requests allowed, refused, and how long each took in microseconds.
#[derive(Default)]
struct Heard {
    allowed: u64,
    refused: u64,
    took: Vec<u64>,
}

type Done<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Bench {
    fn info(&self, section: &str, key: &str) -> String {
        self.server.info(section).get(key).cloned().unwrap_or_default()
    }

    /// Microseconds of CPU that the server has used.
    fn cpu(&self) -> f64 {
        let of = |key| self.info("cpu", key).parse::<f64>().unwrap_or_default();
        (of("used_cpu_user") + of("used_cpu_sys")) * 1e6
    }

    /// Microseconds spent in scripts.
    fn scripts(&self) -> f64 {
        let stats = self.server.info("commandstats");
        let spent = ["cmdstat_evalsha", "cmdstat_eval"].iter().filter_map(|key| stats.get(*key));
        spent.filter_map(|text| text.split("usec=").nth(1)?.split(',').next()?.parse::<f64>().ok()).sum()
    }

    async fn batches(&self, at_once: usize) {
        let ledger = self.store.ledger();
        let quota = LIMIT.parse().unwrap();
        // All in one bucket, so that they go together.
        let key = |number: usize| {
            let mut key = Key::of(&[&number.to_be_bytes()]);
            key.0[0] = 7;
            key
        };
        let rounds = (20_000 / at_once).max(50);
        let before = (self.scripts(), self.cpu());
        for round in 0..rounds {
            let keys = (0..at_once).map(|number| ledger.spend(key(round * at_once + number), quota));
            join_all(keys).await;
        }
        let each = |total: f64| total / (rounds * at_once) as f64;
        let (scripts, cpu) = (each(self.scripts() - before.0), each(self.cpu() - before.1));
        println!("{:<52} {scripts:>12.2} {cpu:>12.2}", format!("{at_once} at once in a bucket, for each"));
    }

    async fn memory<'a>(
        &self,
        what: &str,
        put: impl Fn(Arc<anteroom::store::redis::ledger::RedisLedger>, Key) -> Done<'a>,
    ) {
        self.server.command(&["FLUSHALL"]);
        let used = || self.info("memory", "used_memory").parse::<f64>().unwrap_or_default();
        let ledger = Arc::new(self.store.ledger());
        let before = used();
        let keys: Vec<usize> = (0..KEYS).collect();
        for some in keys.chunks(1_000) {
            join_all(some.iter().map(|number| put(ledger.clone(), Key::of(&[&number.to_be_bytes()])))).await;
        }
        println!("{what:<52} {:>12.0} bytes", (used() - before) / KEYS as f64);
    }

    async fn together(&self, what: &str, flooded: bool) {
        self.server.command(&["FLUSHALL"]);
        let mut guards = Vec::new();
        for _ in 0..2 {
            let options = Options { budget: Duration::from_millis(50), checks: true };
            let ledger = Arc::new(self.store.ledger());
            guards.push(Arc::new(Guard::new(options, ledger, Clock::system(), &Arc::new(Metrics::new(1)))));
        }
        let before = (self.server.script_calls(), self.cpu(), cpu_here());
        let mut clients = JoinSet::new();
        for number in 0..HONEST {
            clients.spawn(client(guards.clone(), format!("10.0.0.{number}"), HONEST_RATE));
        }
        let flood = flooded.then(|| tokio::spawn(client(guards, "203.0.113.7".to_owned(), 20 * FLOOD)));
        let mut heard = Heard::default();
        while let Some(one) = clients.join_next().await {
            let one = one.unwrap();
            heard.allowed += one.allowed;
            heard.refused += one.refused;
            heard.took.extend(one.took);
        }
        let seconds = LASTS.as_secs_f64();
        let calls = (self.server.script_calls() - before.0) as f64 / seconds;
        let of_a_core = |micros: f64| format!("{:.1} %", micros / 1e4 / seconds);
        let (there, here) = (of_a_core(self.cpu() - before.1), of_a_core(cpu_here() - before.2));
        print_row(what, &heard, &format!("{calls:.0}"), &there, &here);
        if let Some(flood) = flood {
            print_row("  the flood", &flood.await.unwrap(), "", "", "");
        }
    }
}

fn print_row(what: &str, heard: &Heard, calls: &str, there: &str, here: &str) {
    let mut took = heard.took.clone();
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
    println!(
        "{what:<28} {:>9} {:>9} {:>9} {calls:>12} {there:>10} {here:>10} {:>6} µs {:>6} µs",
        heard.allowed + heard.refused,
        heard.allowed,
        heard.refused,
        at(50),
        at(99)
    );
}

/// Asks at even times, of one replica after the other.
async fn client(guards: Vec<Arc<Guard>>, who: String, rate: u32) -> Heard {
    let mut heard = Heard::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let begun = Instant::now();
    let quota = LIMIT.parse().unwrap();
    for guard in guards.iter().cycle() {
        ticks.tick().await;
        if begun.elapsed() >= LASTS {
            break;
        }
        let asked = Instant::now();
        let ask = Ask { scope: LimitScope::Ip, room: "shop", who: &[who.as_bytes()], quota };
        match guard.limiter.spend(&[ask]).await {
            Verdict::Allowed(_) | Verdict::Unlimited => heard.allowed += 1,
            Verdict::Refused(_) => heard.refused += 1,
        }
        heard.took.push(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    heard
}

/// Microseconds of CPU that this process has used; 0 where the system does not tell.
fn cpu_here() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    // Of one thread only: those of the others are in their own files.
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |text: String| text.split_whitespace().next()?.parse::<f64>().ok();
    let all: f64 =
        tasks.filter_map(|task| of(std::fs::read_to_string(task.path().join("schedstat")).ok()?)).sum();
    all.max(of(text).unwrap_or_default()) / 1e3
}

async fn connect(server: &Server) -> RedisStore {
    let target = Target::parse(&server.url()).unwrap();
    let timing = Timing::with_budget(Duration::from_secs(20));
    let metrics = Metrics::new(1).shards();
    let shards = Shards::connect(&target, timing, metrics).unwrap();
    shards.health().wait_for(Health::all_served).await.unwrap();
    RedisStore::new(shards, 1)
}
