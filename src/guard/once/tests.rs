//! What may be done once: for all replicas, with answers that are lost, and after an outage.

use std::sync::atomic::Ordering;

use super::*;
use crate::guard::tests::{BUDGET, Scene, after};

fn order<'a>(key: &'a [&'a [u8]], holder: Holder) -> Deed<'a> {
    Deed { scope: OnceScope::Idempotency, key, holder, ttl: Duration::from_mins(5), deadline: None }
}

/// Buckets that nobody asked for since the outage are back as well: the next one to come may be an order.
#[tokio::test(start_paused = true)]
async fn after_an_outage_every_bucket_is_back_for_the_first_who_comes() {
    let scene = Scene::new();
    let guard = scene.guard();
    let first = async |round: u32, key: u32| {
        let key = [&round.to_be_bytes()[..], &key.to_be_bytes()[..]];
        guard.once.first(order(&key, Holder::unique())).await
    };
    scene.out(true);
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let tended = guard.tend(async { drop(closed.await) });
    let asked = async {
        for round in 0..4 {
            futures_util::future::join_all((0..4_000).map(|key| first(round, key))).await;
        }
        assert!(scene.clock.now_ms() % 1_000_000 < 300, "nobody waits when all buckets are out");
        after(60_000).await;
        let tries = scene.calls();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let tries = (scene.calls() - tries) / 256;
        assert!(
            (25..=45).contains(&tries),
            "each bucket is tried four times a second, and was {tries} times in 10 s"
        );
        scene.out(false);
        tokio::time::sleep(Duration::from_millis(400)).await;
        for key in 0..4_000 {
            assert!(first(9, key).await.unwrap(), "key {key}");
        }
        drop(close);
    };
    tokio::join!(tended, asked);
}

#[tokio::test(start_paused = true)]
async fn the_first_to_do_something_is_the_only_one_for_a_time() {
    let scene = Scene::new();
    let guards = [scene.guard(), scene.guard()];
    let first = async |guard: usize, key: &[u8]| {
        guards[guard].once.first(order(&[b"alice", b"POST /orders", key], Holder::unique())).await
    };
    assert!(first(0, b"k1").await.unwrap() && !first(1, b"k1").await.unwrap());
    assert!(first(1, b"k2").await.unwrap());
    let calls = scene.calls();
    for guard in [0, 1] {
        assert!(!first(guard, b"k1").await.unwrap());
    }
    assert_eq!(scene.calls(), calls, "both know it by now");
    let same: &[&[u8]] = &[b"alice", b"POST /orders", b"k1"];
    let nonce = Deed { scope: OnceScope::Nonce, ..order(same, Holder::unique()) };
    assert!(guards[0].once.first(nonce).await.unwrap(), "another kind of thing");
    after(299_999).await;
    assert!(!first(0, b"k1").await.unwrap() && !first(1, b"k1").await.unwrap());
    after(1).await;
    assert!(first(1, b"k1").await.unwrap() && !first(0, b"k1").await.unwrap());
    scene.out(true);
    assert!(first(0, b"k3").await.is_err());
    assert!(!first(0, b"k1").await.unwrap(), "what is known needs no ledger");
    scene.out(false);
    assert!(first(0, b"k3").await.unwrap(), "an attempt that nobody answered is forgotten here");
}

/// Envoy asks another replica where an answer was lost.
#[tokio::test(start_paused = true)]
async fn the_request_that_was_first_is_so_each_time_it_asks() {
    let scene = Scene::new();
    let guards = [scene.guard(), scene.guard(), scene.guard()];
    let first = async |guard: usize, key: &[u8], holder: &str| {
        guards[guard].once.first(order(&[key], Holder::of(holder))).await.unwrap()
    };
    assert!(first(0, b"k1", "17").await);
    assert!(!first(1, b"k1", "18").await, "another request");
    for guard in [0, 1, 2] {
        assert!(first(guard, b"k1", "17").await && !first(guard, b"k1", "18").await, "replica {guard}");
    }
    assert!(!guards[2].once.first(order(&[b"k1"], Holder::unique())).await.unwrap());
    assert!(first(2, b"k2", "17").await && !first(0, b"k2", "18").await);
}

/// A client whose order was refused because nobody knew sends it again, and must not hear that it has passed.
#[tokio::test(start_paused = true)]
async fn what_was_refused_while_nobody_knew_is_done_by_the_next_try() {
    let scene = Scene::new();
    let guards = [scene.guard(), scene.guard()];
    let lost: &[&[u8]] = &[b"k1"];
    let (refused, passed) = (order(lost, Holder::unique()), order(&[b"k2"], Holder::unique()));
    scene.ledger.mute.store(true, Ordering::Relaxed);
    for deed in [refused, passed] {
        assert!(guards[0].once.first(deed).await.is_err());
    }
    scene.ledger.mute.store(false, Ordering::Relaxed);
    scene.out(true);
    guards[0].once.take_back(refused);
    after(2_000).await;
    scene.out(false);
    assert!(!guards[1].once.first(order(lost, Holder::unique())).await.unwrap(), "not heard of yet");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for guard in &guards {
        let first = guard.once.first(order(lost, Holder::unique())).await.unwrap();
        assert_eq!(first, std::ptr::eq(guard, &raw const guards[0]), "free for one");
        assert!(
            !guard.once.first(order(&[b"k2"], Holder::unique())).await.unwrap(),
            "that was not taken back"
        );
    }
    guards[0].once.take_back(order(lost, Holder::unique()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!guards[1].once.first(order(lost, Holder::unique())).await.unwrap(), "it was another's by then");
}

/// Envoy asks another replica about a request whose answer was lost on the way; what the first one then takes back is
/// its own try.
#[tokio::test(start_paused = true)]
async fn a_try_that_is_taken_back_does_not_undo_another_of_the_same_request() {
    for comes_late in [false, true] {
        a_try_is_taken_back(comes_late).await;
    }
}

async fn a_try_is_taken_back(comes_late: bool) {
    let scene = Scene::new();
    let guards = [scene.guard(), scene.guard(), scene.guard()];
    let key: &[&[u8]] = &[b"k1"];
    let [one, other] = [order(key, Holder::of("17")), order(key, Holder::of("17"))];
    let lost = async || {
        scene.ledger.mute.store(true, Ordering::Relaxed);
        assert!(guards[0].once.first(one).await.is_err());
        scene.ledger.mute.store(false, Ordering::Relaxed);
    };
    // The first comes to the ledger before the other, or after it.
    if !comes_late {
        lost().await;
    }
    assert!(guards[1].once.first(other).await.unwrap(), "it passes");
    if comes_late {
        lost().await;
    }
    guards[0].once.take_back(one);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for guard in &guards {
        assert!(!guard.once.first(order(key, Holder::unique())).await.unwrap(), "and is not forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_before_the_answer_may_send_the_same_again() {
    let scene = Scene::new();
    let guards = [scene.guard(), scene.guard()];
    let key: &[&[u8]] = &[b"k1"];
    scene.ledger.mute.store(true, Ordering::Relaxed);
    let asked = guards[0].once.first(order(key, Holder::of("17")));
    assert!(tokio::time::timeout(Duration::from_millis(10), asked).await.is_err(), "it has hung up");
    scene.ledger.mute.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(guards[1].once.first(order(key, Holder::of("18"))).await.unwrap());
    assert!(!guards[0].once.first(order(key, Holder::of("17"))).await.unwrap(), "that was once");
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_is_not_asked_and_nobody_waits_beyond_the_deadline() {
    let scene = Scene::new();
    let guard = scene.guard();
    let due = |key: &'static [&'static [u8]], millis: u64| Deed {
        deadline: Some(tokio::time::Instant::now() + Duration::from_millis(millis)),
        ..order(key, Holder::of("17"))
    };
    assert!(guard.once.first(due(&[b"k1"], 0)).await.is_err());
    assert_eq!(scene.calls(), 0, "its key is still to be had");
    assert!(guard.once.first(due(&[b"k1"], 10)).await.unwrap());
    scene.out(true);
    let begun = tokio::time::Instant::now();
    assert!(guard.once.first(due(&[b"k2"], 10)).await.is_err());
    assert_eq!(begun.elapsed().as_millis(), 10, "the budget is {BUDGET:?}");
    assert!(guard.once.first(due(&[b"k1"], 0)).await.unwrap(), "what is known needs no time");
}

#[tokio::test(start_paused = true)]
async fn asking_whether_something_is_done_does_not_do_it() {
    let scene = Scene::new();
    let guards = [scene.guard(), scene.guard()];
    let one = || order(&[b"k1"], Holder::of("17"));
    let other = || order(&[b"k1"], Holder::of("18"));
    for guard in guards.iter().chain(&guards) {
        assert!(!guard.once.is_done(one()).await.unwrap() && !guard.once.is_done(other()).await.unwrap());
    }
    assert!(guards[0].once.first(one()).await.unwrap());
    for guard in &guards {
        assert!(guard.once.is_done(other()).await.unwrap());
        assert!(!guard.once.is_done(one()).await.unwrap(), "not by another request");
    }
    let calls = scene.calls();
    assert!(guards[1].once.is_done(other()).await.unwrap());
    assert_eq!(scene.calls(), calls, "it is known by now");
    after(300_000).await;
    assert!(!guards[1].once.is_done(other()).await.unwrap());
    scene.out(true);
    assert!(guards[1].once.is_done(other()).await.is_err(), "nobody knows");
}
