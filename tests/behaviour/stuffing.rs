//! One client that wants many places: how many it gets, by whatever way it asks.

use std::sync::Arc;

use anteroom::pb::anteroom::v1 as pb;
use anteroom::pb::anteroom::v1::waiting_room_server::WaitingRoom as _;
use anteroom::position;
use anteroom::routes::Routes;
use tonic::{Code, Request};

use crate::api::{Answered, Api};
use crate::gate::{ask, headers, question, status};
use crate::probe::Mood;
use crate::world::{Doors, World};

/// Nobody here waits so long that one more would be allowed.
const THREE: &str = "1/h burst 3";

/// The API behind a limit of three new places for each address, the polling API included.
fn api(words: &str) -> Api {
    let world = World::behind(Doors { join_limit: THREE.parse().ok(), ..Doors::default() });
    world.room(words);
    let tracer = position::tracer::router(world.tracer_desk(Arc::new(Routes::default())));
    let router = position::http::router(world.desk()).merge(tracer);
    Api { world, router }
}

/// As Envoy writes it, behind what the client says.
fn from(address: &str) -> String {
    format!("198.51.100.7, {address}")
}

async fn join(api: &Api, address: &str) -> Answered {
    api.shop("POST join", &[("x-forwarded-for", &from(address))]).await
}

fn is_refused(answer: &Answered) {
    answer.is_problem(429);
    assert_eq!(answer.header("ratelimit-policy"), "\"join\";q=1;w=3600");
    assert!(answer.header("ratelimit").starts_with("\"join\";r=0;t="), "{:?}", answer.headers);
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((3_500..=3_600).contains(&seconds), "{seconds}");
    assert!(answer.cookies().is_empty(), "{:?}", answer.cookies());
}

#[tokio::test]
async fn an_address_takes_so_many_places_and_no_more_by_whatever_way() {
    let api = api("capacity=0");
    let mut tickets = Vec::new();
    for number in 1..=3 {
        let joined = join(&api, "192.0.2.1").await;
        assert_eq!(joined.is(201).json()["number"], number);
        tickets.push(joined.token("ticket"));
    }
    for forged in 0..20 {
        // The client's own word of its address is worth nothing, and another browser's name makes it nobody else.
        let forwarded = format!("198.51.100.{forged}, 192.0.2.1");
        let agent = format!("browser {forged}");
        let headers = [("x-forwarded-for", forwarded.as_str()), ("user-agent", agent.as_str())];
        is_refused(&api.shop("POST join", &headers).await);
    }
    // By a Check.
    let gate = api.world.gate(10);
    let from_there = from("192.0.2.1");
    let checked = ask(&gate, question("room=shop capacity=0", &[("x-forwarded-for", &from_there)])).await;
    assert_eq!(status(&checked), (429, false));
    assert_eq!(headers(&checked)["ratelimit-policy"], "\"join\";q=1;w=3600");
    assert!(!headers(&checked).contains_key("set-cookie"));
    // By a poll, under whatever name.
    for user in ["ann", "bob"] {
        let poll = format!("GET /anteroom/v1/rooms/shop/tracer?loginId={user}");
        is_refused(&api.send(&poll, &[("x-forwarded-for", &from_there)]).await);
    }
    // By gRPC.
    let wanted = pb::JoinRequest { room: "shop".into(), ..pb::JoinRequest::default() };
    let mut wanted = Request::new(wanted);
    wanted.metadata_mut().insert("x-forwarded-for", from_there.parse().unwrap());
    let refused = api.world.desk().join(wanted).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.metadata().get("ratelimit-policy").unwrap(), "\"join\";q=1;w=3600");
    assert!(refused.metadata().contains_key("retry-after"));

    // Who holds a place goes on with it, there too.
    for (number, ticket) in (1..).zip(&tickets) {
        let shown = [("x-forwarded-for", from_there.as_str()), ("x-anteroom-ticket", ticket)];
        assert_eq!(api.shop("POST join", &shown).await.is(200).json()["number"], number);
        assert_eq!(api.shop("GET position", &shown).await.is(200).json()["number"], number);
        let checked = ask(&gate, question("room=shop capacity=0", &shown)).await;
        assert_eq!((status(&checked).0, headers(&checked).contains_key("ratelimit")), (429, false));
    }
    // And everybody else, a neighbour behind the same proxy included: nobody refused took a number.
    assert_eq!(join(&api, "192.0.2.2").await.is(201).json()["number"], 4);
    let counted = |outcome: &str| {
        let series = format!("anteroom_limit_decisions_total{{scope=\"join\",outcome=\"{outcome}\"}}");
        api.world.metric(&series)
    };
    assert_eq!((counted("allowed"), counted("refused") + counted("remembered")), (4.0, 24.0));
}

#[tokio::test]
async fn rooms_ways_and_replicas_count_together() {
    let api = api("capacity=0");
    let other = Api::over(api.world.beside());
    other.world.room("capacity=0");
    let hall = ("x-forwarded-for", "192.0.2.1");
    let gate = other.world.gate(10);
    assert_eq!(status(&ask(&gate, question("room=hall capacity=9", &[hall])).await), (200, false));
    join(&other, "192.0.2.1").await.is(201);
    join(&api, "192.0.2.1").await.is(201);
    is_refused(&join(&api, "192.0.2.1").await);
    is_refused(&join(&other, "192.0.2.1").await);
    assert_eq!(status(&ask(&gate, question("room=hall capacity=9", &[hall])).await), (429, false));
    // A household's network is one address.
    for (host, status) in [(1, 201), (2, 201), (3, 201), (4, 429)] {
        join(&api, &format!("2001:db8:0:1::{host}")).await.is(status);
    }
    join(&api, "2001:db8:0:2::4").await.is(201);
}

#[tokio::test]
async fn a_place_at_the_back_is_a_new_one_and_one_lost_is_taken_anew() {
    let api = api("capacity=0 rejoin=back");
    let address = ("x-forwarded-for", "192.0.2.1");
    let mut ticket = api.shop("POST join", &[address]).await.is(201).token("ticket");
    for _ in 0..2 {
        let back = api.shop("POST join", &[address, ("x-anteroom-ticket", &ticket)]).await;
        ticket = back.is(201).token("ticket");
    }
    let shown = [address, ("x-anteroom-ticket", ticket.as_str())];
    is_refused(&api.shop("POST join", &shown).await);
    assert_eq!(api.shop("GET position", &shown).await.is(200).json()["number"], 3, "the place is kept");
    api.shop("DELETE ticket", &shown).await.is(204);
    is_refused(&api.shop("POST join", &shown).await);
}

#[tokio::test]
async fn an_outage_uses_up_nothing() {
    let api = api("capacity=0");
    let gate = api.world.gate(10);
    join(&api, "192.0.2.9").await.is(201);
    api.world.probe.set(Mood::Fails);
    for _ in 0..20 {
        join(&api, "192.0.2.1").await.is(503);
        let checked = question("room=shop capacity=0", &[("x-forwarded-for", "192.0.2.1")]);
        assert_eq!(headers(&ask(&gate, checked).await)["retry-after"], "5", "held as ever");
    }
    let spent = api.world.metric("anteroom_limit_decisions_total{scope=\"join\",outcome=\"allowed\"}");
    // Until the breaker opens, nobody knows.
    assert!(spent <= 1.0 + 3.0, "{spent}");
}

#[tokio::test]
async fn who_is_let_in_costs_nothing_and_where_no_limit_is_set_nothing_is_counted() {
    let limited = api("capacity=9");
    let gate = limited.world.gate(10);
    let words = "room=shop capacity=9";
    let first = ask(&gate, question(words, &[("x-forwarded-for", "192.0.2.1")])).await;
    let pass = crate::gate::cookie(&first);
    for _ in 0..20 {
        let shown = [("x-forwarded-for", "192.0.2.1"), ("cookie", pass.as_str())];
        assert_eq!(status(&ask(&gate, question(words, &shown)).await), (200, false));
    }
    let spent =
        |world: &World| world.metric("anteroom_limit_decisions_total{scope=\"join\",outcome=\"allowed\"}");
    assert!(spent(&limited.world).total_cmp(&1.0).is_eq());

    let open = Api::open("capacity=0");
    for number in 1..=200 {
        assert_eq!(join(&open, "192.0.2.1").await.is(201).json()["number"], number);
    }
    assert!(spent(&open.world).total_cmp(&0.0).is_eq());
    // Rooms that are switched off give no places.
    let off = api("mode=off");
    for _ in 0..5 {
        join(&off, "192.0.2.1").await.is(200);
    }
}
