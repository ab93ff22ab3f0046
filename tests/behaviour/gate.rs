//! The Check handler, driven directly: what is shed, what is refused, whose place it is, whose limits count.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anteroom::authz::Gate;
use anteroom::pb::envoy::config::core::v3::Metadata;
use anteroom::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as Asked};
use anteroom::pb::envoy::service::auth::v3::check_response::HttpResponse;
use anteroom::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use anteroom::room::standing::Place;
use anteroom::room::state::Call;
use anteroom::rooms::visit::Shown;
use anteroom::store::Store as _;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tokio::time::Instant;

use crate::probe::Mood;
use crate::world::{CHECK_BUDGET, World};

/// A Check on `GET /` under limits like `room=shop capacity=2`, with these headers.
pub(crate) fn question(words: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let http = HttpRequest {
        method: "GET".into(),
        path: "/".into(),
        host: "example.com".into(),
        headers: headers.iter().copied().map(pair).collect(),
        ..HttpRequest::default()
    };
    let attributes = AttributeContext {
        request: Some(Asked { http: Some(http) }),
        context_extensions: words
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .map(pair)
            .collect(),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}

/// The same Check by a user whom `jwt_authn` has verified.
pub(crate) fn by(user: &str, mut question: CheckRequest) -> CheckRequest {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = |pairs: Vec<(&str, Value)>| Struct {
        fields: pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    };
    let payload = fields(vec![("iss", text("https://id.example")), ("sub", text(user))]);
    let payload = Value { kind: Some(Kind::StructValue(payload)) };
    let jwt = ("envoy.filters.http.jwt_authn".to_owned(), fields(vec![("payload", payload)]));
    let context = Metadata { filter_metadata: [jwt].into_iter().collect() };
    question.attributes.as_mut().unwrap().metadata_context = Some(context);
    question
}

pub(crate) async fn ask(gate: &Gate, question: CheckRequest) -> CheckResponse {
    let answer = gate.check(&question.encode_to_vec(), None, Vec::new()).await.unwrap();
    CheckResponse::decode(answer.as_slice()).unwrap()
}

/// The HTTP status a client would see, and whether it comes as an error of this service.
pub(crate) fn status(response: &CheckResponse) -> (i32, bool) {
    match response.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(_) => (200, false),
        HttpResponse::DeniedResponse(denied) => (denied.status.as_ref().unwrap().code, false),
        HttpResponse::ErrorResponse(denied) => (denied.status.as_ref().unwrap().code, true),
    }
}

pub(crate) fn body(response: &CheckResponse) -> serde_json::Value {
    match response.http_response.as_ref().unwrap() {
        HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied) => {
            serde_json::from_str(&denied.body).unwrap()
        }
        HttpResponse::OkResponse(_) => panic!("let in: {response:?}"),
    }
}

/// The headers of a denial or of a request let in, by name; the last of a name counts.
pub(crate) fn headers(response: &CheckResponse) -> HashMap<String, String> {
    let options = match response.http_response.as_ref().unwrap() {
        HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied) => denied.headers.clone(),
        HttpResponse::OkResponse(ok) => [&ok.headers[..], &ok.response_headers_to_add[..]].concat(),
    };
    options.into_iter().filter_map(|option| option.header).map(|header| (header.key, header.value)).collect()
}

pub(crate) fn cookie(response: &CheckResponse) -> String {
    headers(response)["set-cookie"].split(';').next().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn more_checks_than_may_be_in_flight_are_shed_at_once() {
    let world = World::new();
    let gate = Arc::new(world.gate(3));
    let words = "room=shop capacity=0";
    ask(&gate, question(words, &[])).await;
    world.probe.set(Mood::Hangs);
    let begun = Instant::now();
    let held: Vec<_> = (0..3)
        .map(|_| {
            let gate = gate.clone();
            tokio::spawn(async move { ask(&gate, question(words, &[])).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let shed = ask(&gate, question(words, &[])).await;
    assert_eq!((status(&shed), begun.elapsed()), ((503, true), Duration::ZERO));
    assert!((world.metric("anteroom_checks_shed_total") - 1.0).abs() < 0.1);
    for held in held {
        assert_eq!(status(&held.await.unwrap()), (429, false), "held, not refused");
    }
    assert!(begun.elapsed() < CHECK_BUDGET);
    world.probe.set(Mood::Well);
    // After three failures in a row it is the tick that finds out.
    world.rooms.refresh(&world.room("capacity=0")).await.unwrap();
    assert_eq!(body(&ask(&gate, question(words, &[])).await)["number"], 2);
    assert!(world.metric("anteroom_checks_in_flight") < 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_makes_no_sense_is_an_error_every_time() {
    let world = World::new();
    let gate = world.gate(10);
    for round in 1..=3 {
        let refused = ask(&gate, question("room=shop capacty=5", &[])).await;
        assert_eq!(status(&refused), (503, true));
        let told = body(&refused)["detail"].as_str().unwrap().to_owned();
        assert!(told.contains("capacty") && told.contains("did you mean capacity?"), "{told}");
        assert!((world.metric("anteroom_config_errors_total") - f64::from(round)).abs() < 0.1);
    }
    assert!(world.rooms.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_room_passes_free() {
    let world = World::new();
    let gate = world.gate(10);
    assert_eq!(status(&ask(&gate, question("", &[])).await), (200, false));
    assert_eq!(status(&ask(&gate, question("room=shop mode=off", &[])).await), (200, false));
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "PUT")];
    let mut asked = question("room=shop capacity=0", &preflight);
    asked.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap().method =
        "OPTIONS".into();
    assert_eq!(status(&ask(&gate, asked).await), (200, false));
    let room = world.room("capacity=0");
    let waiting = world.rooms.refresh(&room).await.unwrap().waiting;
    assert_eq!(waiting, 0, "nobody took a place");
    let network = CheckRequest { attributes: Some(AttributeContext::default()) };
    assert_eq!(status(&ask(&gate, network).await), (503, true));
}

#[tokio::test(start_paused = true)]
async fn a_user_has_one_place_and_a_stranger_none() {
    let world = World::new();
    let gate = world.gate(10);
    let words = "room=users capacity=0 identity=subject";
    let number = async |user| body(&ask(&gate, by(user, question(words, &[]))).await)["number"].clone();
    assert_eq!([number("ann").await, number("bob").await, number("ann").await], [1, 2, 1]);
    assert_eq!(status(&ask(&gate, question(words, &[])).await), (401, false));
    let tickets = "room=tickets capacity=0";
    for expected in [1, 2] {
        let told = body(&ask(&gate, by("ann", question(tickets, &[]))).await);
        assert_eq!(told["number"], expected, "a place belongs to its ticket");
    }
}

#[tokio::test(start_paused = true)]
async fn the_way_in_by_cookie_and_what_the_backend_hears() {
    let world = World::new();
    let gate = world.gate(10);
    let words = "room=shop capacity=1 session_ttl=100s";
    let first = ask(&gate, question(words, &[("x-anteroom-number", "999")])).await;
    let told = headers(&first);
    assert_eq!((told["x-anteroom-room"].as_str(), told["x-anteroom-number"].as_str()), ("shop", "1"));
    let pass = cookie(&first);
    assert!(pass.starts_with("anteroom_pass_shop="), "{pass}");
    let again = ask(&gate, question(words, &[("cookie", &pass)])).await;
    assert!(status(&again).0 == 200 && !headers(&again).contains_key("set-cookie"));
    tokio::time::advance(Duration::from_mins(1)).await;
    let renewed = ask(&gate, question(words, &[("cookie", &pass)])).await;
    assert!(headers(&renewed)["set-cookie"].contains("Max-Age=100"), "{:?}", headers(&renewed));
    let second = ask(&gate, question(words, &[])).await;
    assert_eq!((status(&second), body(&second)["position"].clone()), ((429, false), 1.into()));
    let ticket = cookie(&second);
    tokio::time::advance(Duration::from_secs(100)).await;
    world.rooms.refresh(&world.room(words)).await.unwrap();
    let entered = ask(&gate, question(words, &[("cookie", &ticket)])).await;
    assert_eq!((status(&entered).0, headers(&entered)["x-anteroom-number"].as_str()), (200, "2"));
}

#[tokio::test(start_paused = true)]
async fn limits_change_between_two_checks_and_nobody_loses_a_place() {
    let world = World::new();
    let gate = world.gate(10);
    let mut tickets = Vec::new();
    for _ in 0..4 {
        tickets.push(cookie(&ask(&gate, question("room=shop capacity=0", &[])).await));
    }
    // The newcomer brings the news, and stays behind those who came before.
    let newcomer = ask(&gate, question("room=shop capacity=2", &[])).await;
    assert_eq!((status(&newcomer).0, body(&newcomer)["position"].clone()), (429, 3.into()));
    world.rooms.refresh(&world.room("capacity=2")).await.unwrap();
    for (index, ticket) in tickets.iter().enumerate() {
        let answered = ask(&gate, question("room=shop capacity=2", &[("cookie", ticket)])).await;
        assert_eq!(status(&answered).0, if index < 2 { 200 } else { 429 }, "{index}");
        if index >= 2 {
            assert_eq!(body(&answered)["position"], index - 1);
        }
    }
    assert!(world.metric("anteroom_policy_conflicts_total{room=\"shop\"}") < 0.1, "a change is no conflict");
    let changed = ask(&gate, question("room=shop capacity=0", &[("cookie", &tickets[2])])).await;
    assert_eq!(body(&changed)["position"], 1);
}

#[tokio::test(start_paused = true)]
async fn two_routes_that_state_different_limits_are_counted() {
    let world = World::new();
    let gate = world.gate(10);
    let mut ticket = String::new();
    for round in 0..10 {
        for words in ["room=shop capacity=0", "room=shop capacity=0 burst=7"] {
            let shown = [("cookie", ticket.as_str())];
            let answered = ask(&gate, question(words, &shown)).await;
            if round == 0 && ticket.is_empty() {
                ticket = cookie(&answered);
            }
            assert_eq!(body(&answered)["number"], 1, "nobody loses a place over it");
        }
    }
    let counted = world.metric("anteroom_policy_conflicts_total{room=\"shop\"}");
    assert!((counted - 18.0).abs() < 0.1, "every turn but the first change: {counted}");
}

#[tokio::test(start_paused = true)]
async fn checks_are_counted_by_room_and_verdict() {
    let world = World::new();
    let gate = world.gate(10);
    for _ in 0..3 {
        ask(&gate, question("room=shop capacity=1", &[])).await;
    }
    for (verdict, count) in [("admit", 1.0), ("wait", 2.0), ("error", 0.0)] {
        let series = format!("anteroom_checks_total{{room=\"shop\",verdict=\"{verdict}\"}}");
        assert!((world.metric(&series) - count).abs() < 0.1, "{verdict}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_rooms_are_all_served_and_one_too_many_harms_none() {
    const ROOMS: usize = 10_000;
    let world = World::with(|options| options.max_rooms = ROOMS);
    let gate = world.gate(3);
    let asks = |room: usize| question(&format!("room=room-{room} capacity=1"), &[]);
    for room in 0..ROOMS {
        assert_eq!(status(&ask(&gate, asks(room)).await), (200, false), "room {room}");
    }
    let one_more = ask(&gate, asks(ROOMS)).await;
    assert_eq!(status(&one_more), (503, true));
    assert!(body(&one_more)["detail"].as_str().unwrap().contains("--max-rooms"), "{one_more:?}");
    // Each of the others has a line of its own, and goes on.
    for room in [0, 1, ROOMS / 2, ROOMS - 1] {
        let waiting = ask(&gate, asks(room)).await;
        assert_eq!((status(&waiting), &body(&waiting)["position"]), ((429, false), &serde_json::json!(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_whose_session_the_store_calls_over_is_as_good_as_none() {
    let world = World::new();
    let gate = world.gate(10);
    let words = "room=users capacity=1 identity=subject session_ttl=100s";
    let ann = cookie(&ask(&gate, by("ann", question(words, &[]))).await);
    tokio::time::advance(Duration::from_secs(50)).await;
    // Ended elsewhere, and this process has not heard of it yet.
    let room = world.room(words);
    let place = Place { generation: room.snapshot().unwrap().generation(), number: 1 };
    let until = world.rooms.now() + 50_000;
    world.probe.leave(room.name(), &Call::default(), &[(place, Some(until))]).await.unwrap();
    let bare = ask(&gate, question(words, &[("cookie", &ann)])).await;
    assert_eq!(status(&bare), (401, false), "without a user there is no place in this room");
    let anew = ask(&gate, by("bob", question(words, &[("cookie", &ann)]))).await;
    assert_eq!((status(&anew).0, headers(&anew)["x-anteroom-number"].as_str()), (200, "2"));
}

#[tokio::test(start_paused = true)]
async fn a_pass_holds_also_when_time_runs_out_and_newcomers_get_what_the_policy_says() {
    let words = "room=shop capacity=1 session_ttl=100s on_outage=closed";
    let first = World::new();
    let inside = first.rooms.join(&first.room(words), &Shown::default()).await.unwrap();
    let pass = inside.pass.unwrap().token;
    // Half of it is over, so that it should be renewed as well.
    for age in [0, 50] {
        tokio::time::advance(Duration::from_secs(age)).await;
        let slow = World::with(|options| options.store_budget = CHECK_BUDGET * 2);
        slow.probe.set(Mood::Hangs);
        let gate = slow.gate(100);
        for _ in 0..5 {
            let begun = Instant::now();
            let answer = ask(&gate, question(words, &[("x-anteroom-pass", &pass)])).await;
            assert_eq!(status(&answer), (200, false), "{age} s: {answer:?}");
            let answer = ask(&gate, question(words, &[])).await;
            assert_eq!(status(&answer).0, 503, "{answer:?}");
            assert!(begun.elapsed() <= CHECK_BUDGET * 2 + Duration::from_millis(2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_was_verified_before_is_looked_at_each_time() {
    let world = World::new();
    let gate = world.gate(10);
    let words = "room=shop capacity=2 session_ttl=100s";
    let with = async |pass: &str| ask(&gate, question(words, &[("cookie", pass)])).await;
    let number = |answer: &CheckResponse| headers(answer)["x-anteroom-number"].clone();
    let pass = cookie(&with("").await);
    for remembered in 0..3 {
        let answer = with(&pass).await;
        assert_eq!((status(&answer).0, number(&answer).as_str()), (200, "1"));
        assert!(!headers(&answer).contains_key("set-cookie"));
        let counted = world.metric("anteroom_passes_remembered_total");
        assert!((counted - f64::from(remembered)).abs() < 0.1, "{counted}");
    }
    let counted = world.metric("anteroom_checks_total{room=\"shop\",verdict=\"admit\"}");
    assert!((counted - 4.0).abs() < 0.1, "{counted}");

    // In the middle of the signature.
    let at = pass.len() - 20;
    let other = if pass.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = [&pass[..at], other, &pass[at + 1..]].concat();
    let newcomer = with(&forged).await;
    assert_eq!(number(&newcomer), "2", "whoever forges is a newcomer");

    let token = pass.split_once('=').unwrap().1.to_owned();
    let shown = Shown { passes: vec![token], ..Shown::default() };
    assert!(world.rooms.leave_room(&world.room(words), &shown).await.unwrap());
    let anew = with(&pass).await;
    assert_eq!(number(&anew), "3", "the pass was given back");

    let pass = cookie(&anew);
    assert_eq!(number(&with(&pass).await), "3");
    assert_eq!(number(&with(&pass).await), "3");
    tokio::time::advance(Duration::from_secs(101)).await;
    world.rooms.refresh(&world.room(words)).await.unwrap();
    assert_eq!(number(&with(&pass).await), "4", "the pass is over");
}
