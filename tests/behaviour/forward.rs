//! Forward auth, call by call: what nginx, Traefik and Caddy send, and what they may be told.

use std::sync::Arc;

use anteroom::authz::forward::router;
use anteroom::room::gates::Gates;
use anteroom::routes::{HostRule, Matcher, PathRule, Room, Routes};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::policies::policy;
use crate::probe::Mood;
use crate::world::World;

/// The endpoint over a world with a rooms file: `shop` on `/shop`, under these limits.
pub(crate) struct Door {
    pub(crate) world: World,
    router: Router,
}

pub(crate) struct Answered {
    pub(crate) status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn cookies(&self) -> Vec<&str> {
        self.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// What Traefik and Caddy say about `GET /shop`.
const SHOP: [(&str, &str); 5] = [
    ("x-forwarded-method", "GET"),
    ("x-forwarded-uri", "/shop?x=1"),
    ("x-forwarded-host", "shop.example"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-for", "192.0.2.1"),
];

impl Door {
    fn open(words: &str) -> Self {
        Self::with(words, &[])
    }

    /// The same with these gates.
    pub(crate) fn with(words: &str, gates: &[(&str, &str)]) -> Self {
        Self::over(World::new(), words, gates)
    }

    /// The same over this world.
    pub(crate) fn over(world: World, words: &str, gates: &[(&str, &str)]) -> Self {
        let gates = Gates::default().with(gates.iter().copied()).unwrap();
        let path = PathRule::Prefix("/shop".into());
        let matchers = vec![Matcher { host: HostRule::Any, path, methods: Vec::new() }];
        let room = Room { policy: (*policy(words)).clone(), gates, matchers };
        let gate = world.gate_over(Routes::new(vec![room]), 10);
        Self { router: router(Arc::new(gate)), world }
    }

    pub(crate) async fn ask(&self, query: &str, headers: &[(&str, &str)]) -> Answered {
        let mut request = Request::builder().uri(format!("/anteroom/v1/auth{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(parts.headers["cache-control"], "no-store");
        Answered { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Asks about `GET /shop` with these headers of the client.
    pub(crate) async fn shop(&self, query: &str, headers: &[(&str, &str)]) -> Answered {
        self.ask(query, &[&SHOP, headers].concat()).await
    }
}

/// The cookie of a `Set-Cookie`.
pub(crate) fn pair(cookie: &str) -> &str {
    cookie.split(';').next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn traefik_gets_2xx_for_those_let_in_and_the_whole_answer_for_the_others() {
    let door = Door::open("capacity=1");
    let entered = door.shop("?room=shop", &[("host", "anteroom:8081")]).await;
    assert_eq!((entered.status, entered.body.as_str()), (200, ""));
    assert_eq!((entered.header("x-anteroom-room"), entered.header("x-anteroom-number")), ("shop", "1"));
    let pass = format!("anteroom_pass_shop={}", entered.header("x-anteroom-pass"));
    // What `addAuthCookiesToResponse` hands to the client.
    assert_eq!(entered.cookies().iter().map(|cookie| pair(cookie)).collect::<Vec<_>>(), [&pass]);
    let again = door.shop("?room=shop", &[("cookie", &pass)]).await;
    assert_eq!((again.status, again.cookies().len()), (200, 0), "the pass is fresh");
    let waits = door.shop("?room=shop", &[]).await;
    assert_eq!((waits.status, &waits.json()["number"]), (429, &2.into()));
    assert!(waits.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    assert!(waits.cookies()[0].starts_with("anteroom_ticket_shop="), "{:?}", waits.cookies());
    let ticket = [("cookie", pair(waits.cookies()[0])), ("accept", "text/html")];
    let page = door.shop("?room=shop", &ticket).await;
    assert_eq!((page.status, page.header("content-type")), (429, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("nonce-"));
}

#[tokio::test(start_paused = true)]
async fn the_room_is_that_of_the_rooms_file_by_path_or_by_name() {
    let door = Door::open("capacity=0");
    assert_eq!(door.shop("", &[]).await.status, 429);
    for uri in ["//shop", "/open/../shop", "/%73hop", "/open/..%2fshop", "/open/..;/shop"] {
        let asked = [("x-forwarded-method", "GET"), ("x-forwarded-uri", uri), ("host", "shop.example")];
        assert_eq!(door.ask("", &asked).await.status, 429, "{uri}");
    }
    let open = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/open"), ("x-anteroom-room", "mine")];
    let free = door.ask("", &open).await;
    assert_eq!((free.status, free.header("x-anteroom-room")), (200, ""), "it belongs to no room");
    assert_eq!(door.ask("?room=shop", &open).await.status, 429, "it does, says the proxy");
    let unknown = door.shop("?room=elsewhere", &[]).await;
    assert_eq!((unknown.status, unknown.header("content-type")), (404, "application/problem+json"));
    assert!((door.world.metric("anteroom_config_errors_total") - 1.0).abs() < 0.1);
}

#[tokio::test(start_paused = true)]
async fn nothing_a_visitor_sends_is_taken_for_limits_or_a_user() {
    let door = Door::open("capacity=0 identity=subject");
    let headers = [
        ("x-anteroom-capacity", "5"),
        ("x-anteroom-room", "other"),
        ("x-anteroom-subject", "ann"),
        ("x-forwarded-user", "ann"),
        ("remote-user", "ann"),
        ("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ."),
    ];
    assert_eq!(door.shop("?room=shop", &headers).await.status, 401, "nobody is signed in here");
    for query in ["?room=shop&capacity=5", "?capacity=5", "?door=traefik", "?subject=ann"] {
        assert_eq!(door.shop(query, &headers).await.status, 400, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_not_clear_lets_nobody_in() {
    let door = Door::open("capacity=5");
    let without = |name: &str| SHOP.iter().copied().filter(|(other, _)| *other != name).collect::<Vec<_>>();
    for asked in [
        without("x-forwarded-method"),
        without("x-forwarded-uri"),
        [&SHOP[..], &[("x-forwarded-uri", "/open")]].concat(),
        [&SHOP[..], &[("x-forwarded-host", "elsewhere")]].concat(),
        Vec::new(),
    ] {
        let refused = door.ask("?room=shop", &asked).await;
        assert_eq!((refused.status, refused.header("content-type")), (400, "application/problem+json"));
        assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("x-forwarded-")));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_never_answered_2xx_whatever_the_policy_and_the_client_say() {
    let door = Door::open("capacity=0 waiting_status=200");
    for client in [
        [("accept", "text/html")],
        [("content-type", "application/grpc")],
        [("content-type", "application/grpc-web+proto")],
    ] {
        for query in ["?room=shop", "?room=shop&door=caddy"] {
            assert_eq!(door.shop(query, &client).await.status, 429, "{query} {client:?}");
        }
        assert_eq!(door.shop("?room=shop&door=nginx", &client).await.status, 401, "{client:?}");
    }
    // Once nobody can be let in by it any more, the status is the policy's.
    assert_eq!(door.shop("?room=shop&door=nginx-answer", &[]).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn nginx_asks_twice_and_one_number_is_taken() {
    let door = Door::open("capacity=1");
    let entered = door.shop("?room=shop&door=nginx", &[]).await;
    assert_eq!((entered.status, entered.cookies().len()), (200, 0));
    assert!(entered.header("x-anteroom-set-pass").starts_with("anteroom_pass_shop="));
    for number in 2..5 {
        let short = door.shop("?room=shop&door=nginx", &[]).await;
        assert_eq!((short.status, short.body.as_str()), (401, ""));
        let ticket = short.header("x-anteroom-ticket").to_owned();
        let handed = [("x-anteroom-handed", ticket.as_str()), ("x-anteroom-ticket", "stale")];
        let whole = door.shop("?room=shop&door=nginx-answer", &handed).await;
        assert_eq!((whole.status, &whole.json()["number"]), (429, &number.into()));
        assert_eq!(whole.json()["ticket"], ticket.as_str());
        assert_eq!(pair(whole.cookies()[0]), format!("anteroom_ticket_shop={ticket}"));
        let cookie = [("cookie", pair(whole.cookies()[0]))];
        let again = door.shop("?room=shop&door=nginx", &cookie).await;
        assert_eq!((again.status, again.header("x-anteroom-ticket")), (401, ""), "held already");
        let whole = door.shop("?room=shop&door=nginx-answer", &cookie).await;
        assert_eq!((&whole.json()["number"], whole.cookies().len()), (&number.into(), 0));
    }
    // A ticket that is not that of the place told is nobody's to hand over.
    let forged = door.shop("?room=shop&door=nginx-answer", &[("x-anteroom-handed", "a.b.c")]).await;
    assert_eq!((&forged.json()["number"], forged.cookies().len()), (&5.into(), 1));
    assert_ne!(forged.json()["ticket"], "a.b.c");
}

#[tokio::test(start_paused = true)]
async fn who_is_called_between_nginxs_two_questions_is_sent_in_again() {
    let door = Door::open("capacity=1");
    let entered = door.shop("?room=shop&door=nginx", &[]).await;
    let pass = entered.header("x-anteroom-pass").to_owned();
    let short = door.shop("?room=shop&door=nginx", &[]).await;
    let room = door.world.room("capacity=1");
    door.world.rooms.leave_room(&room, &crate::world::pass(&pass)).await.unwrap();
    let handed = ("x-anteroom-handed", short.header("x-anteroom-ticket"));
    for (uri, location) in
        [("/shop?x=1", "/shop?x=1"), ("//evil.example/shop", "/evil.example/shop"), ("/\\evil", "/evil")]
    {
        let asked = [("x-forwarded-method", "GET"), ("x-forwarded-uri", uri), handed];
        let whole = door.ask("?room=shop&door=nginx-answer", &asked).await;
        assert_eq!((whole.status, whole.header("location")), (307, location));
        let pass = pair(whole.cookies()[0]).to_owned();
        let inside = door.shop("?room=shop&door=nginx", &[("cookie", &pass)]).await;
        assert_eq!((inside.status, inside.header("x-anteroom-number")), (200, "2"));
    }
}

/// nginx's second question lets nothing through, so it uses up no key: that is for the request that is sent again.
#[tokio::test(start_paused = true)]
async fn an_order_whose_turn_comes_between_nginxs_two_questions_arrives_once() {
    let door = Door::with("capacity=1", &[("idempotency", "require")]);
    let post = |cookie: &str| {
        [
            ("x-forwarded-method".to_owned(), "POST".to_owned()),
            ("idempotency-key".to_owned(), "8e03978e-40d5-43dd-bc93-6894a57f9324".to_owned()),
            ("x-forwarded-uri".to_owned(), "/shop/orders".to_owned()),
            ("cookie".to_owned(), cookie.to_owned()),
        ]
    };
    let ask = async |query: &str, cookie: &str, handed: Option<&str>| {
        let headers = post(cookie);
        let mut headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        headers.extend(handed.map(|ticket| ("x-anteroom-handed", ticket)));
        door.ask(&format!("?room=shop&door={query}"), &headers).await
    };
    let pass = door.shop("?room=shop&door=nginx", &[]).await.header("x-anteroom-pass").to_owned();
    let short = ask("nginx", "", None).await;
    assert_eq!(short.status, 401);
    let ticket = short.header("x-anteroom-ticket").to_owned();
    let room = door.world.room("capacity=1");
    door.world.rooms.leave_room(&room, &crate::world::pass(&pass)).await.unwrap();
    let whole = ask("nginx-answer", "", Some(&ticket)).await;
    assert_eq!(whole.status, 307);
    let pass = pair(whole.cookies()[0]).to_owned();
    // A ledger keeps what was only looked at for a millisecond.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    assert_eq!(ask("nginx", &pass, None).await.status, 200, "the order is on its way");
    assert_eq!(ask("nginx", &pass, None).await.status, 401);
    assert_eq!(ask("nginx-answer", &pass, None).await.status, 409);
}

/// A request that nginx asks about twice is one request.
#[tokio::test(start_paused = true)]
async fn who_waits_at_nginx_is_counted_once_and_loses_no_number_to_a_limit() {
    let door = Door::with("capacity=0", &[("limit_ip", "3/m burst 3")]);
    let mut cookie = String::new();
    for turn in 0..3 {
        let short = door.shop("?room=shop&door=nginx", &[("cookie", &cookie)]).await;
        assert_eq!(short.status, 401, "turn {turn}");
        let (shown, ticket) = (cookie.clone(), short.header("x-anteroom-ticket").to_owned());
        let mut headers = vec![("cookie", shown.as_str())];
        if !ticket.is_empty() {
            headers.push(("x-anteroom-handed", ticket.as_str()));
        }
        let whole = door.shop("?room=shop&door=nginx-answer", &headers).await;
        assert_eq!((whole.status, &whole.json()["number"]), (429, &1.into()), "turn {turn}");
        if let Some(given) = whole.cookies().first() {
            cookie = pair(given).to_owned();
        }
    }
    // Beyond it: a newcomer, and one whose ticket is made up, take no number.
    for cookie in ["", "anteroom_ticket_shop=a.b.c"] {
        let headers = [("cookie", cookie)];
        assert_eq!(door.shop("?room=shop&door=nginx", &headers).await.status, 401);
        let whole = door.shop("?room=shop&door=nginx-answer", &headers).await;
        assert_eq!((whole.status, whole.header("ratelimit-policy")), (429, "\"ip\";q=3;w=60"));
        assert_eq!(whole.cookies().len(), 0);
    }
    tokio::time::sleep(std::time::Duration::from_mins(2)).await;
    assert_eq!(door.shop("?room=shop", &[]).await.json()["number"], 2);
}

#[tokio::test(start_paused = true)]
async fn caddy_gets_each_cookie_in_a_header_of_its_own() {
    let door = Door::open("capacity=1");
    let first = door.shop("?room=shop&door=caddy", &[]).await;
    let waits = door.shop("?room=shop&door=caddy", &[]).await;
    let ticket = pair(waits.cookies()[0]).to_owned();
    let room = door.world.room("capacity=1");
    let pass = crate::world::pass(first.header("x-anteroom-pass"));
    door.world.rooms.leave_room(&room, &pass).await.unwrap();
    let entered = door.shop("?room=shop&door=caddy", &[("cookie", &ticket)]).await;
    assert_eq!((entered.status, entered.cookies().len()), (200, 0));
    let new = format!("anteroom_pass_shop={}", entered.header("x-anteroom-pass"));
    assert_eq!(pair(entered.header("x-anteroom-set-pass")), new);
    assert!(entered.header("x-anteroom-set-ticket").starts_with("anteroom_ticket_shop=; Path=/; Max-Age=0"));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_what_the_policy_says_at_every_door() {
    for (on_outage, plain, nginx) in [("hold", 429, 401), ("closed", 503, 401), ("open", 200, 200)] {
        let door = Door::open(&format!("capacity=1 on_outage={on_outage}"));
        door.world.probe.set(Mood::Fails);
        assert_eq!(door.shop("?room=shop", &[]).await.status, plain, "{on_outage}");
        assert_eq!(door.shop("?room=shop&door=nginx", &[]).await.status, nginx, "{on_outage}");
        if nginx == 401 {
            assert_eq!(door.shop("?room=shop&door=nginx-answer", &[]).await.status, plain, "{on_outage}");
        }
    }
}

#[test]
fn traefiks_configuration_is_yaml_and_hands_on_what_is_needed() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/traefik/dynamic.yaml")).unwrap();
    let mut texts = Vec::new();
    for event in saphyr_parser::Parser::new_from_str(&text) {
        if let (saphyr_parser::Event::Scalar(text, ..), _) = event.expect("well-formed YAML") {
            texts.push(text.into_owned());
        }
    }
    for needed in ["^X-(Anteroom-|User-(Id|Type)$)", "anteroom_pass_shop", "anteroom_ticket_shop"] {
        assert!(texts.iter().any(|text| text == needed), "{needed}");
    }
    assert!(texts.iter().any(|text| text.ends_with("/anteroom/v1/auth?room=shop")));
}
