//! Idempotency keys: one request passes with each, and whoever asks about that once more hears the same.

use anteroom::authz::Gate;
use anteroom::pb::envoy::service::auth::v3::CheckRequest;
use anteroom::pb::envoy::service::auth::v3::attribute_context::HttpRequest;

use crate::checkin::out_of_reach;
use crate::gate::{ask, body, cookie, question, status};
use crate::world::World;

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

/// The request that is asked about.
fn http_of(question: &mut CheckRequest) -> &mut HttpRequest {
    question.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap()
}

/// An order, as Envoy asks about the stream of this id.
fn order(stream: &str, request_id: &str) -> CheckRequest {
    let words = "room=shop capacity=100 idempotency=require";
    let mut question = by_alice(question(words, &[("idempotency-key", KEY), ("x-request-id", request_id)]));
    let http = http_of(&mut question);
    http.method = "POST".into();
    http.id = stream.into();
    question
}

/// Their keys are theirs, whichever cookies they have.
fn by_alice(question: CheckRequest) -> CheckRequest {
    crate::gate::by("alice", question)
}

async fn answer(gate: &Gate, question: CheckRequest) -> i32 {
    status(&ask(gate, question).await).0
}

/// The answer of the first replica is lost, and Envoy asks the other one.
#[tokio::test(start_paused = true)]
async fn a_check_that_envoy_repeats_is_answered_alike_by_every_replica() {
    let world = World::new();
    let beside = world.beside();
    let (one, other) = (world.gate(10), beside.gate(10));
    assert_eq!(answer(&one, order("17", "a")).await, 200);
    for gate in [&other, &one, &other] {
        assert_eq!(answer(gate, order("17", "a")).await, 200);
    }
    for gate in [&one, &other] {
        assert_eq!(answer(gate, order("18", "a")).await, 409, "another request with the same key");
    }
    let again = beside.metric("anteroom_once_claims_total{scope=\"idempotency\",outcome=\"again\"}");
    assert!(again > 1.0, "{again} of two");
}

/// What a client writes into its request says nothing about whose answer was lost.
#[tokio::test(start_paused = true)]
async fn a_request_id_of_the_clients_choice_lets_no_second_order_through() {
    let world = World::new();
    let gate = world.gate(10);
    assert_eq!(answer(&gate, order("17", "chosen")).await, 200);
    assert_eq!(answer(&gate, order("18", "chosen")).await, 409);
    assert_eq!(answer(&gate, order("19", "17")).await, 409, "the id of the stream that was first");
    assert_eq!(answer(&gate, order("", "17")).await, 409, "a proxy that names no stream");
    assert_eq!(answer(&gate, order("", "17")).await, 409);
}

/// A user's keys are the user's: a repeat is known before the line, whatever it shows, at every replica.
#[tokio::test(start_paused = true)]
async fn a_repeat_by_a_user_without_a_cookie_takes_no_number() {
    let world = World::new();
    let beside = world.beside();
    let gates = [world.gate(10), beside.gate(10)];
    let in_a_full_room = |mut order: CheckRequest| {
        let stated = &mut order.attributes.as_mut().unwrap().context_extensions;
        stated.insert("capacity".into(), "1".into());
        order
    };
    assert_eq!(answer(&gates[0], in_a_full_room(order("17", "a"))).await, 200);
    for stream in ["18", "19", "20"] {
        for gate in &gates {
            assert_eq!(answer(gate, in_a_full_room(order(stream, "a"))).await, 409);
        }
    }
    let newcomer = question("room=shop capacity=1 idempotency=require", &[]);
    assert_eq!(body(&ask(&gates[1], newcomer).await)["number"], 2);
    // Asked about once more, the one that passed is none.
    assert_eq!(answer(&gates[1], in_a_full_room(order("17", "a"))).await, 429, "without its pass it waits");
}

/// Who waits has not passed: being asked about uses up no key.
#[tokio::test(start_paused = true)]
async fn an_order_that_waits_is_no_repeat_of_itself() {
    let world = World::new();
    let gate = world.gate(10);
    let stated = |capacity: &str| {
        let mut order = order("17", "a");
        let stated = &mut order.attributes.as_mut().unwrap().context_extensions;
        stated.extend([("capacity".into(), capacity.into()), ("identity".into(), "subject".into())]);
        order
    };
    for _ in 0..3 {
        assert_eq!(answer(&gate, stated("0")).await, 429);
    }
    world.rooms.refresh(&world.room("capacity=5 identity=subject")).await.unwrap();
    assert_eq!(answer(&gate, stated("5")).await, 200);
}

/// The place was given before anybody could know that the order is refused: it must not be lost for that.
#[tokio::test(start_paused = true)]
async fn a_refused_order_keeps_the_place_that_it_was_given() {
    let mut world = World::new();
    let counting = world.guard.clone();
    world.guard = out_of_reach(&world);
    let headers = [("idempotency-key", KEY)];
    let by_newcomer = |headers: &[(&str, &str)]| {
        let mut order = question("room=shop capacity=1 idempotency=require", headers);
        let http = http_of(&mut order);
        http.method = "POST".into();
        order
    };
    let refused = ask(&world.gate(10), by_newcomer(&headers)).await;
    assert_eq!(status(&refused), (503, false));
    let pass = cookie(&refused);
    assert!(pass.starts_with("anteroom_pass_shop="), "{pass}");
    world.guard = counting;
    let again = by_newcomer(&[headers[0], ("cookie", &pass)]);
    assert_eq!(answer(&world.gate(10), again.clone()).await, 200);
    let repeat = ask(&world.gate(10), again).await;
    assert_eq!(status(&repeat).0, 409);
    assert!(!crate::gate::headers(&repeat).contains_key("set-cookie"), "it has its pass");
}

/// A client that sends an order again may write the same host differently.
#[tokio::test(start_paused = true)]
async fn an_order_is_the_same_however_its_host_is_written() {
    let world = World::new();
    let gate = world.gate(10);
    let to = |host: &str| {
        let mut order = order("", "a");
        let http = http_of(&mut order);
        http.host = host.into();
        order
    };
    assert_eq!(answer(&gate, to("shop.test")).await, 200);
    for host in ["SHOP.test", "shop.test.", "shop.test:80", "shop.test:443"] {
        assert_eq!(answer(&gate, to(host)).await, 409, "{host}");
    }
    assert_eq!(answer(&gate, to("other.test")).await, 200);
}

/// A pass may come along for long after it has stopped to count.
#[tokio::test(start_paused = true)]
async fn a_repeat_with_a_pass_given_back_takes_no_number() {
    let world = World::new();
    let gate = world.gate(10);
    let entered = ask(&gate, order("17", "a")).await;
    let pass = cookie(&entered);
    let room = world.room("capacity=100");
    let token = pass.split_once('=').unwrap().1;
    world.rooms.leave_room(&room, &crate::world::pass(token)).await.unwrap();
    world.rooms.refresh(&room).await.unwrap();
    for stream in ["18", "19", "20"] {
        let mut again = order(stream, "a");
        let http = http_of(&mut again);
        http.headers.insert("cookie".into(), pass.clone());
        assert_eq!(answer(&gate, again).await, 409);
    }
    let newcomer = ask(&gate, question("room=shop capacity=100", &[])).await;
    assert_eq!(crate::gate::headers(&newcomer)["x-anteroom-number"], "2");
}
