//! What visitors do in the rooms: positions that never rise, looks that cost nothing, tokens that lie beside others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anteroom::room::decision::{Bypass, Verdict};
use anteroom::room::policy::Source;
use anteroom::room::standing::Status;
use anteroom::room::state::Subject;
use anteroom::rooms::visit::{Shown, VisitError};
use anteroom::store::StoreError;

use crate::policies::{name, policy};
use crate::world::{TICK, World, pass, pass_of, ticket, ticket_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn told_positions_never_rise_however_many_come_and_go() {
    let mut world = World::with(|options| {
        options.tick = Duration::from_millis(1);
        // So that a busy machine is no outage.
        options.store_budget = Duration::from_secs(5);
    });
    world.run();
    let (rooms, over, told) =
        (world.rooms.clone(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let visitors: Vec<_> = (0..24)
        .map(|seed| {
            let (rooms, over, told) = (rooms.clone(), over.clone(), told.clone());
            tokio::spawn(async move {
                let room = rooms.room_with(&policy("capacity=3"), Source::ContextExtensions).unwrap();
                while !over.load(Ordering::SeqCst) {
                    let joined = rooms.join(&room, &Shown::default()).await.unwrap();
                    let mut answer = joined.clone();
                    let mut last = u64::MAX;
                    // Some give up after a few looks, as people do.
                    for look in 0.. {
                        let standing = &answer.standing;
                        if standing.status != Status::Waiting || (seed % 3 == 0 && look > 30) {
                            break;
                        }
                        let (number, position) = (standing.number, standing.position);
                        assert!(position <= last, "number {number} at {last}, then {position}");
                        assert!(position <= standing.waiting, "{position} of {}", standing.waiting);
                        (last, _) = (position, told.fetch_add(1, Ordering::SeqCst));
                        tokio::task::yield_now().await;
                        let shown = ticket_of(&joined);
                        answer = match look % 4 {
                            0 => rooms.join(&room, &shown).await.unwrap(),
                            _ => rooms.position(&room, &shown).await.unwrap(),
                        };
                    }
                    let shown = match (&joined.ticket, &answer.pass) {
                        (_, Some(pass_given)) => pass(&pass_given.token),
                        (Some(ticket), None) => {
                            match rooms.enter(&room, &self::ticket(&ticket.token)).await {
                                Ok(entered) => pass_of(&entered),
                                Err(_) => self::ticket(&ticket.token),
                            }
                        }
                        (None, None) => continue,
                    };
                    // Inside until the others have looked about: nobody waits in front of an empty room.
                    let enough = told.load(Ordering::SeqCst) + 60;
                    while told.load(Ordering::SeqCst) < enough && !over.load(Ordering::SeqCst) {
                        tokio::task::yield_now().await;
                    }
                    rooms.leave_room(&room, &shown).await.unwrap();
                    rooms.leave_line(&room, &shown).await.unwrap();
                }
            })
        })
        .collect();
    let deadline = Instant::now() + Duration::from_mins(1);
    while told.load(Ordering::SeqCst) < 8_000 && !visitors.iter().any(tokio::task::JoinHandle::is_finished) {
        assert!(Instant::now() < deadline, "only {} positions were told", told.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    over.store(true, Ordering::SeqCst);
    for visitor in visitors {
        visitor.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_a_stream_and_a_pass_cost_no_store_call() {
    let world = World::new();
    let room = world.room("capacity=1");
    let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let waiting = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let fresh = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let watch = world.rooms.watch(&room, &ticket_of(&waiting)).await.unwrap();
    let before = (world.probe.observed(), world.probe.others());
    for _ in 0..100 {
        let told = world.rooms.position(&room, &ticket_of(&waiting)).await.unwrap();
        assert_eq!((told.standing.status, told.standing.position), (Status::Waiting, 1));
        let told = world.rooms.position(&room, &ticket_of(&fresh)).await.unwrap();
        assert_eq!(told.standing.position, 2, "given since the last snapshot");
        assert_eq!(world.rooms.watched(&watch).unwrap().position, 1);
        let admitted = world.check("capacity=1", &pass_of(&inside)).await;
        assert!(matches!(admitted, Verdict::Admit(_)), "{admitted:?}");
        let waits = world.check("capacity=1", &ticket_of(&waiting)).await;
        assert!(matches!(waits, Verdict::Wait(_)), "{waits:?}");
        assert_eq!(world.rooms.join(&room, &ticket_of(&waiting)).await.unwrap().standing.position, 1);
        let told = world.rooms.position(&room, &pass_of(&inside)).await.unwrap();
        assert_eq!(told.standing.status, Status::Admitted);
    }
    assert_eq!((world.probe.observed(), world.probe.others()), before);
}

#[tokio::test(start_paused = true)]
async fn quiet_rooms_are_left_alone_until_something_happens() {
    let mut world = World::new();
    world.run();
    let room = world.room("capacity=1 session_ttl=2s");
    let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
    tokio::time::sleep(TICK * 3).await;
    let ticks = world.probe.observed();
    tokio::time::sleep(TICK * 5).await;
    assert!(world.probe.observed() >= ticks + 4, "somebody is inside: the room is ticked");
    drop(inside);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ticks = world.probe.observed();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(world.probe.observed(), ticks, "nobody is there any more");
    world.room("capacity=2 session_ttl=2s");
    tokio::time::sleep(TICK * 2).await;
    assert!(world.probe.observed() > ticks, "new limits are heard of");
    assert_eq!(room.snapshot().unwrap().policy.capacity, Some(2));
    let ticks = world.probe.observed();
    world.rooms.join(&room, &Shown::default()).await.unwrap();
    tokio::time::sleep(TICK * 5).await;
    assert!(world.probe.observed() >= ticks + 4);
}

#[tokio::test(start_paused = true)]
async fn numbers_that_walked_in_are_told_to_the_store_too() {
    let world = World::new();
    let room = world.room("capacity=2");
    world.rooms.join(&room, &Shown::default()).await.unwrap();
    let last = world.rooms.join(&room, &Shown::default()).await.unwrap();
    world.rooms.join(&room, &Shown::default()).await.unwrap();
    let hints = world.probe.hints();
    assert_eq!((hints.generation, hints.next), (last.place.generation, last.place.number + 1));
}

#[tokio::test(start_paused = true)]
async fn a_pass_given_back_hides_neither_another_nor_a_ticket() {
    let world = World::new();
    let words = "capacity=2";
    let room = world.room(words);
    let old = world.rooms.join(&room, &Shown::default()).await.unwrap();
    world.rooms.leave_room(&room, &pass_of(&old)).await.unwrap();
    let good = world.rooms.join(&room, &Shown::default()).await.unwrap();
    world.rooms.join(&room, &Shown::default()).await.unwrap();
    let waiting = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let stale = pass_of(&old).passes;

    let both = Shown { passes: [&stale[..], &pass_of(&good).passes[..]].concat(), ..Shown::default() };
    let verdict = world.check(words, &both).await;
    assert!(matches!(&verdict, Verdict::Admit(admission) if admission.place == good.place), "{verdict:?}");

    let beside = Shown { passes: stale, ..ticket_of(&waiting) };
    for _ in 0..3 {
        match world.check(words, &beside).await {
            Verdict::Wait(wait) => assert_eq!(wait.standing.number, waiting.place.number),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_counts_only_where_the_policy_says_so() {
    let world = World::new();
    let user = Shown { subject: Some(Subject([9; 16])), ..Shown::default() };
    let number = async |words| match world.check(words, &user).await {
        Verdict::Wait(wait) => wait.standing.number,
        other => panic!("{other:?}"),
    };
    let tickets = "room=tickets capacity=0";
    assert_eq!([number(tickets).await, number(tickets).await], [1, 2], "a place belongs to its ticket");
    let users = "room=users capacity=0 identity=subject";
    assert_eq!([number(users).await, number(users).await], [1, 1], "one user, one place");
}

#[tokio::test(start_paused = true)]
async fn a_pass_is_inside_for_every_call_while_it_holds() {
    let world = World::new();
    // Without a capacity the room keeps no sessions, only the pass does.
    let room = world.room("rate=10/s claim_ttl=1s");
    let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
    tokio::time::advance(Duration::from_secs(5)).await;
    world.rooms.refresh(&room).await.unwrap();
    let shown = pass_of(&inside);
    assert_eq!(world.rooms.position(&room, &shown).await.unwrap().standing.status, Status::Admitted);
    assert_eq!(world.rooms.enter(&room, &shown).await.unwrap().standing.status, Status::Admitted);
    let watch = world.rooms.watch(&room, &shown).await.unwrap();
    assert_eq!(world.rooms.watched(&watch).unwrap().status, Status::Admitted);
    tokio::time::advance(Duration::from_mins(4)).await;
    assert!(matches!(world.rooms.position(&room, &shown).await, Err(VisitError::NoToken)));
}

#[tokio::test(start_paused = true)]
async fn rejoining_goes_to_the_back_only_where_the_policy_says_so_and_never_from_inside() {
    let world = World::new();
    for (words, kept) in [("room=keep capacity=1", true), ("room=back capacity=1 rejoin=back", false)] {
        let room = world.room(words);
        let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
        let waiting = world.rooms.join(&room, &Shown::default()).await.unwrap();
        world.rooms.join(&room, &Shown::default()).await.unwrap();
        let again = world.rooms.join(&room, &ticket_of(&waiting)).await.unwrap();
        assert_eq!((again.place == waiting.place, again.is_new), (kept, !kept), "{words}");
        assert_eq!(again.standing.position, if kept { 1 } else { 2 });
        world.rooms.leave_room(&room, &pass_of(&inside)).await.unwrap();
        let next = if kept { again } else { world.rooms.join(&room, &Shown::default()).await.unwrap() };
        let shown = if kept { ticket_of(&waiting) } else { ticket_of(&next) };
        if kept {
            let entered = world.rooms.enter(&room, &shown).await.unwrap();
            let once_more = world.rooms.join(&room, &shown).await.unwrap();
            assert_eq!((once_more.place, once_more.is_new), (entered.place, false), "still inside");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn admissions_count_sessions_and_not_requests() {
    let world = World::new();
    let room = world.room("capacity=1");
    let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let waiting = world.rooms.join(&room, &Shown::default()).await.unwrap();
    world.rooms.leave_room(&room, &pass_of(&inside)).await.unwrap();
    for _ in 0..5 {
        world.rooms.enter(&room, &ticket_of(&waiting)).await.unwrap();
        world.rooms.refresh(&room).await.unwrap();
    }
    assert!((world.metric("anteroom_admissions_total{room=\"shop\"}") - 2.0).abs() < 0.1);
}

#[tokio::test(start_paused = true)]
async fn the_rooms_known_are_bounded_and_no_visitors_word_opens_one() {
    let world = World::with(|options| options.max_rooms = 2);
    for room in ["one", "two"] {
        world.room(&format!("room={room} capacity=0"));
    }
    let refused =
        world.rooms.room_with(&policy("room=three capacity=0"), Source::ContextExtensions).err().unwrap();
    assert!(matches!(refused, StoreError::TooManyRooms { max: 2, .. }), "{refused}");
    let verdict = world.check("room=three capacity=0", &Shown::default()).await;
    assert!(matches!(&verdict, Verdict::Error { message } if message.contains("three")), "{verdict:?}");
    for index in 0..50 {
        let unheard = world.rooms.room_named(&name(&format!("unheard-{index}"))).await.err().unwrap();
        assert!(matches!(unheard, StoreError::NoRoom(_)), "{unheard}");
    }
    assert_eq!(world.rooms.all().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_room_switched_off_lets_everybody_through_and_calls_all_who_wait() {
    let world = World::new();
    let room = world.room("capacity=0 claim_ttl=10s");
    let waiting = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let off = async || {
        let verdict = world.check("mode=off", &Shown::default()).await;
        assert_eq!(verdict, Verdict::Bypass(Bypass::Off));
    };
    off().await;
    // A slip taken back before any tick has done no harm.
    match world.check("capacity=0 claim_ttl=10s", &ticket_of(&waiting)).await {
        Verdict::Wait(wait) => assert_eq!(wait.standing.number, waiting.place.number),
        other => panic!("{other:?}"),
    }
    off().await;
    world.rooms.refresh(&room).await.unwrap();
    let told = world.rooms.position(&room, &ticket_of(&waiting)).await.unwrap();
    assert_eq!(told.standing.status, Status::Called, "a page that waits goes on by itself");
}

#[tokio::test]
async fn a_replica_that_has_not_heard_of_a_number_yet_tells_no_worse_position() {
    let here = World::new();
    let there = here.beside();
    let words = "capacity=3";
    let (room, same_room) = (here.room(words), there.room(words));
    there.rooms.refresh(&same_room).await.unwrap();
    let mut last = None;
    for _ in 0..5 {
        last = Some(here.rooms.join(&room, &Shown::default()).await.unwrap());
    }
    let fifth = last.unwrap();
    assert_eq!((fifth.standing.number, fifth.standing.position), (5, 2), "three are inside");
    let calls = there.probe.observed();
    let told = there.rooms.position(&same_room, &ticket_of(&fifth)).await.unwrap();
    assert_eq!(told.standing.position, 2, "as its ticket says");
    assert_eq!(there.probe.observed(), calls, "and nobody was asked");
    let watch = there.rooms.watch(&same_room, &ticket_of(&fifth)).await.unwrap();
    assert_eq!(there.rooms.watched(&watch).unwrap().position, 2);
}

#[tokio::test(start_paused = true)]
async fn limits_that_no_check_states_any_more_do_not_come_back() {
    let mut world = World::new();
    let mut other = world.beside();
    world.run();
    other.run();
    let room = world.room("capacity=0");
    let elsewhere = other.room("capacity=0");
    world.rooms.join(&room, &Shown::default()).await.unwrap();
    tokio::time::sleep(TICK * 10).await;
    // From now on only one process gets Checks, with other limits; both go on ticking, as somebody waits.
    for _ in 0..20 {
        world.room("capacity=0 rate=5/s");
        tokio::time::sleep(TICK).await;
        for room in [&room, &elsewhere] {
            assert!(
                room.snapshot().unwrap().policy.rate.is_some(),
                "taken back by one that heard nothing of it"
            );
        }
    }
    assert!(other.metric(r#"anteroom_policy_conflicts_total{room="shop"}"#) < 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_room_stays_known_where_the_store_forgets_it() {
    for call in ["join", "enter", "leave", "poll"] {
        let mut world = World::new();
        world.run();
        let room = world.room("capacity=1");
        let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
        let waiting = world.rooms.join(&room, &Shown::default()).await.unwrap();
        world.rooms.leave_room(&room, &pass_of(&inside)).await.unwrap();
        world.rooms.leave_line(&room, &ticket_of(&waiting)).await.unwrap();
        // Long enough for its limits to go along with no call any more, and for the pass given back to have ended.
        tokio::time::sleep(Duration::from_mins(10)).await;
        let ticks = world.probe.observed();
        tokio::time::sleep(TICK * 2).await;
        assert_eq!(world.probe.observed(), ticks, "the room is quiet");
        world.probe.forget();
        let unknown = match call {
            "join" => world.rooms.join(&room, &Shown::default()).await.err(),
            "enter" => world.rooms.enter(&room, &ticket_of(&waiting)).await.err(),
            "leave" => world.rooms.leave_room(&room, &pass_of(&inside)).await.err(),
            _ => world.rooms.poll(&room, Subject([7; 16]), None).await.err(),
        };
        let unknown = unknown.filter(|error| matches!(error, VisitError::Store(_)));
        assert!(unknown.is_none(), "{call}: {unknown:?}");
    }
}
