//! Pages that go away: a closed one frees its place, and a second tab, a reload or a tunnel keeps it.

use std::sync::Arc;
use std::time::Duration;

use anteroom::room::standing::Status;
use anteroom::rooms::Room;
use anteroom::rooms::visit::{Answer, Shown};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::api::Api;
use crate::probe::Mood;
use crate::world::{World, ticket_of};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than every grace, and shorter than `patience`.
const A_WHILE: Duration = Duration::from_mins(1);
/// The least that a page may be away: see `room::away::grace`.
const LEAST: Duration = Duration::from_secs(10);

const WORDS: &str = "capacity=1 session_ttl=1h";
const NOTED: &str = "anteroom_away_noted_total{room=\"shop\"}";

/// A room with one inside, and two who wait.
async fn line(world: &World) -> (Arc<Room>, Answer, Answer) {
    let room = world.room(WORDS);
    world.rooms.join(&room, &Shown::default()).await.unwrap();
    let first = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let second = world.rooms.join(&room, &Shown::default()).await.unwrap();
    (room, first, second)
}

async fn status(world: &World, room: &Arc<Room>, visitor: &Answer) -> Status {
    world.rooms.position(room, &ticket_of(visitor)).await.unwrap().standing.status
}

/// How long until the one behind is the next, at most two `patience`.
async fn until_next(world: &World, room: &Arc<Room>, visitor: &Answer) -> Duration {
    let begun = Instant::now();
    while begun.elapsed() < 6 * A_WHILE {
        if world.rooms.position(room, &ticket_of(visitor)).await.unwrap().standing.position == 1 {
            return begun.elapsed();
        }
        sleep(SECOND).await;
    }
    panic!("nobody left");
}

#[tokio::test(start_paused = true)]
async fn a_closed_page_frees_its_place_after_a_grace() {
    let mut world = World::new();
    world.run();
    let (room, first, second) = line(&world).await;
    // As a page does: it polls, and is closed a moment later, while that is still on its way to the store.
    status(&world, &room, &first).await;
    assert!(world.rooms.away(&room, &ticket_of(&first)).await.unwrap());
    let took = until_next(&world, &room, &second).await;
    assert!((LEAST..A_WHILE).contains(&took), "{took:?}");
    assert_eq!(status(&world, &room, &first).await, Status::Gone);
    assert!((world.metric(NOTED) - 1.0).abs() < 0.1, "noted once");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_polls_again_keeps_its_place() {
    let mut world = World::new();
    world.run();
    let (room, first, _) = line(&world).await;
    assert!(world.rooms.away(&room, &ticket_of(&first)).await.unwrap());
    let begun = Instant::now();
    while begun.elapsed() < A_WHILE {
        let standing = world.rooms.position(&room, &ticket_of(&first)).await.unwrap().standing;
        assert_eq!(standing.status, Status::Waiting, "after {:?}", begun.elapsed());
        sleep(SECOND * standing.poll_after).await;
    }
    assert!((world.metric(NOTED) - 1.0).abs() < 0.1, "it was noted, and heard of again");
}

#[tokio::test(start_paused = true)]
async fn a_stream_open_here_or_at_another_replica_keeps_the_place() {
    let mut world = World::new();
    let mut other = world.beside();
    world.run();
    other.run();
    let (room, first, second) = line(&world).await;
    let there = other.room(WORDS);
    // Streams that never look: only what the rooms themselves say for them counts.
    let _here = world.rooms.watch(&room, &ticket_of(&first)).await.unwrap();
    let _there = other.rooms.watch(&there, &ticket_of(&second)).await.unwrap();
    for visitor in [&first, &second] {
        assert!(world.rooms.away(&room, &ticket_of(visitor)).await.unwrap());
    }
    sleep(A_WHILE).await;
    assert!((world.metric(NOTED) - 1.0).abs() < 0.1, "the store is not told of a page that is open here");
    for visitor in [&first, &second] {
        assert_eq!(status(&world, &room, visitor).await, Status::Waiting);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_is_not_away_and_its_silence_is_noticed_in_time() {
    let mut world = World::new();
    world.run();
    let (room, first, second) = line(&world).await;
    drop(world.rooms.watch(&room, &ticket_of(&first)).await.unwrap());
    let took = until_next(&world, &room, &second).await;
    let patience = Duration::from_mins(3);
    assert!((patience..=patience.mul_f64(1.5) + 2 * SECOND).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_left_frees_the_place_at_once() {
    let world = World::new();
    let (room, first, second) = line(&world).await;
    assert!(world.rooms.leave_line(&room, &ticket_of(&first)).await.unwrap());
    assert_eq!(until_next(&world, &room, &second).await, Duration::ZERO, "without a tick");
}

#[tokio::test(start_paused = true)]
async fn a_word_outlives_an_outage_of_the_store() {
    let mut world = World::new();
    world.run();
    let (room, first, second) = line(&world).await;
    world.probe.set(Mood::Fails);
    assert!(world.rooms.away(&room, &ticket_of(&first)).await.unwrap(), "it is noted here");
    sleep(LEAST).await;
    world.probe.set(Mood::Well);
    let took = until_next(&world, &room, &second).await;
    assert!((LEAST..A_WHILE).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_ticket_that_holds_nothing_is_noted() {
    let mut world = World::new();
    world.run();
    let (room, ..) = line(&world).await;
    for shown in [Shown::default(), crate::world::ticket("eyJ.no.ticket")] {
        assert!(!world.rooms.away(&room, &shown).await.unwrap());
    }
    sleep(A_WHILE).await;
    assert!(world.metric(NOTED) < 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_beacon_says_so_with_its_token_in_header_cookie_or_body() {
    for way in ["header", "cookie", "beacon"] {
        let mut world = World::new();
        world.run();
        let api = Api::over(world);
        api.world.room(WORDS);
        api.shop("POST join", &[]).await.is(201);
        let ticket = api.shop("POST join", &[]).await.token("ticket");
        let next = api.shop("POST join", &[]).await.token("ticket");
        let answer = match way {
            "header" => api.shop("POST away", &[("x-anteroom-ticket", &ticket)]).await,
            "cookie" => {
                let cookie = format!("anteroom_ticket_shop={ticket}");
                api.shop("POST away", &[("cookie", &cookie)]).await
            }
            _ => api.post("away", "text/plain;charset=UTF-8", json!({"ticket": ticket}).to_string()).await,
        };
        assert_eq!(
            (answer.is(204).body.as_str(), answer.cookies().len()),
            ("", 0),
            "{way}: the ticket is kept"
        );
        sleep(A_WHILE).await;
        let told = api.shop("GET position", &[("x-anteroom-ticket", &next)]).await;
        assert_eq!(told.is(200).json()["position"], 1, "{way}");
        api.post("away", "text/plain", "{}").await.is_problem(401);
        api.post("away", "text/plain", "{").await.is_problem(400);
        assert_eq!(api.shop("GET away", &[]).await.is_problem(405).header("allow"), "POST");
    }
}
