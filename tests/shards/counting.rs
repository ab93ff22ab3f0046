//! What replicas count together, over real servers: limits, what is done once, who is there; and what becomes of it when
//! a server goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::clock::Clock;
use anteroom::guard::limiter::{Ask, Verdict};
use anteroom::guard::once::Deed;
use anteroom::guard::{Guard, Options};
use anteroom::store::ledger::Holder;
use anteroom::store::redis::RedisStore;
use anteroom::telemetry::metrics::Metrics;
use anteroom::telemetry::metrics::label::counting::{LimitOutcome, LimitScope, OnceScope};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::redis::cluster::Cluster;
use crate::redis::server::Server;
use crate::redis::{SOON, until, until_true};
use crate::traffic::{connected, timing};

/// Processes as far as they count: each with connections of its own.
struct Replicas {
    all: Vec<Replica>,
    over: watch::Sender<bool>,
}

struct Replica {
    guard: Arc<Guard>,
    store: RedisStore,
    metrics: Arc<Metrics>,
    tending: tokio::task::JoinHandle<()>,
}

impl Replicas {
    async fn start(url: &str, count: usize) -> Self {
        let over = watch::Sender::new(false);
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(Replica::start(url, over.subscribe()).await);
        }
        for replica in &all {
            let known = || replica.guard.roll.replicas() as usize;
            until_true("all know of each other", SOON, || known() == count).await;
        }
        Self { all, over }
    }

    async fn end(self) {
        self.over.send_replace(true);
        for replica in self.all {
            replica.tending.await.unwrap();
            replica.store.close().await;
        }
    }

    fn count(&self, scope: LimitScope, outcome: LimitOutcome) -> u64 {
        self.all.iter().map(|replica| replica.metrics.counting().limits(scope, outcome)).sum()
    }
}

impl Replica {
    async fn start(url: &str, mut over: watch::Receiver<bool>) -> Self {
        let (shards, _) = connected(url).await;
        let store = RedisStore::new(shards, 1);
        let metrics = Arc::new(Metrics::new(1));
        let options = Options { budget: timing().command, checks: true };
        let guard = Arc::new(Guard::new(options, Arc::new(store.ledger()), Clock::system(), &metrics));
        let tending = tokio::spawn({
            let guard = guard.clone();
            async move {
                let closing = async {
                    // Ends as well when the test does.
                    over.wait_for(|over| *over).await.ok();
                };
                guard.tend(closing).await;
            }
        });
        Self { guard, store, metrics, tending }
    }
}

async fn spend(guard: &Guard, scope: LimitScope, who: &str, quota: &str) -> bool {
    let who: &[&[u8]] = &[who.as_bytes()];
    let ask = Ask { scope, room: "shop", who, quota: quota.parse().unwrap() };
    matches!(guard.limiter.spend(&[ask]).await, Verdict::Allowed(_))
}

/// Asks at even times, of one replica after the other, until it is told to stop; how many requests were allowed and
/// refused.
async fn client(
    guards: Vec<Arc<Guard>>,
    who: (LimitScope, String),
    every: Duration,
    stop: watch::Receiver<bool>,
) -> (u64, u64) {
    let (mut allowed, mut refused) = (0, 0);
    let mut ticks = tokio::time::interval(every);
    // Late ones are not made up for: a busy machine must not turn an honest client into a flood.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for guard in guards.iter().cycle() {
        ticks.tick().await;
        if *stop.borrow() {
            break;
        }
        let counted = if spend(guard, who.0, &who.1, "20/s").await { &mut allowed } else { &mut refused };
        *counted += 1;
    }
    (allowed, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_hold_a_limit_together() {
    let server = Server::start().await;
    let replicas = Replicas::start(&server.url(), 2).await;
    let begun = Instant::now();
    let mut allowed = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        for replica in &replicas.all {
            allowed += u64::from(spend(&replica.guard, LimitScope::Ip, "203.0.113.7", "50/s burst 10").await);
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let most = 10.0 + 50.0 * begun.elapsed().as_secs_f64();
    assert!(allowed as f64 <= most && allowed as f64 > most / 2.0, "{allowed} of {most} were allowed");
    let asked = replicas.count(LimitScope::Ip, LimitOutcome::Allowed)
        + replicas.count(LimitScope::Ip, LimitOutcome::Refused);
    assert!(asked <= 3 * allowed, "{asked} questions for {allowed} that were allowed");
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_the_same_moment_one_is_the_first() {
    let server = Server::start().await;
    let replicas = Replicas::start(&server.url(), 2).await;
    let [one, other] = [0, 1].map(|replica: usize| replicas.all[replica].guard.clone());
    for round in 0..1_000u32 {
        let key = round.to_be_bytes();
        let key: &[&[u8]] = &[b"alice", &key];
        let first = |guard: &Arc<Guard>| {
            let guard = guard.clone();
            let (scope, ttl) = (OnceScope::Idempotency, Duration::from_mins(5));
            let deed = Deed { scope, key, holder: Holder::unique(), ttl, deadline: None };
            async move { guard.once.first(deed).await.unwrap() }
        };
        let (here, there) = tokio::join!(first(&one), first(&other));
        assert!(here != there, "round {round}: {here} and {there}");
    }
    replicas.end().await;
}

/// Redis stands still for a moment: it does what it was asked for, and too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_a_slow_answer_has_lost_passes_when_it_is_sent_again() {
    let server = Server::start().await;
    let replicas = Replicas::start(&server.url(), 2).await;
    let [one, other] = [0, 1].map(|replica: usize| replicas.all[replica].guard.clone());
    let deed = |key: &'static [&'static [u8]]| {
        let (scope, ttl) = (OnceScope::Idempotency, Duration::from_mins(5));
        Deed { scope, key, holder: Holder::unique(), ttl, deadline: None }
    };
    let lost = deed(&[b"alice", b"k1"]);
    until("a claim comes too late", SOON, || async {
        server.command(&["CLIENT", "PAUSE", "700", "ALL"]);
        let first = one.once.first(lost).await;
        if first.is_ok() {
            one.once.take_back(lost);
        }
        first.is_err().then_some(())
    })
    .await;
    one.once.take_back(lost);
    until("the order passes at the other replica", SOON, || async {
        let again = deed(&[b"alice", b"k1"]);
        let first = other.once.first(again).await;
        if first.is_err() {
            other.once.take_back(again);
        }
        first.is_ok_and(|first| first).then_some(())
    })
    .await;
    assert!(!one.once.first(deed(&[b"alice", b"k1"])).await.unwrap(), "once");
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_goes_round_and_who_has_gone_is_not_counted() {
    let server = Server::start().await;
    let replicas = Replicas::start(&server.url(), 2).await;
    let leaves = watch::Sender::new(false);
    let third = Replica::start(&server.url(), leaves.subscribe()).await;
    let know = |count| replicas.all.iter().all(|replica| replica.guard.roll.replicas() == count);
    until_true("the third has come", SOON, || know(3)).await;
    let text = "203.0.113.0/24 until tomorrow";
    replicas.all[0].guard.roll.post(text).await.unwrap();
    let mut heard = replicas.all[1].guard.roll.document();
    let told = heard.wait_for(|document| document.as_ref().is_some_and(|known| known.text() == text));
    tokio::time::timeout(SOON, told).await.expect("within seconds").unwrap();
    leaves.send_replace(true);
    third.tending.await.unwrap();
    third.store.close().await;
    until_true("the third has gone", SOON, || know(2)).await;
    server.command(&["FLUSHALL"]);
    until("the document was put back", SOON, || async {
        (server.command(&["HGET", "anteroom:{~muster}:document", "text"]) == text).then_some(())
    })
    .await;
    replicas.end().await;
}

/// 20 clients at half their limit and a flood at 20 times its own, of two replicas, while a master is killed, replaced by
/// its replica, and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout)] // The figures are what one wants to see of it.
async fn honest_clients_notice_nothing_of_a_master_that_dies() {
    let cluster = Cluster::start().await;
    let replicas = Replicas::start(&cluster.url(), 2).await;
    let guards: Vec<_> = replicas.all.iter().map(|replica| replica.guard.clone()).collect();
    let stop = watch::Sender::new(false);
    let begun = Instant::now();
    let mut honest = JoinSet::new();
    for number in 0..20 {
        let who = (LimitScope::User, format!("honest {number}"));
        honest.spawn(client(guards.clone(), who, Duration::from_millis(100), stop.subscribe()));
    }
    let flood = (LimitScope::Ip, "203.0.113.7".to_owned());
    let flood = tokio::spawn(client(guards, flood, Duration::from_micros(2_500), stop.subscribe()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let room = &cluster.rooms_on_each_shard()[0];
    let master = cluster.master_of(room);
    let shares = || replicas.count(LimitScope::User, LimitOutcome::ShareAllowed);
    let before = shares();
    master.kill9();
    until_true("limits go on without it", SOON, || shares() > before).await;
    cluster.until_promoted(room, master.port()).await;
    until("all is counted together again", SOON, || async {
        let before = shares();
        tokio::time::sleep(Duration::from_secs(1)).await;
        (shares() == before).then_some(())
    })
    .await;
    stop.send_replace(true);
    let elapsed = begun.elapsed().as_secs_f64();
    let (mut allowed, mut refused) = (0, 0);
    while let Some(told) = honest.join_next().await {
        let (yes, no) = told.unwrap();
        (allowed, refused) = (allowed + yes, refused + no);
    }
    let (through, kept_out) = flood.await.unwrap();
    println!(
        "{elapsed:.1} s: honest clients {allowed} allowed, {refused} refused, {} of them by shares; \
         flood {through} allowed, {kept_out} refused",
        shares()
    );
    assert_eq!(refused, 0, "of {allowed}");
    // A burst each when its server goes and when it is back, as what was spent is not known there.
    let most = 3.0 * 20.0 + 20.0 * elapsed;
    assert!(through as f64 <= most && kept_out > 0, "{through} of {most}");
    replicas.end().await;
}
