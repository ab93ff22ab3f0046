//! Idempotency keys: one request passes with each, and whoever asks about that once more hears the same.

use anteroom::authz::Gate;
use anteroom::pb::envoy::service::auth::v3::CheckRequest;

use crate::gate::{ask, question, status};
use crate::world::World;

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

/// An order, as Envoy asks about the stream of this id.
fn order(stream: &str, request_id: &str) -> CheckRequest {
    let words = "room=shop capacity=100 idempotency=require";
    let mut question = by_alice(question(words, &[("idempotency-key", KEY), ("x-request-id", request_id)]));
    let http = question.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
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
