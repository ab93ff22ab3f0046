//! The gates before the client API: who is denied, how many calls each address may make, and who users are.

use std::sync::Arc;

use anteroom::identity::settings::TokenPlace;
use anteroom::pb::anteroom::v1 as pb;
use anteroom::pb::anteroom::v1::waiting_room_server::WaitingRoom as _;
use anteroom::position;
use anteroom::room::deny::{Entry, Whom};
use anteroom::routes::Routes;
use tonic::{Code, Request};

use crate::api::Api;
use crate::contract::CALLS;
use crate::gate::{ask, question};
use crate::identity::{Users, url};
use crate::jwks_server::{JwksServer, Says};
use crate::signer::{Signer, jwks};
use crate::world::{Doors, World};

/// The API with these gates before it, the polling API included.
fn behind(doors: Doors, words: &str) -> Api {
    let world = World::behind(doors);
    world.room(words);
    let tracer = position::tracer::router(world.tracer_desk(Arc::new(Routes::default())));
    Api { router: position::http::router(world.desk()).merge(tracer), world }
}

fn denied(whom: Whom) -> Vec<Entry> {
    vec![Entry { whom, until: None, note: None }]
}

async fn join_by_grpc(world: &World, headers: &[(&'static str, &str)]) -> Result<u64, Code> {
    let mut request = Request::new(pb::JoinRequest { room: "shop".into(), ..pb::JoinRequest::default() });
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let joined = world.desk().join(request).await.map_err(|status| status.code())?;
    Ok(joined.into_inner().standing.unwrap().number)
}

#[tokio::test]
async fn whoever_is_denied_reaches_nothing() {
    let api = behind(Doors { api_limit: "1/h burst 1".parse().ok(), ..Doors::default() }, "capacity=0");
    let network = Whom::Network("192.0.2.0/24".parse().unwrap());
    let agent = Whom::UserAgent("BadBot/".into());
    api.world.denials.file([denied(network), denied(agent)].concat()).unwrap();
    let hostile = [("x-forwarded-for", "203.0.113.9, 192.0.2.7")];
    let bot = [("x-forwarded-for", "203.0.113.9"), ("user-agent", "Mozilla/5.0 (badbot/2.0)")];
    for headers in [&hostile[..], &bot] {
        for call in CALLS {
            api.shop(call, headers).await.is_problem(403);
            let (method, path) = call.split_once(' ').unwrap();
            let elsewhere = format!("{method} /anteroom/v1/rooms/a%20b/{path}");
            api.send(&elsewhere, headers).await.is_problem(403);
        }
        api.send("GET /anteroom/v1/tracer?room=shop&loginId=bot", headers).await.is_problem(403);
        assert_eq!(join_by_grpc(&api.world, headers).await, Err(Code::PermissionDenied));
    }
    // Nothing of it was counted against the address, and no number was taken.
    let honest = api.shop("POST join", &[("x-forwarded-for", "203.0.113.9")]).await;
    assert_eq!(honest.is(201).json()["number"], 1);
}

#[tokio::test]
async fn each_address_makes_so_many_calls_and_no_more() {
    let limit = "1/h burst 9".parse().ok();
    let words = "capacity=0 allow_origins=https://app.example.com";
    let api = behind(Doors { api_limit: limit, ..Doors::default() }, words);
    let here = ("x-forwarded-for", "192.0.2.1");
    let ticket = api.shop("POST join", &[here]).await.is(201).token("ticket");
    let shown = [here, ("x-anteroom-ticket", ticket.as_str())];
    for call in ["GET position", "POST away", "DELETE pass"] {
        assert!(api.shop(call, &shown).await.status.is_success(), "{call}");
    }
    api.shop("POST enter", &shown).await.is(403);
    api.send("GET /anteroom/v1/rooms/made-up/position", &shown).await.is(404);
    api.send("GET /anteroom/v1/rooms/shop/tracer?loginId=ann", &[here]).await.is(200);
    assert_eq!(join_by_grpc(&api.world, &[here]).await, Ok(3));
    // The ninth. A stream counts when it is opened, however much it tells.
    let left = api.shop("DELETE ticket", &shown).await;
    left.is(204);
    let over = api.shop("GET stream", &shown).await;
    over.is_problem(429);
    assert_eq!(over.header("ratelimit-policy"), "\"api\";q=1;w=3600");
    assert!(over.header("retry-after").parse::<u64>().unwrap() > 3_000);
    for call in CALLS {
        api.shop(call, &shown).await.is_problem(429);
    }
    api.send("POST /anteroom/v1/tracer?loginId=bob", &[here]).await.is_problem(429);
    assert_eq!(join_by_grpc(&api.world, &[here]).await, Err(Code::ResourceExhausted));
    // Scripts of an allowed origin may read that, and when to come back; a preflight asks nothing of a room.
    let app = ("origin", "https://app.example.com");
    let read = api.shop("POST join", &[here, app]).await;
    assert_eq!(read.is(429).header("access-control-allow-origin"), "https://app.example.com");
    assert!(read.header("access-control-expose-headers").contains("ratelimit"));
    let preflight = [here, app, ("access-control-request-method", "POST")];
    api.shop("OPTIONS join", &preflight).await.is(204);
    // Documents are the same for all.
    for _ in 0..20 {
        api.send("GET /anteroom/v1/jwks.json", &[here]).await.is(200);
    }
    assert_eq!(api.shop("POST join", &[("x-forwarded-for", "192.0.2.2")]).await.is(201).json()["number"], 4);
}

/// A world whose client API knows the users of one issuer, whose keys are fetched.
struct Known {
    api: Api,
    users: Users,
    signer: Signer,
    _server: JwksServer,
}

impl Known {
    async fn new(words: &str) -> Self {
        let signer = Signer::es256("a");
        let server = JwksServer::start(Says::Text(jwks(&[&signer]))).await;
        let users = Users::with(url(&server.url()), |settings| {
            settings.token = TokenPlace { cookie: Some("id_token".into()), ..TokenPlace::default() };
        });
        users.is_user(&users.token(&signer, "nobody-yet"), "nobody-yet").await;
        let identity = Some(users.identity.clone());
        let api = behind(Doors { identity, ..Doors::default() }, words);
        Self { api, users, signer, _server: server }
    }

    fn bearer(&self, user: &str) -> String {
        format!("Bearer {}", self.users.token(&self.signer, user))
    }
}

#[tokio::test]
async fn a_user_has_one_place_whether_by_the_api_or_by_a_check() {
    let known = Known::new("capacity=0 identity=subject").await;
    let api = &known.api;
    let ann = known.bearer("ann");
    let ann = [("authorization", ann.as_str())];
    let joined = api.shop("POST join", &ann).await;
    assert_eq!(joined.is(201).json()["number"], 1);
    // Another browser, and the same token in a cookie.
    assert_eq!(api.shop("POST join", &ann).await.is(200).json()["number"], 1, "held already");
    let cookie = format!("id_token={}", known.users.token(&known.signer, "ann"));
    assert_eq!(api.shop("POST join", &[("cookie", &cookie)]).await.json()["number"], 1);
    assert_eq!(join_by_grpc(&known.api.world, &ann).await, Ok(1));
    let gate = known.api.world.gate_knowing(known.users.identity.clone());
    let checked = ask(&gate, question("room=shop capacity=0 identity=subject", &ann)).await;
    assert!(format!("{checked:?}").contains("\\\"number\\\":1"), "{checked:?}");
    let bob = known.bearer("bob");
    assert_eq!(api.shop("POST join", &[("authorization", &bob)]).await.is(201).json()["number"], 2);

    known.api.world.rooms.refresh(&known.api.world.room("capacity=0 identity=subject")).await.unwrap();
    assert_eq!(api.shop("POST join", &ann).await.is(200).json()["number"], 1);

    // Without a user nobody joins; whoever has a ticket goes on with it.
    for nobody in [&[][..], &[("authorization", "Basic YW5uOg==")]] {
        let refused = api.shop("POST join", nobody).await;
        assert_eq!(refused.is_problem(401).header("www-authenticate"), "Bearer");
    }
    assert_eq!(join_by_grpc(&known.api.world, &[]).await, Err(Code::Unauthenticated));
    let ticket = joined.token("ticket");
    let told = api.shop("GET position", &[("x-anteroom-ticket", &ticket)]).await;
    assert_eq!(told.is(200).json()["number"], 1);
}

#[tokio::test]
async fn a_token_that_proves_nobody_is_never_no_token() {
    let known = Known::new("capacity=0").await;
    let ticket = known.api.shop("POST join", &[]).await.is(201).token("ticket");
    let forged = format!("Bearer {}", known.users.token(&Signer::other_es256("a"), "ann"));
    for token in [forged.as_str(), "Bearer x", "Bearer a.b.c"] {
        for call in CALLS {
            let shown = [("authorization", token), ("x-anteroom-ticket", ticket.as_str())];
            let refused = known.api.shop(call, &shown).await;
            assert_eq!(
                refused.is_problem(401).header("www-authenticate"),
                "Bearer error=\"invalid_token\"",
                "{call} {token:.9}"
            );
            assert!(!refused.body.contains(token.trim_start_matches("Bearer ")) || token.len() < 10);
        }
        let by_grpc = join_by_grpc(&known.api.world, &[("authorization", token)]).await;
        assert_eq!(by_grpc, Err(Code::Unauthenticated), "{token:.9}");
    }
    let ann = known.bearer("ann");
    let twice = [("authorization", ann.as_str()), ("authorization", ann.as_str())];
    known.api.shop("POST join", &twice).await.is_problem(401);
    assert_eq!(known.api.shop("POST join", &[("authorization", &ann)]).await.is(201).json()["number"], 2);
    // A page that waits sends its cookies unasked: one that has run out costs it no place, but brings none either.
    let stale = format!("id_token=x; anteroom_ticket_shop={ticket}");
    for call in ["POST join", "POST enter"] {
        known.api.shop(call, &[("cookie", &stale)]).await.is_problem(401);
    }
    for call in ["GET position", "POST away"] {
        assert!(known.api.shop(call, &[("cookie", &stale)]).await.status.is_success(), "{call}");
    }
    // The polling API takes its users at their word, and reads no token.
    let poll = "GET /anteroom/v1/rooms/shop/tracer?loginId=ann";
    known.api.send(poll, &[("authorization", &forged)]).await.is(200);
}

#[tokio::test]
async fn a_user_who_is_denied_is_so_from_the_first_call_on() {
    let known = Known::new("capacity=0").await;
    let mallory = known.bearer("mallory");
    let mallory = [("authorization", mallory.as_str())];
    let whom = Whom::Subject { name: "mallory".into(), issuer: None };
    known.api.world.denials.file(denied(whom)).unwrap();
    for _ in 0..2 {
        for call in CALLS {
            known.api.shop(call, &mallory).await.is_problem(403);
        }
        assert_eq!(join_by_grpc(&known.api.world, &mallory).await, Err(Code::PermissionDenied));
    }
    let ann = known.bearer("ann");
    assert_eq!(known.api.shop("POST join", &[("authorization", &ann)]).await.is(201).json()["number"], 1);
}

#[tokio::test]
async fn a_ticket_bound_to_a_user_is_nobody_elses_where_users_are_known() {
    let known = Known::new("capacity=0 bind=subject").await;
    let (ann, bob) = (known.bearer("ann"), known.bearer("bob"));
    let ticket = known.api.shop("POST join", &[("authorization", &ann)]).await.is(201).token("ticket");
    let shown = ("x-anteroom-ticket", ticket.as_str());
    known.api.shop("GET position", &[shown, ("authorization", &bob)]).await.is(401);
    known.api.shop("GET position", &[shown, ("authorization", &ann)]).await.is(200);
    // A page that cannot send the token, as with EventSource, goes on with the ticket.
    known.api.shop("GET position", &[shown]).await.is(200);
    let taken = known.api.shop("POST join", &[shown, ("authorization", &bob)]).await;
    assert_eq!(taken.is(201).json()["number"], 2, "a newcomer");
}

#[tokio::test]
async fn whoever_cannot_be_recognised_for_the_moment_is_told_to_come_again() {
    let signer = Signer::es256("a");
    let server = JwksServer::start(Says::Nothing).await;
    let users = Users::of_server(&server);
    let identity = Some(users.identity.clone());
    let api = behind(Doors { identity, ..Doors::default() }, "capacity=0");
    let ann = format!("Bearer {}", users.token(&signer, "ann"));
    let refused = api.shop("POST join", &[("authorization", &ann)]).await;
    assert_eq!(refused.is_problem(503).header("retry-after"), "5");
    assert_eq!(join_by_grpc(&api.world, &[("authorization", &ann)]).await, Err(Code::Unavailable));
    assert_eq!(api.shop("POST join", &[]).await.is(201).json()["number"], 1, "others are not held up");
}
