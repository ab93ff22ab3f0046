//! A store that is elsewhere: what visitors can make it do is bounded, and nobody waits for one that is out.

use std::time::Duration;

use anteroom::room::decision::{Bypass, Refusal, Verdict};
use anteroom::room::standing::Status;
use anteroom::rooms::visit::{Shown, VisitError};
use anteroom::store::StoreError;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::policies::name;
use crate::probe::Mood;
use crate::world::{STORE_BUDGET, TICK, World, pass_of, ticket_of};

const NOT_TRIED: [&str; 2] = ["arrive", "observe"];

fn not_tried(world: &World) -> f64 {
    let series = |op| format!("anteroom_store_errors_total{{op=\"{op}\",kind=\"not_tried\"}}");
    NOT_TRIED.iter().map(|op| world.metric(&series(op))).sum()
}

#[tokio::test(start_paused = true)]
async fn while_a_rooms_calls_fail_newcomers_are_answered_at_once() {
    for mood in [Mood::Fails, Mood::Hangs] {
        for before in [true, false] {
            let mut world = World::new();
            for room in [
                "room=a capacity=0",
                "room=b capacity=0 on_outage=open",
                "room=c capacity=0 on_outage=closed",
            ] {
                if before {
                    world.check(room, &Shown::default()).await;
                } else {
                    world.room(room);
                }
            }
            world.probe.set(mood);
            world.run();
            // Ticks notice it by themselves.
            tokio::time::sleep(TICK * 4).await;
            let (calls, begun) = (world.probe.others(), Instant::now());
            for _ in 0..100 {
                let held = world.check("room=a capacity=0", &Shown::default()).await;
                assert!(matches!(held, Verdict::Hold { status: 429, .. }), "{held:?}");
                let open = world.check("room=b capacity=0 on_outage=open", &Shown::default()).await;
                assert_eq!(open, Verdict::Bypass(Bypass::Outage));
                let closed = world.check("room=c capacity=0 on_outage=closed", &Shown::default()).await;
                assert!(matches!(closed, Verdict::Refuse { reason: Refusal::Outage, .. }), "{closed:?}");
            }
            assert_eq!(begun.elapsed(), Duration::ZERO, "{mood:?}, snapshot before: {before}");
            assert_eq!(world.probe.others(), calls, "not one of them asked the store");
            assert!(not_tried(&world) >= 300.0, "{}", not_tried(&world));
            assert!(world.metric("anteroom_cut_off{room=\"a\"}") > 0.9);

            world.probe.set(Mood::Well);
            tokio::time::sleep(TICK * 2).await;
            let verdict = world.check("room=a capacity=0", &Shown::default()).await;
            assert!(matches!(verdict, Verdict::Wait(_)), "the first good tick ends it: {verdict:?}");
            assert!(world.metric("anteroom_cut_off{room=\"a\"}") < 0.1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rush_on_a_hanging_store_makes_few_calls() {
    let mut world = World::new();
    world.run();
    world.check("capacity=0", &Shown::default()).await;
    world.probe.set(Mood::Hangs);
    let before = world.probe.others();
    let shown = Shown::default();
    for _ in 0..200 {
        let check = world.check("capacity=0", &shown);
        let held = check.await;
        assert!(matches!(held, Verdict::Hold { .. }), "{held:?}");
    }
    let calls = world.probe.others() - before;
    assert!((1..=3).contains(&calls), "{calls}: no more are made after three, ticks counted");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_room_that_was_cut_off_comes_back_too() {
    let mut world = World::new();
    world.run();
    let room = world.room("capacity=1");
    tokio::time::sleep(TICK * 5).await;
    let ticks = world.probe.observed();
    tokio::time::sleep(TICK * 5).await;
    assert_eq!(world.probe.observed(), ticks, "it is quiet");
    world.probe.set(Mood::Fails);
    for _ in 0..10 {
        let refused = world.rooms.join(&room, &Shown::default()).await.err();
        assert!(matches!(refused, Some(VisitError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    }
    world.probe.set(Mood::Well);
    tokio::time::sleep(TICK * 2).await;
    let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
    assert_eq!(inside.standing.status, Status::Admitted);
}

#[tokio::test(start_paused = true)]
async fn made_up_names_are_looked_up_a_few_at_a_time() {
    let world = World::new();
    world.probe.set(Mood::Hangs);
    let names: Vec<_> = (0..200).map(|index| name(&format!("made-up-{index}"))).collect();
    let begun = Instant::now();
    let looks = join_all(names.iter().map(|name| world.rooms.room_named(name))).await;
    let unavailable = |look: &&Result<_, _>| matches!(look, Err(StoreError::Unavailable(_)));
    assert_eq!(looks.iter().filter(unavailable).count(), 200);
    assert_eq!(world.probe.observed(), 16);
    assert!((not_tried(&world) - 184.0).abs() < 0.1, "{}", not_tried(&world));
    assert!(begun.elapsed() <= STORE_BUDGET + Duration::from_millis(2), "{:?}", begun.elapsed());
    // Those who hang up leave none behind.
    for _ in 0..5 {
        let looks = join_all(names.iter().map(|name| world.rooms.room_named(name)));
        assert!(tokio::time::timeout(STORE_BUDGET / 2, looks).await.is_err());
    }
    world.probe.set(Mood::Well);
    let unheard = world.rooms.room_named(&names[0]).await.err();
    assert!(matches!(unheard, Some(StoreError::NoRoom(_))), "{unheard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_knows_is_asked_for_once_a_second() {
    let world = World::new();
    let nobody = name("made-up");
    for _ in 0..50 {
        let unheard = world.rooms.room_named(&nobody).await.err();
        assert!(matches!(unheard, Some(StoreError::NoRoom(_))), "{unheard:?}");
    }
    assert_eq!(world.probe.observed(), 1);
    tokio::time::advance(Duration::from_millis(1_001)).await;
    assert!(world.rooms.room_named(&nobody).await.is_err());
    assert_eq!(world.probe.observed(), 2);
    // A Check that states its limits makes it known here at once.
    world.check("room=made-up capacity=0", &Shown::default()).await;
    assert!(world.rooms.room_named(&nobody).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_for_the_same_room_share_one_look() {
    let world = World::new();
    world.probe.make("capacity=1").await;
    let shop = name("shop");
    let looks = join_all((0..500).map(|_| world.rooms.room_named(&shop))).await;
    assert!(looks.iter().all(Result::is_ok));
    assert!(
        world.probe.observed() <= 2,
        "{} calls: one to find it, one for its snapshot",
        world.probe.observed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_rejoin_that_fails_costs_nobody_their_place() {
    let world = World::new();
    let room = world.room("capacity=0 rejoin=back");
    let first = world.rooms.join(&room, &Shown::default()).await.unwrap();
    world.rooms.join(&room, &Shown::default()).await.unwrap();
    world.probe.set(Mood::Full);
    let refused = world.rooms.join(&room, &ticket_of(&first)).await.err();
    assert!(matches!(refused, Some(VisitError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    world.rooms.refresh(&room).await.unwrap();
    let told = world.rooms.position(&room, &ticket_of(&first)).await.unwrap();
    assert_eq!((told.standing.status, told.standing.position), (Status::Waiting, 1), "the old place holds");

    world.probe.set(Mood::Well);
    let again = world.rooms.join(&room, &ticket_of(&first)).await.unwrap();
    assert_eq!(
        (again.standing.position, again.is_new),
        (2, true),
        "behind the other, and not behind oneself"
    );
    let old = world.rooms.position(&room, &ticket_of(&first)).await.unwrap();
    assert_eq!(old.standing.status, Status::Gone, "one place each");
}

#[tokio::test(start_paused = true)]
async fn whoever_rejoins_an_empty_line_is_let_in_when_called() {
    let world = World::new();
    let room = world.room("capacity=1 rejoin=back");
    let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let waiting = world.rooms.join(&room, &Shown::default()).await.unwrap();
    world.rooms.leave_room(&room, &pass_of(&inside)).await.unwrap();
    let told = world.rooms.position(&room, &ticket_of(&waiting)).await.unwrap();
    assert_eq!(told.standing.status, Status::Called);
    let again = world.rooms.join(&room, &ticket_of(&waiting)).await.unwrap();
    assert_ne!(again.place, waiting.place);
    assert_eq!(again.standing.status, Status::Admitted, "the old call stood in nobody's way but its own");
    assert!((world.metric("anteroom_admissions_total{room=\"shop\"}") - 2.0).abs() < 0.1);
}
