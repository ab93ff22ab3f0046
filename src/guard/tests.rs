//! Tests of the guard, over the embedded ledger with a switch and a counter before it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::limiter::{Ask, Standing, Verdict};
use super::roll::PostError;
use super::*;
use crate::room::gcra::{Decision, Quota};
use crate::room::policy::Millis;
use crate::store::StoreError;
use crate::store::ledger::{Claimed, Document, Holder, Key, Muster, Offer, Presence};
use crate::store::memory::ledger::MemoryLedger;
use crate::telemetry::metrics::counting::CountingMetrics;
use crate::telemetry::metrics::label::counting::{LimitOutcome, LimitScope};

pub(super) const BUDGET: Duration = Duration::from_millis(50);

pub(super) struct Switched {
    ledger: ArcSwap<MemoryLedger>,
    /// It does not answer.
    out: AtomicBool,
    /// It does what it is asked for, and its answers are lost.
    pub(super) mute: AtomicBool,
    calls: AtomicU64,
    /// So many replicas are there.
    replicas: AtomicU32,
}

impl Switched {
    async fn called(&self) -> Result<(), StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.out.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Ledger for Switched {
    async fn spend(&self, key: Key, quota: Quota) -> Result<Decision, StoreError> {
        self.called().await?;
        self.ledger.load_full().spend(key, quota).await
    }

    async fn claim(&self, key: Key, holder: Holder, ttl: Millis) -> Result<Claimed, StoreError> {
        self.called().await?;
        let claimed = self.ledger.load_full().claim(key, holder, ttl).await;
        if self.mute.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        claimed
    }

    async fn look(&self, key: Key) -> Result<Claimed, StoreError> {
        self.called().await?;
        self.ledger.load_full().look(key).await
    }

    async fn release(&self, key: Key, holder: Holder) -> Result<(), StoreError> {
        self.called().await?;
        self.ledger.load_full().release(key, holder).await
    }

    async fn sync(&self, presence: &Presence, known: u64, offer: Offer<'_>) -> Result<Muster, StoreError> {
        self.called().await?;
        let checking = self.replicas.load(Ordering::Relaxed);
        Ok(Muster { checking, ..self.ledger.load_full().sync(presence, known, offer).await? })
    }
}

pub(super) struct Scene {
    pub(super) ledger: Arc<Switched>,
    metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

impl Scene {
    pub(super) fn new() -> Self {
        let clock = Clock::starting_at(1_700_000_000_000);
        let ledger = Switched {
            ledger: ArcSwap::from_pointee(MemoryLedger::new(clock, CountingMetrics::unregistered())),
            out: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            replicas: AtomicU32::new(1),
        };
        Self { ledger: Arc::new(ledger), metrics: Arc::new(Metrics::new(1)), clock }
    }

    /// A replica.
    pub(super) fn guard(&self) -> Guard {
        let options = Options { budget: BUDGET, checks: true };
        Guard::new(options, self.ledger.clone(), self.clock, &self.metrics)
    }

    pub(super) fn calls(&self) -> u64 {
        self.ledger.calls.load(Ordering::Relaxed)
    }

    /// All is lost.
    fn wipe(&self) {
        self.ledger.ledger.store(Arc::new(MemoryLedger::new(self.clock, CountingMetrics::unregistered())));
    }

    pub(super) fn out(&self, out: bool) {
        self.ledger.out.store(out, Ordering::Relaxed);
    }
}

pub(super) async fn after(millis: u64) {
    tokio::time::advance(Duration::from_millis(millis)).await;
}

fn ask<'a>(scope: LimitScope, who: &'a [&'a [u8]], quota: &str) -> Ask<'a> {
    Ask { scope, room: "shop", who, quota: quota.parse().unwrap() }
}

async fn by_ip(guard: &Guard, quota: &str) -> Verdict {
    guard.limiter.spend(&[ask(LimitScope::Ip, &[b"203.0.113.7"], quota)]).await
}

fn is_allowed(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Allowed(_))
}

#[tokio::test(start_paused = true)]
async fn a_flood_costs_about_as_many_calls_as_it_is_allowed_requests() {
    let scene = Scene::new();
    let guard = scene.guard();
    let mut allowed = 0;
    // 400/s for ten seconds against 20/s.
    for _ in 0..4_000 {
        allowed += u64::from(is_allowed(&by_ip(&guard, "20/s").await));
        tokio::time::advance(Duration::from_micros(2_500)).await;
    }
    assert_eq!(allowed, 20 + 199, "its burst, and one for every 50 ms since the first");
    assert!(scene.calls() <= allowed + 1, "{} calls for {allowed} requests allowed", scene.calls());
    assert_eq!(guard.limiter.remembered(), 1);
    let count = |outcome| scene.metrics.counting().limits(LimitScope::Ip, outcome);
    assert_eq!(count(LimitOutcome::Allowed), allowed);
    assert_eq!(count(LimitOutcome::Refused) + count(LimitOutcome::Remembered), 4_000 - allowed);
}

#[tokio::test(start_paused = true)]
async fn two_replicas_hold_a_limit_together_and_both_remember() {
    let scene = Scene::new();
    let guards = [scene.guard(), scene.guard()];
    let mut allowed = 0;
    for turn in 0..4_000 {
        allowed += u64::from(is_allowed(&by_ip(&guards[turn % 2], "20/s").await));
        tokio::time::advance(Duration::from_micros(2_500)).await;
    }
    assert_eq!(allowed, 219);
    assert!(scene.calls() <= 3 * allowed, "{} calls", scene.calls());
}

#[tokio::test(start_paused = true)]
async fn a_steady_client_is_never_refused_whichever_replica_it_asks() {
    let scene = Scene::new();
    let guards = [scene.guard(), scene.guard(), scene.guard()];
    for turn in 0..500 {
        let verdict = by_ip(&guards[turn * 7 % 3], "20/s burst 1").await;
        assert!(is_allowed(&verdict), "request {turn}: {verdict:?}");
        after(50).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_and_charges_nobody_else() {
    let scene = Scene::new();
    let guard = scene.guard();
    let both = [
        ask(LimitScope::Ip, &[b"203.0.113.7"], "2/s burst 2"),
        ask(LimitScope::User, &[b"https://id", b"alice"], "50/s burst 10"),
    ];
    assert_eq!(guard.limiter.spend(&[]).await, Verdict::Unlimited);
    for remaining in [1, 0] {
        let Verdict::Allowed(standing) = guard.limiter.spend(&both).await else { panic!("within both") };
        assert_eq!((standing.scope, standing.remaining), (LimitScope::Ip, remaining), "the nearest is told");
    }
    let calls = scene.calls();
    for _ in 0..100 {
        let refused = Standing {
            scope: LimitScope::Ip,
            quota: both[0].quota,
            remaining: 0,
            retry_after: Duration::from_millis(500),
            reset: Duration::from_secs(1),
        };
        assert_eq!(guard.limiter.spend(&both).await, Verdict::Refused(refused));
    }
    assert_eq!(scene.calls(), calls);
    let Verdict::Allowed(standing) = guard.limiter.spend(&both[1..]).await else { panic!("alone") };
    assert_eq!(standing.remaining, 7, "two requests before, and this one");
}

#[tokio::test(start_paused = true)]
async fn keys_are_apart_by_scope_room_quota_and_who() {
    let scene = Scene::new();
    let guard = scene.guard();
    let address: &[&[u8]] = &[b"203.0.113.7"];
    let one = ask(LimitScope::Ip, address, "1/h burst 1");
    let others = [
        ask(LimitScope::User, address, "1/h burst 1"),
        Ask { room: "other", ..one },
        ask(LimitScope::Ip, address, "2/h burst 1"),
        ask(LimitScope::Ip, &[b"203.0.113.8"], "1/h burst 1"),
        ask(LimitScope::Ip, &[b"203.0.", b"113.7"], "1/h burst 1"),
    ];
    for ask in [one].into_iter().chain(others) {
        assert!(is_allowed(&guard.limiter.spend(&[ask]).await), "{ask:?}");
    }
    assert!(!is_allowed(&guard.limiter.spend(&[one]).await));
}

#[tokio::test(start_paused = true)]
async fn while_the_ledger_is_out_each_replica_allows_its_share() {
    let scene = Scene::new();
    scene.ledger.replicas.store(2, Ordering::Relaxed);
    let guards = [scene.guard(), scene.guard()];
    for guard in &guards {
        guard.turn().await;
        assert_eq!(guard.roll.replicas(), 2);
    }
    scene.out(true);
    // The first three wait the budget; from then on nobody waits.
    for turn in 0..6 {
        by_ip(&guards[turn % 2], "20/s").await;
    }
    after(10_000).await;
    let (begun, mut allowed) = (scene.clock.now_ms(), 0);
    for turn in 0..4_000 {
        allowed += u64::from(is_allowed(&by_ip(&guards[turn % 2], "20/s").await));
        tokio::time::advance(Duration::from_micros(2_500)).await;
    }
    assert!(scene.clock.now_ms() - begun < 10_100, "nobody waits for a ledger that is out");
    assert!((216..=219).contains(&allowed), "{allowed} by both together");
    assert_eq!(scene.calls(), 8, "two turns, and three failures of each replica");
    let steady = ask(LimitScope::User, &[b"alice"], "20/s");
    for turn in 0..200 {
        assert!(is_allowed(&guards[turn % 2].limiter.spend(&[steady]).await), "request {turn}");
        after(50).await;
    }
    scene.out(false);
    guards[0].reach.try_again().await;
    let (calls, shares) = (scene.calls(), LimitOutcome::ShareAllowed);
    let before = scene.metrics.counting().limits(LimitScope::Ip, shares);
    assert!(is_allowed(&by_ip(&guards[0], "20/s").await));
    assert_eq!((scene.calls(), scene.metrics.counting().limits(LimitScope::Ip, shares)), (calls + 1, before));
}

#[tokio::test(start_paused = true)]
async fn a_document_reaches_all_replicas_and_comes_back_after_a_loss() {
    let scene = Scene::new();
    let guards = [scene.guard(), scene.guard()];
    let text = |guard: &Guard| guard.roll.document().borrow().as_ref().map(|known| known.text().to_owned());
    guards[0].roll.post("one").await.unwrap();
    assert_eq!((text(&guards[0]).as_deref(), text(&guards[1])), (Some("one"), None));
    let refused = guards[1].roll.post("without having seen that").await;
    assert!(matches!(refused, Err(PostError::Outdated)), "{refused:?}");
    assert_eq!(text(&guards[1]).as_deref(), Some("one"), "by now it has");
    guards[1].roll.post("two").await.unwrap();
    guards[0].turn().await;
    assert_eq!(text(&guards[0]).as_deref(), Some("two"));
    let long = "x".repeat(Document::MAX_LEN + 1);
    assert!(matches!(guards[0].roll.post(&long).await, Err(PostError::TooLong(_))));

    scene.wipe();
    guards[0].turn().await;
    let late = scene.guard();
    late.turn().await;
    assert_eq!(text(&late).as_deref(), Some("two"), "who had it has put it back");
    late.roll.post("three").await.unwrap();
    guards[1].turn().await;
    assert_eq!(text(&guards[1]).as_deref(), Some("three"));
}
