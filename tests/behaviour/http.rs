//! The client HTTP API, call by call: status, body, cookies, and what odd requests get.

use anteroom::room::standing::Status;
use anteroom::room::token::{Claims, Kind};
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::api::Api;
use crate::policies::name;
use crate::probe::Mood;
use crate::world::{World, ring};

#[tokio::test(start_paused = true)]
async fn the_whole_way_of_two_visitors() {
    let api = Api::open("capacity=1 session_ttl=240s");
    let first = api.shop("POST join", &[]).await;
    let body = first.is(201).json();
    assert_eq!(
        (&body["status"], &body["number"], &body["position"]),
        (&"admitted".into(), &1.into(), &0.into())
    );
    let pass = first.token("pass");
    assert_eq!(
        first.cookies(),
        [format!("anteroom_pass_shop={pass}; Path=/; Max-Age=240; HttpOnly; SameSite=Lax; Secure")]
    );
    assert_eq!(first.header("content-type"), "application/json");

    let second = api.shop("POST join", &[]).await;
    let body = second.is(201).json();
    let told = ["status", "room", "number", "position", "waiting"].map(|key| body[key].clone());
    assert_eq!(serde_json::json!(told), serde_json::json!(["waiting", "shop", 2, 1, 1]));
    assert!(body["poll_after"].as_u64().is_some_and(|seconds| seconds > 0), "{body}");
    assert!(body["eta"]["seconds"].as_u64().is_some() && body["eta"]["confidence"].is_number(), "{body}");
    let ticket = second.token("ticket");
    assert_eq!(
        second.cookies(),
        [format!("anteroom_ticket_shop={ticket}; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure")]
    );

    let by_cookie = format!("a=b; anteroom_ticket_shop={ticket}");
    for shown in [("cookie", by_cookie.as_str()), ("x-anteroom-ticket", ticket.as_str())] {
        let told = api.shop("GET position", &[shown]).await;
        assert_eq!((&told.is(200).json()["position"], told.cookies().len()), (&1.into(), 0));
        let again = api.shop("POST join", &[shown]).await;
        assert_eq!(
            (&again.is(200).json()["number"], again.cookies().len()),
            (&2.into(), 0),
            "a place is kept"
        );
        let refused = api.shop("POST enter", &[shown]).await;
        assert_eq!(refused.is_problem(403).json()["standing"]["position"], 1);
    }

    for _ in 0..2 {
        let gone = api.shop("DELETE pass", &[("x-anteroom-pass", &pass)]).await;
        assert_eq!((gone.is(204).body.as_str(), gone.cookies().len()), ("", 1));
        assert!(
            gone.cookies()[0].starts_with("anteroom_pass_shop=; Path=/; Max-Age=0;"),
            "{:?}",
            gone.cookies()
        );
    }
    let told = api.shop("GET position", &[("x-anteroom-ticket", &ticket)]).await;
    assert_eq!((&told.is(200).json()["status"], &told.json()["poll_after"]), (&"called".into(), &1.into()));
    let entered = api.shop("POST enter", &[("cookie", &by_cookie)]).await;
    assert_eq!(entered.is(200).json()["status"], "admitted");
    let cookies = entered.cookies();
    assert!(
        cookies[0].starts_with(&format!("anteroom_pass_shop={}; ", entered.token("pass"))),
        "{cookies:?}"
    );
    assert!(cookies[1].starts_with("anteroom_ticket_shop=; Path=/; Max-Age=0;"), "{cookies:?}");
    let again = api.shop("POST enter", &[("cookie", &by_cookie)]).await;
    assert_eq!(again.is(200).json()["number"], 2, "the same session");
    let inside = format!("anteroom_pass_shop={}", entered.token("pass"));
    let told = api.shop("POST join", &[("cookie", &inside)]).await;
    assert_eq!(told.is(200).json()["status"], "admitted", "whoever is inside stays there");
}

#[tokio::test(start_paused = true)]
async fn a_ticket_given_up_from_inside_ends_no_session() {
    let api = Api::open("capacity=1");
    let pass = api.shop("POST join", &[]).await.token("pass");
    let ticket = api.shop("POST join", &[]).await.token("ticket");
    api.shop("DELETE pass", &[("x-anteroom-pass", &pass)]).await.is(204);
    let pass = api.shop("POST enter", &[("x-anteroom-ticket", &ticket)]).await.token("pass");
    api.shop("DELETE ticket", &[("x-anteroom-ticket", &ticket)]).await.is(204);
    let told = api.shop("GET position", &[("x-anteroom-pass", &pass)]).await;
    assert_eq!(told.is(200).json()["status"], "admitted");
    let next = api.shop("POST join", &[]).await;
    assert_eq!(next.is(201).json()["status"], "waiting", "the slot is still taken");
}

#[tokio::test(start_paused = true)]
async fn a_place_given_up_is_gone() {
    let api = Api::open("capacity=0");
    let ticket = api.shop("POST join", &[]).await.token("ticket");
    let cookie = format!("anteroom_ticket_shop={ticket}");
    for _ in 0..2 {
        let left = api.shop("DELETE ticket", &[("cookie", &cookie)]).await;
        assert!(left.is(204).cookies()[0].starts_with("anteroom_ticket_shop=; Path=/; Max-Age=0;"));
    }
    api.shop("DELETE ticket", &[]).await.is(204);
    api.shop("DELETE pass", &[("x-anteroom-pass", "garbage")]).await.is(204);
    let told = api.shop("GET position", &[("cookie", &cookie)]).await;
    assert_eq!((&told.is(200).json()["status"], told.cookies().len()), (&"gone".into(), 1));
    let refused = api.shop("POST enter", &[("cookie", &cookie)]).await;
    assert_eq!(refused.is_problem(410).json()["standing"]["status"], "gone");
    let anew = api.shop("POST join", &[("cookie", &cookie)]).await;
    assert_eq!(anew.is(201).json()["number"], 2);
}

#[tokio::test(start_paused = true)]
async fn rejoining_at_the_back_where_the_policy_says_so() {
    let api = Api::open("capacity=0 rejoin=back");
    let first = api.shop("POST join", &[]).await.token("ticket");
    api.shop("POST join", &[]).await.is(201);
    let again = api.shop("POST join", &[("x-anteroom-ticket", &first)]).await;
    assert_eq!((&again.is(201).json()["number"], &again.json()["position"]), (&3.into(), &2.into()));
}

#[tokio::test(start_paused = true)]
async fn without_a_store_and_a_snapshot_every_call_is_503_with_a_time_to_come_back() {
    let before = Api::open("capacity=0");
    let ticket = before.shop("POST join", &[]).await.token("ticket");
    for mood in [Mood::Fails, Mood::Hangs] {
        let api = Api::open("capacity=0");
        api.world.probe.set(mood);
        for call in ["GET position", "GET stream", "POST enter", "POST join", "DELETE ticket"] {
            let refused = api.shop(call, &[("x-anteroom-ticket", &ticket)]).await;
            assert_eq!(refused.is_problem(503).header("retry-after"), "5", "{call}, {mood:?}");
        }
        let elsewhere = api.send("GET /anteroom/v1/rooms/unheard-of/position", &[]).await;
        assert_eq!(elsewhere.is_problem(503).header("retry-after"), "5", "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_prove_nothing_get_401() {
    let api = Api::open("capacity=0");
    let ticket = api.shop("POST join", &[]).await.token("ticket");
    let sign = |kind, claims: Claims| ring().sign(kind, &claims).unwrap();
    let now = api.world.rooms.now() / 1_000;
    let good = Claims {
        aud: name("shop"),
        generation: 1,
        number: 1,
        iat: now,
        exp: now + 60,
        position: None,
        bound: None,
    };
    let long = "x".repeat(64 * 1024);
    let bad = [
        "garbage".to_owned(),
        String::new(),
        long,
        format!("{}x", &ticket[..ticket.len() - 4]),
        sign(Kind::Pass, good.clone()),
        sign(Kind::Ticket, Claims { aud: name("open"), ..good.clone() }),
        sign(Kind::Ticket, Claims { exp: now, ..good }),
    ];
    for token in &bad {
        for call in ["GET position", "GET stream", "POST enter"] {
            api.shop(call, &[("x-anteroom-ticket", token)]).await.is_problem(401);
        }
        api.shop("POST join", &[("x-anteroom-ticket", token)]).await.is(201);
    }
    for call in ["GET position", "GET stream", "POST enter"] {
        api.shop(call, &[]).await.is_problem(401);
    }
    let both = [("x-anteroom-ticket", "garbage"), ("cookie", &format!("anteroom_ticket_shop={ticket}"))];
    api.shop("GET position", &both).await.is(200);
}

#[tokio::test(start_paused = true)]
async fn odd_rooms_and_odd_calls_get_problems() {
    let api = Api::open("capacity=0");
    let long = "x".repeat(10 * 1024);
    for odd in [
        "",
        "a%20b",
        "a%2Fb",
        "%2e%2e",
        "%7Bx%7D",
        "a%00",
        "%ff%fe",
        "%ec%83%81%ec%a0%90",
        "-a",
        "a;b",
        "%",
        &long,
    ] {
        for call in ["POST join", "GET position", "GET stream", "POST enter", "DELETE ticket", "DELETE pass"]
        {
            let (method, call) = call.split_once(' ').unwrap();
            let refused = api.send(&format!("{method} /anteroom/v1/rooms/{odd}/{call}"), &[]).await;
            let told = refused.is_problem(400).json()["detail"].as_str().unwrap().to_owned();
            assert!(told.contains("1 to 64 of A-Z"), "{odd:.40}: {told}");
            assert!(told.len() < 200, "the name is not repeated");
        }
    }
    let unknown = api.send("POST /anteroom/v1/rooms/nowhere/join", &[]).await;
    assert!(unknown.is_problem(404).body.contains("nowhere"));
    for nothing in ["GET /", "GET /anteroom/v1/rooms/shop", "GET /anteroom/v1/keys"] {
        api.send(nothing, &[]).await.is_problem(404);
    }
    for (call, right) in [
        ("GET join", "POST"),
        ("POST position", "GET,HEAD"),
        ("DELETE stream", "GET,HEAD"),
        ("GET enter", "POST"),
        ("GET ticket", "DELETE"),
        ("PUT pass", "DELETE"),
    ] {
        let refused = api.shop(call, &[]).await;
        assert_eq!(refused.is_problem(405).header("allow"), right, "{call}");
    }
    assert_eq!(api.world.rooms.all().len(), 1, "no word of theirs opens a room");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_server_sent_events_to_the_last_word() {
    let api = Api::open("capacity=1 session_ttl=240s");
    let pass = api.shop("POST join", &[]).await.token("pass");
    let ticket = api.shop("POST join", &[]).await.token("ticket");
    let request = Request::get("/anteroom/v1/rooms/shop/stream").header("x-anteroom-ticket", &ticket);
    let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let headers = ["content-type", "cache-control", "x-accel-buffering"];
    let headers = headers.map(|name| response.headers().get(name).unwrap().to_str().unwrap().to_owned());
    assert_eq!(headers, ["text/event-stream", "no-store", "no"]);
    let mut body = response.into_body();
    let mut event = async || match body.frame().await {
        Some(frame) => String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap(),
        None => String::new(),
    };
    let first = event().await;
    assert!(first.starts_with("retry: ") && first.contains("\nid: 1\nevent: position\ndata: {"), "{first}");
    let data = first.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&data["position"], data.get("ticket")), (&1.into(), None));
    api.shop("DELETE pass", &[("x-anteroom-pass", &pass)]).await.is(204);
    let second = event().await;
    assert!(second.starts_with("id: 0\nevent: admitted\ndata: {") && second.ends_with("}\n\n"), "{second}");
    assert_eq!(event().await, "", "the stream ends");

    api.shop("DELETE ticket", &[("x-anteroom-ticket", &ticket)]).await.is(204);
    let gone = api.shop("GET stream", &[("x-anteroom-ticket", &ticket)]).await;
    assert!(gone.is(200).body.contains("event: gone\n"), "{}", gone.body);
}

#[tokio::test(start_paused = true)]
async fn what_is_full_or_out_gets_503_and_says_nothing_of_the_inside() {
    let world = World::with(|options| options.max_streams = 0);
    world.room("capacity=0");
    let api = Api::over(world);
    let ticket = api.shop("POST join", &[]).await.token("ticket");
    let refused = api.shop("GET stream", &[("x-anteroom-ticket", &ticket)]).await;
    assert_eq!(refused.is_problem(503).header("retry-after"), "5");
    for mood in [Mood::Fails, Mood::Hangs] {
        api.world.probe.set(mood);
        let refused = api.shop("POST join", &[]).await;
        assert_eq!(refused.is_problem(503).header("retry-after"), "5");
        assert!(!refused.body.contains("secret-host"), "{}", refused.body);
        api.send("POST /anteroom/v1/rooms/nowhere/join", &[]).await.is_problem(503);
        let told = api.shop("GET position", &[("x-anteroom-ticket", &ticket)]).await;
        assert_eq!(told.is(200).json()["position"], 1, "from the last snapshot");
    }
}

#[tokio::test(start_paused = true)]
async fn users_rooms_refuse_those_nobody_knows_and_rooms_that_are_off_take_all() {
    let api = Api::open("capacity=0 identity=subject");
    api.shop("POST join", &[]).await.is_problem(401);
    let api = Api::open("mode=off");
    let body = api.shop("POST join", &[]).await.is(200).json();
    assert_eq!(body["status"], serde_json::json!(Status::Admitted));
}

#[tokio::test(start_paused = true)]
async fn the_keys_published_are_public_ones() {
    let api = Api::open("capacity=0");
    let keys = api.send("GET /anteroom/v1/jwks.json", &[]).await;
    let body = keys.is(200).json();
    assert_eq!((body["keys"].as_array().unwrap().len(), &body["keys"][0]["kid"]), (1, &"backend".into()));
    assert_eq!((&body["keys"][0]["crv"], body["keys"][0].get("d")), (&"Ed25519".into(), None));
}
