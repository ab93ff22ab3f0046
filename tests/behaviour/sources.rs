//! Where a room and its gates come from when several places state something: a gate takes no room away.

use std::path::Path;

use anteroom::authz::Gate;
use anteroom::pb::envoy::config::core::v3::Metadata;
use anteroom::pb::envoy::service::auth::v3::CheckRequest;
use anteroom::routes::Routes;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::gate::{ask, by, cookie, question, status};
use crate::world::World;

const ROOMS: &str = "rooms:\n  filed: {capacity: 0, anonymous: refuse, match: [{prefix: /}]}\n  \
                     named: {capacity: 1, limit_user: 2/m burst 2}\n";

fn gate(world: &World) -> Gate {
    world.gate_over(Routes::parse(ROOMS, Path::new("rooms.yaml")).unwrap(), 10)
}

/// The question from a route with this metadata, too.
fn with_metadata(pairs: &[(&str, &str)], mut question: CheckRequest) -> CheckRequest {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = pairs.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
    let room = ("anteroom".to_owned(), Struct { fields });
    let context = Metadata { filter_metadata: [room].into_iter().collect() };
    question.attributes.as_mut().unwrap().route_metadata_context = Some(context);
    question
}

async fn answer(gate: &Gate, question: CheckRequest) -> i32 {
    status(&ask(gate, question).await).0
}

#[tokio::test(start_paused = true)]
async fn a_gate_stated_at_a_route_leaves_it_in_its_room() {
    let world = World::new();
    let gate = gate(&world);
    let gates =
        [("deny", "on"), ("limit_ip", "1000/s"), ("idempotency", "accept"), ("limit_client", "1000/s")];
    for (key, value) in gates {
        let in_extensions = || question(&format!("{key}={value}"), &[]);
        let in_metadata = || with_metadata(&[(key, value)], question("", &[]));
        for stated in [&in_extensions as &dyn Fn() -> _, &in_metadata] {
            assert_eq!(answer(&gate, stated()).await, 401, "{key}: the rooms file's own gate");
            assert_eq!(answer(&gate, by("ann", stated())).await, 429, "{key}: and its line");
        }
        let by_metadata = with_metadata(&[("room", "shop"), ("capacity", "0")], in_extensions());
        assert_eq!(answer(&gate, by_metadata).await, 429, "{key}: the metadata's line");
    }
    let opened = question("anonymous=allow", &[]);
    assert_eq!(answer(&gate, opened).await, 429, "the nearer gate counts, and the line stays");
}

/// Those inside go a way of their own, which must come to the same.
#[tokio::test(start_paused = true)]
async fn what_metadata_states_counts_for_those_inside_too() {
    for (extensions, metadata) in [
        ("room=named capacity=1", &[][..]),
        ("room=named", &[]),
        ("room=shop capacity=1", &[("limit_user", "2/m burst 2")]),
        ("limit_user=2/m", &[("room", "shop"), ("capacity", "1")]),
    ] {
        let world = World::new();
        let gate = gate(&world);
        let asked = |headers: &[(&str, &str)]| {
            let asked = by("ann", question(extensions, headers));
            if metadata.is_empty() { asked } else { with_metadata(metadata, asked) }
        };
        let entered = ask(&gate, asked(&[])).await;
        assert_eq!(status(&entered).0, 200, "{extensions} {metadata:?}");
        let pass = cookie(&entered);
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(answer(&gate, asked(&[("cookie", &pass)])).await);
        }
        assert_eq!(answers, [200, 429], "{extensions} {metadata:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slip_beside_a_room_is_an_error_wherever_it_stands() {
    let world = World::new();
    let gate = gate(&world);
    let room = [("room", "shop"), ("capacity", "1")];
    let beside = with_metadata(&[("anonymus", "refuse")], question("room=shop capacity=1", &[]));
    assert_eq!(answer(&gate, beside).await, 503);
    let before = with_metadata(&room, question("limit_ip=many", &[]));
    assert_eq!(answer(&gate, before).await, 503);
    assert_eq!(answer(&gate, with_metadata(&room, question("", &[]))).await, 200);
}
