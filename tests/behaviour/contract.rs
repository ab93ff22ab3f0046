//! Keeps the described API and the real one equal: every answer is held against the description, and every operation
//! and status described must have been seen.

mod proxies;

use std::collections::BTreeSet;
use std::sync::Arc;

use anteroom::identity::settings::JwksSource;
use anteroom::room::deny::{Entry, Whom};
use anteroom::room::gates::Gates;
use anteroom::routes::{HostRule, Matcher, PathRule, Room, Routes};
use anteroom::{authz, position};
use axum::body::Body;
use serde_json::{Value, json};

use crate::api::{Answered, Api};
use crate::identity::Users;
use crate::policies::policy;
use crate::probe::Mood;
use crate::world::{Doors, World};

/// Headers that every HTTP answer may have.
const PLAIN: [&str; 2] = ["content-type", "content-length"];

fn description() -> Value {
    serde_json::from_str(include_str!("../../src/position/http/openapi.json")).unwrap()
}

/// The description, and what of it was seen.
struct Contract {
    text: Value,
    seen: BTreeSet<String>,
}

impl Contract {
    fn new() -> Self {
        Self { text: description(), seen: BTreeSet::new() }
    }

    /// What stands there, its reference followed.
    fn follow<'a>(&'a self, at: &'a Value) -> &'a Value {
        let Some(reference) = at["$ref"].as_str() else { return at };
        self.text.pointer(reference.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("no {reference}"))
    }

    fn fits(&self, schema: &Value, value: &Value, what: &str) {
        let mut schema = schema.clone();
        schema["components"] = self.text["components"].clone();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let wrong: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{what}: {wrong:#?}\n{value:#}");
    }

    /// All operations with their statuses, like `POST /path 201`.
    fn described(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for (path, item) in self.text["paths"].as_object().unwrap() {
            for (method, operation) in
                item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters")
            {
                for status in operation["responses"].as_object().unwrap().keys() {
                    all.insert(format!("{} {path} {status}", method.to_uppercase()));
                }
            }
        }
        all
    }

    /// Holds an answer to the description. `call` is a method and a path, as it was sent.
    fn check(&mut self, call: &str, answered: &Answered) {
        let (method, sent) = call.split_once(' ').unwrap();
        let mut parts: Vec<&str> = sent.split('?').next().unwrap().split('/').collect();
        if parts.get(3) == Some(&"rooms") {
            parts[4] = "{room}";
        }
        let path = parts.join("/");
        let operation = &self.text["paths"][&path][method.to_lowercase()];
        let status = answered.status.as_str();
        let what = format!("{method} {path} {status}");
        let response = &operation["responses"][status];
        assert!(response.is_object(), "{what} is not described: {}", answered.body);
        let response = self.follow(response);
        let headers = response["headers"].as_object().unwrap();
        for name in answered.headers.keys().map(http::HeaderName::as_str) {
            assert!(
                headers.contains_key(name) || PLAIN.contains(&name),
                "{what}: header {name} is not described"
            );
        }
        for (name, header) in headers {
            let header = self.follow(header);
            for value in answered.headers.get_all(name) {
                self.fits(&header["schema"], &json!(value.to_str().unwrap()), &format!("{what}: {name}"));
            }
            let missing = header["required"] == true && !answered.headers.contains_key(name);
            assert!(!missing, "{what}: no header {name}");
        }
        let untyped = answered.header("content-type").is_empty();
        let empty = untyped && answered.body.is_empty() && response["x-may-be-empty"] == true;
        match response["content"].as_object().filter(|_| !empty) {
            None => assert_eq!((answered.body.as_str(), answered.header("content-type")), ("", ""), "{what}"),
            Some(content) => {
                let kind = answered.header("content-type");
                let kind = kind.split(';').next().unwrap();
                let media = content.get(kind).unwrap_or_else(|| panic!("{what}: {kind:?} is not described"));
                if kind == "text/event-stream" {
                    self.events(media, &answered.body, &what);
                } else if !kind.ends_with("json") {
                    self.fits(&media["schema"], &json!(answered.body), &what);
                } else {
                    self.fits(&media["schema"], &answered.json(), &what);
                    let told = answered.json()["status"].as_u64().filter(|_| kind.contains("problem"));
                    assert!(told.is_none_or(|told| told == u64::from(answered.status.as_u16())), "{what}");
                }
            }
        }
        self.seen.insert(what);
    }

    fn events(&self, media: &Value, body: &str, what: &str) {
        let mut any = false;
        for event in body.split("\n\n").filter(|event| event.contains("data: ")) {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let described = &media["x-events"][field("event: ")];
            assert!(described.is_object(), "{what}: event {} is not described", field("event: "));
            let data: Value = serde_json::from_str(field("data: ")).unwrap();
            self.fits(&described["data"], &data, what);
            assert_eq!(field("id: "), data["position"].to_string(), "{what}");
            any = true;
        }
        assert!(any, "{what}: no event in {body}");
    }

    async fn send(&mut self, api: &Api, call: &str, headers: &[(&str, &str)], body: &str) -> Answered {
        let answered = api.send_with(call, headers, body.to_owned()).await;
        self.check(call, &answered);
        answered
    }
}

/// All that the listener serves, over a world with `shop` in its rooms file.
fn all_of(words: &str) -> Api {
    all_over(World::new(), words)
}

fn all_over(world: World, words: &str) -> Api {
    all_behind(world, words, &Gates::default())
}

/// The same with these gates before the room.
fn all_behind(world: World, words: &str, gates: &Gates) -> Api {
    world.room(words);
    let routes = || {
        let shop =
            Matcher { host: HostRule::Any, path: PathRule::Prefix("/shop".into()), methods: Vec::new() };
        Routes::new(vec![Room {
            policy: (*policy(words)).clone(),
            gates: gates.clone(),
            matchers: vec![shop],
        }])
    };
    let tracer = world.tracer_desk(Arc::new(routes()));
    let router = position::http::router(world.desk())
        .merge(position::tracer::router(tracer))
        .merge(authz::forward::router(Arc::new(world.gate_over(routes(), 10))));
    Api { world, router }
}

/// The documents.
async fn documents(c: &mut Contract, api: &Api) {
    c.send(api, "GET /anteroom/v1/jwks.json", &[], "").await;
    for path in ["GET /anteroom/v1/openapi.json", "GET /anteroom/v1/anteroom.js"] {
        let tag = c.send(api, path, &[], "").await.header("etag").to_owned();
        let again = c.send(api, path, &[("if-none-match", &tag)], "").await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (304, &*tag), "{path}");
    }
}

/// The polling API.
async fn polls(c: &mut Contract) {
    let (api, out) = (all_of("capacity=0"), all_of("capacity=0 on_outage=closed"));
    out.world.probe.set(Mood::Fails);
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (path, room) in [("/anteroom/v1/tracer", "?room=shop&"), ("/anteroom/v1/rooms/shop/tracer", "?")] {
        for method in ["GET", "POST"] {
            let call = format!("{method} {path}{room}");
            c.send(&api, &format!("{call}loginId=ann"), &[], "").await.is(200);
            c.send(&api, &call, &[], "").await.is(400);
            c.send(&api, &format!("{call}ip={}", "x".repeat(2_049)), &[], "").await.is(400);
            c.send(&out, &format!("{call}ip=192.0.2.1"), &[], "").await.is(503);
            let foreign = [("origin", "https://evil.example.com"), ("sec-fetch-site", "cross-site")];
            c.send(&api, &format!("{call}loginId=eve"), &foreign, "").await.is(403);
        }
        let post = format!("POST {path}{room}");
        c.send(&api, &post, &[form], "ip=192.0.2.1&port=443&host=shop.example.com").await.is(200);
        let told = c.send(&api, &post, &[], &json!({"loginId": "bob", "port": 443}).to_string()).await;
        assert_eq!((&told.json()["port"], &told.json()["isWait"]), (&443.into(), &"T".into()));
        c.send(&api, &post, &[], "{").await.is(400);
        c.send(&api, &post, &[form], &" ".repeat(16 * 1024 + 1)).await.is(413);
        let never = futures_util::stream::pending::<Result<&str, std::io::Error>>();
        let never = api.send_with(&post, &[], Body::from_stream(never)).await;
        c.check(&post, never.is(408));
        let refused = api.send(&format!("DELETE {path}"), &[]).await;
        assert!(refused.is_problem(405).header("allow").contains("POST"), "{:?}", refused.headers);
    }
    c.send(&api, "GET /anteroom/v1/rooms/a%20b/tracer?ip=192.0.2.1", &[], "").await.is(400);
    c.send(&api, "GET /anteroom/v1/rooms/nowhere/tracer?ip=192.0.2.1", &[], "").await.is(404);
    c.send(&api, "POST /anteroom/v1/rooms/nowhere/tracer?ip=192.0.2.1", &[], "").await.is(404);
    c.send(&api, "GET /anteroom/v1/tracer?ip=192.0.2.1&room=nowhere", &[], "").await.is(200);
}

/// What the gates before the rooms say.
async fn gates(c: &mut Contract) {
    let polls = ["GET /anteroom/v1/tracer", "GET /anteroom/v1/rooms/shop/tracer"];
    let polls = polls.iter().flat_map(|get| [(*get).to_owned(), get.replace("GET", "POST")]);
    let calls: Vec<String> = CALLS.iter().map(|call| room(call)).chain(polls).collect();
    let from = ("x-forwarded-for", "192.0.2.1");
    let denies = all_of("capacity=0");
    let network = Whom::Network("192.0.2.0/24".parse().unwrap());
    denies.world.denials.file(vec![Entry { whom: network, until: None, note: None }]).unwrap();
    let limit = "1/h burst 1".parse().ok();
    let counts = all_over(World::behind(Doors { api_limit: limit, ..Doors::default() }), "capacity=0");
    counts.send("GET /anteroom/v1/tracer?loginId=ann", &[from]).await.is(200);
    for call in &calls {
        c.send(&denies, call, &[from], "").await.is(403);
        c.send(&counts, call, &[from], "").await.is(429);
    }
    let places = all_over(World::behind(Doors { join_limit: limit, ..Doors::default() }), "capacity=0");
    c.send(&places, &room("POST join"), &[from], "").await.is(201);
    c.send(&places, &room("POST join"), &[from], "").await.is(429);
    for poll in &calls[CALLS.len()..] {
        c.send(&places, &format!("{poll}?room=shop&loginId=ann"), &[from], "").await.is(429);
    }
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/identity/jwks.json");
    let users = Users::with(JwksSource::File(keys.into()), |_| {});
    let identity = Some(users.identity.clone());
    let knows = all_over(World::behind(Doors { identity, ..Doors::default() }), "capacity=0");
    for call in CALLS {
        c.send(&knows, &room(call), &[("authorization", "Bearer x")], "").await.is(401);
    }
}

fn room(call: &str) -> String {
    let (method, call) = call.split_once(' ').unwrap();
    format!("{method} /anteroom/v1/rooms/shop/{call}")
}

/// Every call on a room.
pub(crate) const CALLS: [&str; 8] = [
    "POST join",
    "GET position",
    "GET stream",
    "POST enter",
    "POST leave",
    "POST away",
    "DELETE ticket",
    "DELETE pass",
];

#[test]
fn the_description_is_valid_openapi_and_its_examples_fit() {
    let text = description();
    let official: Value = serde_json::from_str(include_str!("../data/openapi-3.1-schema.json")).unwrap();
    let validator = jsonschema::draft202012::new(&official).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(&text).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!validator.is_valid(&json!({"openapi": "3.1.0", "info": {"title": "x"}})), "it finds mistakes");

    let contract = Contract::new();
    let mut examples = 0;
    let responses = contract.text["paths"].as_object().unwrap().values().flat_map(|item| {
        let operations = item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters");
        operations.flat_map(|(_, operation)| operation["responses"].as_object().unwrap().values())
    });
    for response in responses {
        for (kind, media) in contract.follow(response)["content"].as_object().into_iter().flatten() {
            for (name, example) in media["examples"].as_object().into_iter().flatten() {
                let value = &contract.follow(example)["value"];
                assert!(!value.is_null(), "{name} is no example");
                contract.fits(&media["schema"], value, &format!("example {name} as {kind}"));
                examples += 1;
            }
        }
    }
    assert!(examples > 30, "{examples}");
}

#[tokio::test(start_paused = true)]
async fn every_answer_is_described_and_every_description_is_true() {
    let mut contract = Contract::new();
    let c = &mut contract;
    let api = Api::open("capacity=1 allow_origins=https://app.example.com");
    let app = ("origin", "https://app.example.com");

    // The way of a visitor, from an allowed origin.
    let pass = c.send(&api, &room("POST join"), &[app], "").await.is(201).token("pass");
    let ticket = c.send(&api, &room("POST join"), &[], "").await.is(201).token("ticket");
    let by_ticket = [app, ("x-anteroom-ticket", ticket.as_str())];
    let by_pass = [app, ("x-anteroom-pass", pass.as_str())];
    c.send(&api, &room("POST join"), &by_ticket, "").await.is(200);
    c.send(&api, &room("GET position"), &by_ticket, "").await.is(200);
    c.send(&api, &room("POST enter"), &by_ticket, "").await.is(403);
    c.send(&api, &room("POST away"), &by_ticket, "").await.is(204);
    c.send(&api, &room("DELETE pass"), &by_pass, "").await.is(204);
    let back = [by_ticket[0], by_ticket[1], ("last-event-id", "1")];
    c.send(&api, &room("GET stream"), &back, "").await.is(200);
    let cookie = format!("anteroom_ticket_shop={ticket}");
    let pass = c.send(&api, &room("POST enter"), &[("cookie", &cookie)], "").await.is(200).token("pass");
    c.send(&api, &room("GET position"), &[("x-anteroom-pass", &pass)], "").await.is(200);
    let ticket = c.send(&api, &room("POST join"), &[], "").await.token("ticket");
    c.send(&api, &room("DELETE ticket"), &[("x-anteroom-ticket", &ticket)], "").await.is(204);
    let gone = [app, ("x-anteroom-ticket", ticket.as_str())];
    c.send(&api, &room("GET stream"), &gone, "").await.is(200);
    c.send(&api, &room("GET position"), &gone, "").await.is(200);
    c.send(&api, &room("POST enter"), &gone, "").await.is(410);
    let text = ("content-type", "text/plain");
    c.send(&api, &room("POST leave"), &[app, text], &json!({ "pass": pass }).to_string()).await.is(204);

    // What odd requests get.
    for call in ["leave", "away"] {
        let post = room(&format!("POST {call}"));
        c.send(&api, &post, &[text], "{").await.is(400);
        c.send(&api, &post, &[], "{}").await.is(415);
        c.send(&api, &post, &[text], &" ".repeat(16 * 1024 + 1)).await.is(413);
        let never = futures_util::stream::pending::<Result<&str, std::io::Error>>();
        let never = api.post(call, "text/plain", axum::body::Body::from_stream(never)).await;
        c.check(&post, never.is(408));
    }
    let stranger = [("origin", "https://evil.example.com"), ("sec-fetch-site", "cross-site")];
    for call in CALLS {
        let (method, path) = call.split_once(' ').unwrap();
        c.send(&api, &format!("{method} /anteroom/v1/rooms/a%20b/{path}"), &[], "").await.is(400);
        c.send(&api, &format!("{method} /anteroom/v1/rooms/nowhere/{path}"), &[app], "").await.is(404);
        let safe = method == "GET";
        let refused = c.send(&api, &room(call), &stranger, "").await;
        refused.is(if safe { 401 } else { 403 });
        if !["POST join", "DELETE ticket", "DELETE pass"].contains(&call) {
            c.send(&api, &room(call), &[app], "").await.is(401);
        }
    }
    let nonces = Api::open("capacity=1 checkin=nonce");
    let pass_of_another = nonces.shop("POST join", &[]).await.token("pass");
    let called = nonces.shop("POST join", &[]).await.token("ticket");
    nonces.shop("DELETE pass", &[("x-anteroom-pass", &pass_of_another)]).await;
    let shown = [("x-anteroom-ticket", called.as_str()), ("x-anteroom-nonce", "0123456789abcdef")];
    c.send(&nonces, &room("POST enter"), &shown[..1], "").await.is(400);
    c.send(&nonces, &room("POST enter"), &shown, "").await.is(200);
    c.send(&nonces, &room("POST enter"), &shown, "").await.is(409);
    let users = Api::open("capacity=0 identity=subject");
    c.send(&users, &room("POST join"), &[], "").await.is(401);
    let off = Api::open("mode=off");
    c.send(&off, &room("POST join"), &[], "").await.is(200);
    documents(c, &api).await;
    polls(c).await;
    proxies::asked(c).await;
    gates(c).await;

    // Without a store.
    let out = Api::over(World::new());
    out.world.room("capacity=0");
    out.world.probe.set(Mood::Fails);
    let tokens = [app, ("x-anteroom-ticket", ticket.as_str()), ("x-anteroom-pass", &pass)];
    for call in CALLS {
        c.send(&out, &room(call), &tokens, "").await.is(503);
    }

    let described: BTreeSet<String> = contract.described();
    let never: Vec<_> = described.difference(&contract.seen).collect();
    assert!(never.is_empty(), "described, but never seen: {never:#?}");
}
