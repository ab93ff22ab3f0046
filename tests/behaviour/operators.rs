//! The operators' calls on rooms: who may make them, what they do, and what is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anteroom::admin::AdminToken;
use anteroom::admin::operators::router;
use anteroom::room::policy::{KEYS, Source};
use anteroom::rooms::visit::Shown;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::policies::policy;
use crate::probe::Mood;
use crate::world::{TICK, World, pass_of, ticket_of};

const TOKEN: &str = "a-token-for-the-tests";

/// The calls over a world.
pub(crate) struct Listener {
    router: Router,
}

impl Listener {
    pub(crate) fn over(world: &World) -> Self {
        let token = AdminToken::parse(TOKEN).unwrap();
        Self { router: router(Arc::new(world.operators(Some(token)))) }
    }

    /// Status and JSON of a call like `POST /rooms/shop/pause`.
    async fn send(&self, call: &str, token: Option<&str>, body: impl Into<Body>) -> (u16, Value) {
        let (method, path) = call.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let answer = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401, "{call}");
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn ask(&self, call: &str, body: impl Into<Body>) -> (u16, Value) {
        self.send(call, Some(&format!("Bearer {TOKEN}")), body).await
    }

    /// The answer to a call that goes well.
    pub(crate) async fn done(&self, call: &str, body: impl Into<Body>) -> Value {
        let (status, told) = self.ask(call, body).await;
        assert_eq!(status, 200, "{call}: {told}");
        told
    }
}

const CALLS: [&str; 12] = [
    "GET /deny",
    "POST /deny",
    "DELETE /deny",
    "GET /rooms",
    "GET /rooms/shop",
    "GET /rooms/%ff",
    "POST /rooms/%ff/reset",
    "POST /rooms/shop/pause",
    "POST /rooms/shop/resume",
    "POST /rooms/shop/limits",
    "DELETE /rooms/shop/limits",
    "POST /rooms/shop/reset",
];

/// What is none of them.
const STRAYS: [&str; 9] = [
    "POST /rooms",
    "GET /rooms/",
    "DELETE /rooms/shop",
    "GET /rooms/shop/pause",
    "PUT /rooms/shop/limits",
    "POST /rooms/shop/close",
    "GET /rooms/shop/pause/now",
    "PATCH /deny",
    "GET /deny/all",
];

#[tokio::test]
async fn what_is_no_call_is_a_problem_document_too() {
    let world = World::new();
    world.room("capacity=1");
    let listener = Listener::over(&world);
    for call in STRAYS {
        let (status, told) = listener.ask(call, "").await;
        let nowhere = ["GET /rooms/", "POST /rooms/shop/close", "GET /rooms/shop/pause/now", "GET /deny/all"];
        assert_eq!(status, if nowhere.contains(&call) { 404 } else { 405 }, "{call}: {told}");
        assert_eq!((&told["status"], &told["result"]), (&json!(status), &json!("wrong")), "{call}: {told}");
        assert!(told["detail"].as_str().unwrap().contains("GET / says what is here"), "{call}: {told}");
    }
    assert!(world.metric(r#"anteroom_operator_calls_total{op="other",result="wrong"}"#) > 8.5);
}

#[tokio::test]
async fn nobody_is_answered_without_the_token() {
    let world = World::new();
    world.room("capacity=1");
    let listener = Listener::over(&world);
    let without = Listener { router: router(Arc::new(world.operators(None))) };
    for call in CALLS.iter().chain(&STRAYS).copied() {
        for token in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer a-token-for-the-test"),
            Some(TOKEN),
        ] {
            let (status, told) = listener.send(call, token, "").await;
            assert_eq!(status, 401, "{call} with {token:?}: {told}");
        }
        let (status, told) = without.send(call, Some(&format!("Bearer {TOKEN}")), "").await;
        assert!(
            status == 403 && told["detail"].as_str().unwrap().contains("--admin-token-file"),
            "{call}: {told}"
        );
    }
    assert!(
        world.rooms.known(&crate::policies::name("shop")).unwrap().snapshot().is_none(),
        "nothing was done"
    );
    assert!(world.metric(r#"anteroom_operator_calls_total{op="reset",result="unauthorized"}"#) >= 14.0);
    assert_eq!(listener.send("GET /rooms", Some(&format!("bearer  {TOKEN} ")), "").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_paused_room_calls_nobody_and_goes_on_where_it_stood() {
    let world = World::new();
    let room = world.room("capacity=1 session_ttl=100s");
    let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let waiting = world.rooms.join(&room, &Shown::default()).await.unwrap();
    let listener = Listener::over(&world);
    assert_eq!(listener.done("POST /rooms/shop/pause", "").await["paused"], true);
    world.rooms.leave_room(&room, &pass_of(&inside)).await.unwrap();
    let told = listener.done("GET /rooms/shop", "").await;
    assert_eq!((&told["counts"]["waiting"], &told["counts"]["called"]), (&json!(1), &json!(0)), "{told}");
    let told = listener.done("POST /rooms/shop/resume", "").await;
    assert_eq!((&told["paused"], &told["counts"]["called"]), (&json!(false), &json!(1)), "{told}");
    let entered = world.rooms.enter(&room, &ticket_of(&waiting)).await.unwrap();
    assert!(entered.pass.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_operators_limits_stand_above_those_stated_until_they_are_cleared() {
    let world = World::new();
    world.room("capacity=1 rate=1/s");
    let listener = Listener::over(&world);
    let told = listener.done("POST /rooms/shop/limits", r#"{"capacity": 7, "rate": "600/m"}"#).await;
    let of = |told: &Value, which: &str| {
        ["capacity", "rate", "burst"].map(|key| told["policy"][which][key].clone())
    };
    assert_eq!(of(&told, "in_force"), [json!(7), json!("600/m"), json!(10)]);
    assert_eq!(of(&told, "stated"), [json!(1), json!("1/s"), json!(1)]);
    assert_eq!(of(&told, "operator"), of(&told, "in_force"));
    assert_eq!(told["policy"]["source"], "context_extensions");
    assert_eq!(told["rates"]["limit_per_second"], 10.0);
    for limits in [&told["policy"]["in_force"], &told["policy"]["stated"]] {
        let keys: BTreeSet<_> = limits.as_object().unwrap().keys().map(String::as_str).collect();
        let all: BTreeSet<_> = KEYS.into_iter().filter(|key| *key != "room").collect();
        assert_eq!(keys, all, "also those that are not set");
        assert_eq!(limits["allow_origins"], Value::Null);
    }
    // New limits from Envoy come in below it; what the operator does not name is theirs.
    world.room("capacity=2 rate=2/s");
    let told = listener.done("POST /rooms/shop/limits", r#"{"capacity": 0}"#).await;
    assert_eq!(of(&told, "in_force"), [json!(0), json!("2/s"), json!(2)]);
    let told = listener.done("DELETE /rooms/shop/limits", "").await;
    assert_eq!(of(&told, "in_force"), [json!(2), json!("2/s"), json!(2)]);
    assert_eq!(told["policy"]["operator"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_reset_has_to_be_meant_and_voids_all_there_was() {
    let world = World::new();
    let room = world.room("capacity=1");
    let inside = world.rooms.join(&room, &Shown::default()).await.unwrap();
    world.rooms.join(&room, &Shown::default()).await.unwrap();
    let listener = Listener::over(&world);
    for wrong in [
        "",
        "{}",
        r#"["shop"]"#,
        r#"{"confirm": true}"#,
        r#"{"confirm": "shops"}"#,
        r#"{"confirm": "shop", "x": 1}"#,
    ] {
        let (status, told) = listener.ask("POST /rooms/shop/reset", wrong).await;
        assert!(
            status == 400 && told["detail"].as_str().unwrap().contains(r#"{"confirm": "shop"}"#),
            "{told}"
        );
    }
    // No tick keeps the room fresh here: what is told then is looked up.
    tokio::time::sleep(TICK * 3).await;
    let before = listener.done("GET /rooms/shop", "").await;
    assert_eq!((&before["counts"]["given"], &before["counts"]["inside"]), (&json!(2), &json!(1)));
    let told = listener.done("POST /rooms/shop/reset", r#"{"confirm": "shop"}"#).await;
    assert!(told["generation"].as_u64() > before["generation"].as_u64(), "{told}");
    for count in ["waiting", "called", "inside", "given"] {
        assert_eq!(told["counts"][count], 0, "{told}");
    }
    assert_eq!(told["last_loss"], Value::Null, "the room has begun anew");
    let anew = world.rooms.join(&room, &pass_of(&inside)).await.unwrap();
    assert!(anew.is_new && anew.place.number == 1, "the old pass is void");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_understood_is_refused_and_says_what_would_be_right() {
    let world = World::new();
    world.room("capacity=1");
    let listener = Listener::over(&world);
    for (call, body, status, says) in [
        ("POST /rooms/shop/limits", "", 400, "capacity"),
        ("POST /rooms/shop/limits", "{}", 400, "at least one"),
        ("POST /rooms/shop/limits", "[5]", 400, "send JSON like"),
        ("POST /rooms/shop/limits", "[5, null, null]", 400, "send JSON like"),
        ("POST /rooms/shop/limits", r#"{"capacty": 5}"#, 400, "capacty"),
        ("POST /rooms/shop/limits", r#"{"capacity": -1}"#, 400, "send JSON like"),
        ("POST /rooms/shop/limits", r#"{"capacity": 1000000001}"#, 400, "1000000000"),
        ("POST /rooms/shop/limits", r#"{"rate": "10"}"#, 400, "is no rate"),
        ("POST /rooms/shop/limits", r#"{"burst": 0}"#, 400, "from 1"),
        ("POST /rooms/shop/pause", "{}", 400, "no body"),
        ("POST /rooms/a%20b/pause", "", 400, "a room name is"),
        ("POST /rooms/%ff/pause", "", 400, "a room name is"),
        ("GET /rooms/%ff", "", 400, "a room name is"),
        ("POST /rooms/nowhere/pause", "", 404, "nowhere"),
        ("GET /rooms/nowhere", "", 404, "first Check"),
        ("GET /rooms?limit=0", "", 400, "from 1 to 1000"),
        ("GET /rooms?limits=5", "", 400, "after and limit"),
    ] {
        let (told, answer) = listener.ask(call, body).await;
        assert!(
            told == status && answer["detail"].as_str().unwrap().contains(says),
            "{call} {body}: {answer}"
        );
        // By this the client knows that it is us who refuse.
        assert_eq!(
            answer["result"],
            if status == 404 { "no_room" } else { "wrong" },
            "{call} {body}: {answer}"
        );
    }
    let large = format!(r#"{{"capacity": {:>5000}}}"#, 5);
    assert_eq!(listener.ask("POST /rooms/shop/limits", large).await.0, 413);
    let never = Body::from_stream(futures_util::stream::pending::<Result<&str, std::io::Error>>());
    assert_eq!(listener.ask("POST /rooms/shop/limits", never).await.0, 408);
    let told = listener.done("GET /rooms/shop", "").await;
    assert_eq!((&told["policy"]["operator"], &told["paused"]), (&Value::Null, &json!(false)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_out_is_an_error_for_controls_and_an_age_for_looks() {
    let world = World::new();
    let room = world.room("capacity=1");
    world.rooms.refresh(&room).await.unwrap();
    let listener = Listener::over(&world);
    for mood in [Mood::Fails, Mood::Hangs] {
        world.probe.set(mood);
        for call in ["POST /rooms/shop/pause", "DELETE /rooms/shop/limits"] {
            let (status, told) = listener.ask(call, "").await;
            assert_eq!(
                (status, &told["result"]),
                (503, &json!("unavailable")),
                "{mood:?} {call}: nothing was done"
            );
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let told = listener.done("GET /rooms", "").await;
        assert!(told["rooms"][0]["snapshot"]["age_seconds"].as_f64().unwrap() >= 10.0, "{told}");
    }
    assert_eq!(listener.done("GET /rooms/shop", "").await["snapshot"]["cut_off"], true);
    world.probe.set(Mood::Unheard);
    let (status, told) = listener.ask("POST /rooms/shop/pause", "").await;
    assert_eq!((status, &told["result"]), (503, &json!("unsure")), "it was done: {told}");
    // Asked in any case: an operator's word ends the silence.
    world.probe.set(Mood::Well);
    let told = listener.done("POST /rooms/shop/pause", "").await;
    assert_eq!((&told["paused"], &told["snapshot"]["cut_off"]), (&json!(true), &json!(false)));
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages_and_renews_what_no_tick_does() {
    let world = World::new();
    for name in ["c", "a", "e", "b", "d"] {
        world.room(&format!("room={name} capacity=1"));
    }
    let listener = Listener::over(&world);
    let names = |told: &Value| {
        let rooms = told["rooms"].as_array().unwrap().iter();
        rooms.map(|room| room["room"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let page = listener.done("GET /rooms?limit=2", "").await;
    assert_eq!(
        (names(&page), &page["next"], &page["known"]),
        (vec!["a".into(), "b".into()], &json!("b"), &json!(5))
    );
    let page = listener.done("GET /rooms?limit=2&after=b", "").await;
    assert_eq!(page["next"], "d");
    let page = listener.done("GET /rooms?limit=2&after=d", "").await;
    assert_eq!((names(&page), &page["next"]), (vec!["e".into()], &Value::Null));
    // Nobody is in the room, so this process has no cause to look at it by itself.
    let other = Listener::over(&world.beside());
    other.done("POST /rooms/c/pause", "").await;
    tokio::time::sleep(TICK * 3).await;
    let page = listener.done("GET /rooms", "").await;
    assert_eq!((&page["rooms"][2]["room"], &page["rooms"][2]["paused"]), (&json!("c"), &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn where_limits_came_from_and_who_states_others_is_told() {
    let mut world = World::new();
    let mut other = world.beside();
    world.rooms.room_with(&policy("capacity=0"), Source::RoomsFile).unwrap();
    let (listener, elsewhere) = (Listener::over(&world), Listener::over(&other));
    let told = listener.done("GET /rooms/shop", "").await;
    assert_eq!(told["policy"]["source"], "rooms_file");
    // The other process has heard nothing of its own; the store knows.
    let told = elsewhere.done("GET /rooms/shop", "").await;
    assert_eq!(
        (&told["policy"]["source"], &told["policy"]["stated"]["capacity"]),
        (&json!("store"), &json!(0))
    );
    assert_eq!(told["divergence"], json!({"here": [], "elsewhere": null}));
    // Somebody waits, so both processes tick; each states what its Checks tell it.
    other.room("capacity=0 rate=5/s");
    let room = world.room("capacity=0");
    world.rooms.join(&room, &Shown::default()).await.unwrap();
    world.run();
    other.run();
    for _ in 0..10 {
        other.room("capacity=0 rate=5/s");
        world.room("capacity=0");
        tokio::time::sleep(TICK).await;
    }
    let told = listener.done("GET /rooms/shop", "").await;
    assert_eq!(told["divergence"]["elsewhere"]["rate"], "5/s", "{told}");
    let told = elsewhere.done("GET /rooms/shop", "").await;
    assert_eq!(told["divergence"]["elsewhere"]["rate"], Value::Null, "{told}");
    assert_eq!(told["divergence"]["elsewhere"]["capacity"], 0, "{told}");
    assert!(world.metric(r#"anteroom_policy_conflicts_total{room="shop"}"#) > 0.0);
    // The other one is given the same: a minute later nobody speaks of it any more.
    other.room("capacity=0");
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(listener.done("GET /rooms/shop", "").await["divergence"]["elsewhere"], Value::Null);
    // Two sources of one process.
    for _ in 0..3 {
        world.room("capacity=0 rate=5/s");
        world.room("capacity=0");
    }
    let told = listener.done("GET /rooms/shop", "").await;
    assert_eq!(told["divergence"]["here"][0]["rate"], "5/s", "{told}");
}

#[tokio::test(start_paused = true)]
async fn counts_rates_and_the_oldest_are_those_of_all_processes() {
    let mut world = World::new();
    let mut other = world.beside();
    let words = "capacity=2 rate=1/s burst=1 session_ttl=1h patience=1h";
    world.room(words);
    let room = other.room(words);
    world.run();
    other.run();
    // From here on both of them look.
    world.rooms.join(&world.room(words), &Shown::default()).await.unwrap();
    tokio::time::sleep(TICK * 2).await;
    for _ in 0..29 {
        other.rooms.join(&room, &Shown::default()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let told = Listener::over(&world).done("GET /rooms/shop", "").await;
    assert_eq!((&told["counts"]["given"], &told["counts"]["waiting"]), (&json!(30), &json!(28)), "{told}");
    let oldest = told["oldest_waiting"]["seconds"].as_f64().unwrap();
    assert!(told["oldest_waiting"]["at_least"] == false && (25.0..=28.5).contains(&oldest), "{told}");
    let given = told["rates"]["given_per_second"].as_f64().unwrap();
    assert!((0.9..=1.1).contains(&given), "{told}");
    assert_eq!(told["rates"]["limit_per_second"], 1.0);
    assert!(told["rates"]["called_per_second"].as_f64().is_some_and(|rate| rate < 0.1), "{told}");
    assert_eq!(told["last_loss"]["made_from_nothing"], true, "{told}");
    // A process that comes later knows only that it is so long at least.
    let late = world.beside();
    late.room(words);
    let told = Listener::over(&late).done("GET /rooms/shop", "").await;
    assert_eq!(told["oldest_waiting"]["at_least"], true, "{told}");
}
