//! The polling API that Anteroom replaces: users without tokens, known by what they say, a minute between polls.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::position::tracer::router;
use anteroom::room::gates::Gates;
use anteroom::room::policy::Source;
use anteroom::room::state::Subject;
use anteroom::rooms::poll::Turn;
use anteroom::rooms::visit::Shown;
use anteroom::rooms::{Room, Rooms};
use anteroom::routes::{HostRule, Matcher, PathRule, Room as Filed, Routes};
use anteroom::telemetry::metrics::Metrics;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::over_redis;
use crate::policies::policy;
use crate::probe::Mood;
use crate::store::Subject as _;
use crate::world::{TICK, World, pass_of, ring};

const MINUTE: Duration = Duration::from_mins(1);

/// The API over a world with a rooms file: `shop` on the host `shop.example`, under these limits.
struct Api {
    world: World,
    router: Router,
}

impl Api {
    fn open(words: &str) -> Self {
        Self::over(World::new(), words)
    }

    fn over(mut world: World, words: &str) -> Self {
        let host = HostRule::Exact("shop.example".into());
        let matchers = vec![Matcher { host, path: PathRule::Any, methods: Vec::new() }];
        let routes = Arc::new(Routes::new(vec![Filed {
            policy: (*policy(words)).clone(),
            gates: Gates::default(),
            matchers,
        }]));
        world.run();
        Self { router: router(world.tracer_desk(routes)), world }
    }

    /// Another replica over the same store.
    fn beside(&self, words: &str) -> Self {
        Self::over(self.world.beside(), words)
    }

    async fn send(&self, call: &str, content_type: &str, body: impl Into<Body>) -> (u16, Value) {
        let (method, path) = call.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path).header("host", "wait.example");
        let request = request.header("content-type", content_type).body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        assert_eq!(parts.headers["cache-control"], "no-store");
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), serde_json::from_slice(&body).expect("JSON"))
    }

    /// A poll of this user: `isWait`, `waitCnt` and `waitMyCnt`.
    async fn poll(&self, user: &str) -> (String, u64, u64) {
        let path = format!("GET /anteroom/v1/tracer?host=shop.example&ip=192.0.2.1&loginId={user}");
        let (status, told) = self.send(&path, "", "").await;
        assert_eq!(status, 200, "{told}");
        let number = |key: &str| told[key].as_u64().unwrap_or_else(|| panic!("{key} in {told}"));
        (told["isWait"].as_str().unwrap().to_owned(), number("waitCnt"), number("waitMyCnt"))
    }

    async fn waits(&self, user: &str, position: u64, first: u64) {
        assert_eq!(self.poll(user).await, ("T".to_owned(), position, first), "{user}");
    }

    async fn may_go_on(&self, user: &str, first: u64) {
        assert_eq!(self.poll(user).await, ("F".to_owned(), 0, first), "{user}");
    }
}

#[tokio::test(start_paused = true)]
async fn fields_come_in_the_query_a_form_or_json_and_go_back_as_they_came() {
    let api = Api::open("capacity=0 session_ttl=10m");
    let tracer = "/anteroom/v1/tracer";
    let mut expected = json!({
        "host": "shop.example:443", "ip": "192.0.2.1", "loginId": "가나", "port": "443", "pageUrl": "/menu?a=1",
        "isWait": "T", "waitCnt": 1, "limitCnt": 0, "session_time_out": 600, "waitQueueSize": 1, "waitMyCnt": 1,
        "userAgent": "App/1 (x)", "tracer_domain": "wait.example"
    });
    let form = "host=shop.example%3A443&ip=192.0.2.1&loginId=%EA%B0%80%EB%82%98&port=443&pageUrl=%2Fmenu%3Fa%3D1\
                &userAgent=App%2F1+(x)&other=1";
    let (status, told) = api.send(&format!("GET {tracer}?{form}"), "", "").await;
    assert_eq!((status, &told), (200, &expected));
    for content_type in ["application/x-www-form-urlencoded", ""] {
        assert_eq!(api.send(&format!("POST {tracer}?loginId=other"), content_type, form).await.1, expected);
    }
    expected["port"] = 443.into();
    let sent = json!({"host": "shop.example:443", "ip": "192.0.2.1", "loginId": "가나", "port": 443,
        "pageUrl": "/menu?a=1", "userAgent": "App/1 (x)", "other": {"a": []}, "room": "nowhere"});
    for content_type in ["application/json", "text/plain;charset=utf-8"] {
        assert_eq!(api.send(&format!("POST {tracer}"), content_type, sent.to_string()).await.1, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_is_a_problem_and_takes_no_place() {
    let api = Api::open("capacity=0");
    let tracer = "/anteroom/v1/tracer";
    let long = "x".repeat(2_049);
    let large = format!("loginId=ann&x={}", "x".repeat(17_000));
    for (call, body, status) in [
        (format!("GET {tracer}?host=shop.example"), String::new(), 400),
        (format!("GET {tracer}?host=shop.example&loginId={long}"), String::new(), 400),
        (format!("GET {tracer}?host=shop.example&loginId=%B0%A1"), String::new(), 400),
        (format!("POST {tracer}?host=shop.example"), "{\"loginId\":".to_owned(), 400),
        (format!("POST {tracer}?host=shop.example"), "{\"loginId\":[\"ann\"]}".to_owned(), 400),
        (format!("POST {tracer}?host=shop.example"), large, 413),
        (format!("GET {tracer}?room=a%20b&loginId=ann"), String::new(), 400),
        (format!("DELETE {tracer}?host=shop.example&loginId=ann"), String::new(), 405),
    ] {
        let (found, told) = api.send(&call, "", body).await;
        assert_eq!((found, &told["status"]), (status, &status.into()), "{call}: {told}");
        assert!(told["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{told}");
    }
    api.waits("ann", 1, 1).await;
    assert!((api.world.metric("anteroom_tracer_polls_total{answer=\"error\"}") - 7.0).abs() < 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_room_is_found_by_host_or_name_and_where_there_is_none_nobody_waits() {
    let api = Api::open("capacity=0");
    api.world.rooms.room_with(&policy("room=known capacity=0"), Source::ContextExtensions).unwrap();
    for (path, waits) in [
        ("/anteroom/v1/tracer?host=SHOP.example.&loginId=ann", "T"),
        ("/anteroom/v1/tracer?host=other.example&loginId=ann&room=shop", "T"),
        ("/anteroom/v1/tracer?host=other.example&loginId=ann&room=known", "T"),
        ("/anteroom/v1/rooms/known/tracer?host=shop.example&loginId=bob", "T"),
        ("/anteroom/v1/tracer?host=other.example&loginId=ann&room=nobodys", "F"),
        ("/anteroom/v1/tracer?host=other.example&loginId=ann", "F"),
    ] {
        let (status, told) = api.send(&format!("GET {path}"), "", "").await;
        assert_eq!((status, &told["isWait"]), (200, &waits.into()), "{path}: {told}");
    }
    assert!((api.world.metric("anteroom_tracer_polls_total{answer=\"no_room\"}") - 2.0).abs() < 0.1);
    // A room that the path names was meant: not to know it opens no door.
    for (room, status) in [("nobodys", 404), ("KNOWN", 404), ("a%20b", 400), ("%ff", 400)] {
        let path = format!("GET /anteroom/v1/rooms/{room}/tracer?loginId=ann");
        assert_eq!(api.send(&path, "", "").await.0, status, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn users_are_their_login_or_address_and_host() {
    let api = Api::open("capacity=0");
    api.waits("ann", 1, 1).await;
    api.waits("ann", 1, 1).await;
    api.waits("bob", 2, 2).await;
    for (query, position) in [
        ("host=shop.example&ip=192.0.2.9", 3),
        ("host=shop.example&loginId=192.0.2.9&ip=192.0.2.10", 3),
        ("host=Shop.Example:443&loginId=ann", 1),
        ("host=other.example&loginId=ann&room=shop", 4),
    ] {
        let (_, told) = api.send(&format!("GET /anteroom/v1/tracer?{query}"), "", "").await;
        assert_eq!(told["waitCnt"], position, "{query}: {told}");
    }
    // Numbers too long for a float or an integer of 64 bits keep all their digits.
    for (login, position) in [(9, 5), (8, 6), (9, 5)] {
        let body = format!("{{\"host\": \"shop.example\", \"loginId\": 1234567890123456789012{login}}}");
        let (_, told) = api.send("POST /anteroom/v1/tracer", "application/json", body).await;
        assert_eq!(told["waitCnt"], position, "{login}: {told}");
        assert_eq!(told["loginId"], format!("1234567890123456789012{login}"));
    }
}

/// Where a poll comes from, as browsers say it.
async fn polled_from(api: &Api, call: &str, headers: &[(&str, &str)]) -> (u16, Option<String>) {
    let (method, path) = call.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let readable = response.headers().get("access-control-allow-origin");
    (response.status().as_u16(), readable.map(|origin| origin.to_str().unwrap().to_owned()))
}

#[tokio::test(start_paused = true)]
async fn pages_of_other_origins_poll_only_where_the_room_names_them() {
    const APP: &str = "https://app.example.com";
    let api = Api::open(&format!("capacity=0 allow_origins={APP}"));
    let poll = "/anteroom/v1/tracer?host=shop.example&loginId=new";
    for call in [format!("GET {poll}"), format!("POST {poll}")] {
        for headers in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site"), ("origin", "https://evil.example.com")],
        ] {
            assert_eq!(polled_from(&api, &call, headers).await, (403, None), "{call} {headers:?}");
        }
    }
    api.waits("first", 1, 1).await;
    let named = [("sec-fetch-site", "cross-site"), ("origin", APP)];
    assert_eq!(polled_from(&api, &format!("GET {poll}"), &named).await, (200, Some(APP.to_owned())));
    let own = [("sec-fetch-site", "same-origin")];
    assert_eq!(polled_from(&api, &format!("GET {poll}"), &own).await, (200, None));
    let asking = [("origin", APP), ("access-control-request-method", "POST")];
    for path in ["/anteroom/v1/tracer", "/anteroom/v1/rooms/shop/tracer"] {
        assert_eq!(polled_from(&api, &format!("OPTIONS {path}"), &asking).await, (204, Some(APP.to_owned())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_of_somebody_who_waits_costs_no_store_call_and_a_minute_between_polls_no_place() {
    for words in ["capacity=0", "capacity=0 patience=3s claim_ttl=1s session_ttl=1s"] {
        let api = Api::open(words);
        let users: Vec<_> = (1..=20).map(|user| format!("user-{user}")).collect();
        for (position, user) in (1..).zip(&users) {
            api.waits(user, position, position).await;
        }
        let calls = api.world.probe.others();
        for _ in 0..5 {
            tokio::time::sleep(MINUTE).await;
            for (position, user) in (1..).zip(&users) {
                api.waits(user, position, position).await;
            }
        }
        assert_eq!(api.world.probe.others(), calls, "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_called_between_two_polls_may_go_on_at_the_next_one() {
    for words in
        ["capacity=1 claim_ttl=1s session_ttl=2s patience=3s", "rate=1/m burst=1 claim_ttl=1s session_ttl=2s"]
    {
        let api = Api::open(words);
        api.may_go_on("ann", 0).await;
        api.waits("bob", 1, 1).await;
        // Called some seconds later, and the call, or the session taken up instead, has long run out by itself.
        tokio::time::sleep(MINUTE * 2).await;
        api.may_go_on("bob", 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_poll_any_more_gives_up_the_place() {
    let api = Api::open("capacity=0 patience=3s");
    for (position, user) in (1..).zip(["gone", "bob"]) {
        api.waits(user, position, position).await;
    }
    for position in [2, 2, 1, 1] {
        tokio::time::sleep(MINUTE).await;
        api.waits("bob", position, 2).await;
    }
    api.waits("gone", 2, 2).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_called_and_does_not_poll_any_more_gives_up_the_slot() {
    let words = "capacity=1 claim_ttl=1s session_ttl=1h";
    let api = Api::open(words);
    let room = api.world.room(words);
    let first = api.world.rooms.join(&room, &Shown::default()).await.unwrap();
    api.waits("gone", 1, 1).await;
    api.waits("bob", 2, 2).await;
    api.world.rooms.leave_room(&room, &pass_of(&first)).await.unwrap();
    for _ in 0..2 {
        tokio::time::sleep(MINUTE).await;
        api.waits("bob", 1, 2).await;
        let snapshot = room.snapshot().unwrap();
        assert_eq!((snapshot.sessions, snapshot.called), (1, 0), "held for whom it was called");
    }
    tokio::time::sleep(MINUTE).await;
    api.may_go_on("bob", 2).await;
}

#[tokio::test(start_paused = true)]
async fn polls_prolong_a_session_and_when_it_is_over_one_lines_up_anew() {
    let api = Api::open("capacity=1 session_ttl=100s");
    api.may_go_on("ann", 0).await;
    api.waits("bob", 1, 1).await;
    for _ in 0..10 {
        tokio::time::sleep(MINUTE).await;
        api.may_go_on("ann", 0).await;
        api.waits("bob", 1, 1).await;
    }
    tokio::time::sleep(MINUTE).await;
    api.waits("bob", 1, 1).await;
    tokio::time::sleep(MINUTE).await;
    api.may_go_on("bob", 1).await;
    api.waits("ann", 1, 1).await;
}

#[tokio::test(start_paused = true)]
async fn another_replica_finds_the_same_place() {
    let words = "capacity=1 session_ttl=100s";
    let one = Api::open(words);
    let other = one.beside(words);
    one.may_go_on("ann", 0).await;
    one.waits("bob", 1, 1).await;
    one.waits("eve", 2, 2).await;
    other.may_go_on("ann", 0).await;
    other.waits("eve", 2, 2).await;
    other.waits("bob", 1, 1).await;
    tokio::time::sleep(MINUTE * 2).await;
    other.may_go_on("bob", 1).await;
    one.may_go_on("bob", 1).await;
    one.waits("eve", 1, 2).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_out_places_are_told_and_newcomers_get_what_the_policy_says() {
    for (on_outage, status, waits) in [("hold", 200, "T"), ("open", 200, "F"), ("closed", 503, "")] {
        let api = Api::open(&format!("capacity=1 on_outage={on_outage}"));
        api.may_go_on("ann", 0).await;
        api.waits("bob", 1, 1).await;
        tokio::time::sleep(TICK * 2).await;
        api.world.probe.set(Mood::Fails);
        let newcomer = api.send("GET /anteroom/v1/tracer?host=shop.example&loginId=new", "", "").await;
        assert_eq!(newcomer.0, status, "{}", newcomer.1);
        assert_eq!(newcomer.1["isWait"].as_str().unwrap_or_default(), waits);
        if waits == "T" {
            assert_eq!(newcomer.1["waitCnt"], 2, "behind everybody");
        }
        api.waits("bob", 1, 1).await;
        tokio::time::sleep(Duration::from_secs(90)).await;
        api.may_go_on("ann", 0).await;
        api.world.probe.set(Mood::Well);
        tokio::time::sleep(TICK * 2).await;
        api.waits("new", 2, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_off_lets_everybody_on() {
    let api = Api::open("mode=off");
    api.may_go_on("ann", 0).await;
    assert_eq!(api.world.probe.others(), 0);
}

/// A replica over Redis, ticked by hand.
struct Replica {
    rooms: Arc<Rooms>,
    room: Arc<Room>,
}

impl Replica {
    fn over(redis: &over_redis::OverRedis, words: &str) -> Self {
        let clock = Clock::starting_at(over_redis::START_MS);
        let metrics = Arc::new(Metrics::new(10));
        let rooms = Arc::new(Rooms::new(over_redis::options(), redis.store(), ring(), clock, metrics));
        let room = rooms.room_with(&policy(words), Source::ContextExtensions).unwrap();
        Self { rooms, room }
    }

    async fn poll(&self, user: &str) -> Turn {
        self.rooms.refresh(&self.room).await.unwrap();
        self.rooms.poll(&self.room, Subject::of(&[user]), None).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_each_user_has_one_place_at_every_replica() {
    let redis = over_redis::fresh().await;
    let words = "capacity=1 session_ttl=240s";
    let (one, other) = (Replica::over(&redis, words), Replica::over(&redis, words));
    assert!(one.poll("ann").await.may_enter);
    for (user, position) in [("bob", 1), ("eve", 2)] {
        for replica in [&one, &other, &one] {
            let turn = replica.poll(user).await;
            assert_eq!((turn.may_enter, turn.position, turn.first), (false, position, position), "{user}");
        }
    }
    assert!(other.poll("ann").await.may_enter, "inside at every replica");
    // Nobody polls for ann any more.
    redis.pass(Duration::from_secs(241)).await;
    for replica in [&other, &one] {
        let turn = replica.poll("bob").await;
        assert_eq!((turn.may_enter, turn.first), (true, 1));
        assert_eq!(replica.poll("eve").await.position, 1);
    }
}
