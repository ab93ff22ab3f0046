//! A store that is out: newcomers get what the policy says, everybody else goes on, and nobody waits for long.

use std::time::Duration;

use anteroom::room::decision::{Bypass, Refusal, Verdict};
use anteroom::room::standing::Status;
use anteroom::rooms::visit::{Shown, VisitError};
use anteroom::store::StoreError;
use tokio::time::Instant;

use crate::probe::Mood;
use crate::world::{CHECK_BUDGET, STORE_BUDGET, TICK, World, pass_of, ticket_of};

const OUT: [Mood; 2] = [Mood::Fails, Mood::Hangs];

#[tokio::test(start_paused = true)]
async fn newcomers_get_what_the_policy_says_within_the_budget() {
    for mood in OUT {
        // With a snapshot from before, and without any.
        for before in [true, false] {
            let world = World::new();
            for on_outage in ["hold", "open", "closed"] {
                let words = format!("capacity=5 on_outage={on_outage}");
                world.probe.set(Mood::Well);
                if before {
                    world.check(&words, &Shown::default()).await;
                }
                world.probe.set(mood);
                let begun = Instant::now();
                let verdict = world.check(&words, &Shown::default()).await;
                assert!(begun.elapsed() < CHECK_BUDGET, "{mood:?}: {:?}", begun.elapsed());
                let right = match on_outage {
                    "hold" => matches!(verdict, Verdict::Hold { status: 429, .. }),
                    "open" => verdict == Verdict::Bypass(Bypass::Outage),
                    _ => matches!(verdict, Verdict::Refuse { reason: Refusal::Outage, .. }),
                };
                assert!(right, "{on_outage}, {mood:?}: {verdict:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn passes_polls_and_places_go_on() {
    for mood in OUT {
        let mut world = World::new();
        world.run();
        let words = "capacity=1 session_ttl=100s";
        let room = world.room(words);
        let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
        let waiting = world.rooms.join(&room, &Shown::default()).await.unwrap();
        tokio::time::sleep(TICK * 2).await;
        world.probe.set(mood);
        for second in 0..90 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let begun = Instant::now();
            let verdict = world.check(words, &pass_of(&inside)).await;
            assert!(matches!(verdict, Verdict::Admit(_)), "{mood:?} after {second} s: {verdict:?}");
            // Worn passes ask once, and go on without an answer.
            assert!(begun.elapsed() <= STORE_BUDGET * 2, "{:?}", begun.elapsed());
            let begun = Instant::now();
            let told = world.rooms.position(&room, &ticket_of(&waiting)).await.unwrap();
            assert_eq!((told.standing.status, told.standing.position), (Status::Waiting, 1));
            let verdict = world.check(words, &ticket_of(&waiting)).await;
            assert!(matches!(verdict, Verdict::Wait(_)), "{verdict:?}");
            assert_eq!(begun.elapsed(), Duration::ZERO, "from the last snapshot");
        }
        let begun = Instant::now();
        let refused = world.rooms.enter(&room, &ticket_of(&waiting)).await.err();
        assert!(matches!(refused, Some(VisitError::Store(StoreError::Unavailable(_)))), "{refused:?}");
        assert!(begun.elapsed() <= STORE_BUDGET * 2);
        world.probe.set(Mood::Well);
        tokio::time::sleep(Duration::from_secs(11)).await;
        let entered = world.rooms.enter(&room, &ticket_of(&waiting)).await.unwrap();
        assert_eq!(entered.place, waiting.place, "the place was kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_needs_no_store_even_before_the_first_snapshot() {
    let first = World::new();
    let words = "capacity=1 session_ttl=100s";
    let inside = first.rooms.join(&first.room(words), &Shown::default()).await.unwrap();
    tokio::time::advance(Duration::from_mins(1)).await;
    let second = World::new();
    second.probe.set(Mood::Hangs);
    let shown = pass_of(&inside);
    let begun = Instant::now();
    let checks = futures_util::future::join_all((0..20).map(|_| second.check(words, &shown))).await;
    assert!(checks.iter().all(|verdict| matches!(verdict, Verdict::Admit(_))), "{checks:?}");
    assert!(begun.elapsed() < CHECK_BUDGET, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_for_the_same_tick_wait_for_two_at_most() {
    let world = World::new();
    let room = world.room("capacity=1");
    world.probe.set(Mood::Hangs);
    let begun = Instant::now();
    let looks = (0..500).map(|_| world.rooms.refresh(&room));
    let looks = futures_util::future::join_all(looks).await;
    assert!(looks.iter().all(Result::is_err), "a failed tick is told as a good one");
    assert!(begun.elapsed() <= STORE_BUDGET * 2 + Duration::from_millis(5), "{:?}", begun.elapsed());
    assert!(world.probe.observed() <= 2, "{} calls for one tick", world.probe.observed());
    world.probe.set(Mood::Well);
    world.rooms.refresh(&room).await.unwrap();
    world.probe.set(Mood::Fails);
    let looks = futures_util::future::join_all((0..50).map(|_| world.rooms.refresh(&room))).await;
    assert!(looks.iter().all(Result::is_err), "an old snapshot is not a new one");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_outlive_a_tick_that_fails_or_is_dropped() {
    let world = World::new();
    let room = world.room("capacity=0");
    let joined = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let number = joined.place.number;
    world.rooms.refresh(&room).await.unwrap();
    world.rooms.refresh(&room).await.unwrap();
    assert_eq!(world.probe.beats(), [0; 0]);
    world.rooms.position(&room, &ticket_of(&joined)).await.unwrap();
    world.probe.set(Mood::Fails);
    world.rooms.refresh(&room).await.unwrap_err();
    world.probe.set(Mood::Hangs);
    let dropped = tokio::time::timeout(STORE_BUDGET / 2, world.rooms.refresh(&room)).await;
    assert!(dropped.is_err());
    world.probe.set(Mood::Well);
    world.rooms.refresh(&room).await.unwrap();
    assert_eq!(world.probe.beats(), [number], "heard of before, told now");
    world.rooms.refresh(&room).await.unwrap();
    assert_eq!(world.probe.beats(), [0; 0], "and told once");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_counted_and_ends() {
    let world = World::new();
    let room = world.room("capacity=0");
    world.rooms.refresh(&room).await.unwrap();
    world.probe.set(Mood::Full);
    for _ in 0..7 {
        let verdict = world.check("capacity=0", &Shown::default()).await;
        assert!(matches!(verdict, Verdict::Hold { .. }), "{verdict:?}");
        world.rooms.refresh(&room).await.unwrap();
    }
    let series = |op| format!("anteroom_store_errors_total{{op=\"{op}\",kind=\"unavailable\"}}");
    assert!((world.metric(&series("arrive")) - 7.0).abs() < 0.1);
    assert!(world.metric(&series("observe")) < 0.1);
    world.probe.set(Mood::Well);
    let verdict = world.check("capacity=0", &Shown::default()).await;
    assert!(matches!(&verdict, Verdict::Wait(wait) if wait.standing.number == 1), "{verdict:?}");
}
