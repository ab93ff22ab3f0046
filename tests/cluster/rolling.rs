//! Replicas restarted one after the other under load, through Envoy: nobody notices, not even where their keys change.

mod load;

use reqwest::Method;

use crate::envoy::Envoy;
use crate::envoy::visitor::Visitor;
use crate::fleet::Fleet;
use crate::redis::server::Server;
use crate::redis::{SOON, until};
use crate::tokens::{Parts, SigningKey};
use load::Load;

const INSIDE: u64 = 6;
const WAITING: u64 = 16;

/// Two replicas, and Envoy before them. Sessions are short, so that passes are renewed all the time.
async fn scene(test: &str, redis: &Server) -> (Fleet, Envoy) {
    let rooms = format!("rooms:\n  shop:\n    capacity: {INSIDE}\n    session_ttl: 8s\n");
    let flags = ["--drain", "4s", "--stream-interval", "2s", "--stream-near", "500ms"];
    let mut fleet = Fleet::new(test, &redis.url(), &rooms).with(&flags);
    for _ in 0..2 {
        fleet.add("serve");
    }
    for replica in fleet.replicas() {
        replica.until_ready().await;
    }
    let envoy = Envoy::before_all(&fleet).await;
    envoy.until_all_healthy().await;
    (fleet, envoy)
}

/// Restarts all replicas, each after the one before is back.
async fn roll(fleet: &Fleet, envoy: &Envoy) {
    for (index, replica) in fleet.replicas().iter().enumerate() {
        replica.terminate().await;
        fleet.restart(index);
        replica.until_ready().await;
        envoy.until_all_healthy().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_a_rolling_restart() {
    let redis = Server::start().await;
    let (fleet, envoy) = scene("rolling", &redis).await;
    let mut load = Load::begin(envoy.port, INSIDE, WAITING).await;
    let twice = async {
        for _ in 0..2 {
            roll(&fleet, &envoy).await;
        }
    };
    load.during(twice).await;
    // Each replica ended the streams that it had, twice; all of them were at one of the two.
    assert!(load.done.returns() >= WAITING, "{:?}", load.done);

    // And the line goes on where it was.
    let (inside, waiting) = load.end().await;
    inside[0].leave().await;
    waiting[0].enters().await;
    until("the next one moves up", SOON, || async {
        let next = waiting[1].standing().await;
        assert_eq!(next["status"], "waiting", "{next}");
        (next["position"] == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_has_not_reached_its_store_is_sent_nobody() {
    let (redis, absent) = (Server::start().await, Server::absent());
    let (mut fleet, envoy) = scene("storeless", &redis).await;
    let mut load = Load::begin(envoy.port, INSIDE, WAITING).await;
    let ends = async {
        fleet.replicas()[0].terminate().await;
        // For Checks, for HTTP and for gRPC.
        envoy.until_unhealthy(3).await;
    };
    load.during(ends).await;
    fleet.use_store(&absent.url());
    fleet.restart(0);
    let replica = &fleet.replicas()[0];
    let up = until("it serves", SOON, || async { (replica.admin("/livez").await.0 == 200).then_some(()) });
    load.during(up).await;
    assert_eq!(replica.admin("/readyz").await.0, 503);
    // Many rounds over all replicas, had Envoy both.
    let (done, before) = (load.done.clone(), load.done.passes());
    load.during(until("the crowd has gone on", SOON, async || (done.passes() > before + 500).then_some(())))
        .await;
    load.end().await;
}

/// The key that signed the token in a cookie.
fn kid(visitor: &Visitor, cookie: &str) -> String {
    let token = visitor.cookie(cookie).unwrap_or_else(|| panic!("no {cookie}"));
    Parts::of(&token).header["kid"].as_str().expect("a key's name").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_keys_are_rotated() {
    const PASS: &str = "anteroom_pass_shop";
    const TICKET: &str = "anteroom_ticket_shop";
    let redis = Server::start().await;
    let (fleet, envoy) = scene("rotation", &redis).await;
    let (old, new) = (&fleet.key, &SigningKey::fresh("next"));
    let mut load = Load::begin(envoy.port, INSIDE, WAITING).await;
    let newcomer = async || {
        let visitor = Visitor::new(envoy.port);
        assert_eq!(visitor.get("/shop").await.status, 429);
        visitor
    };

    // All learn to verify what nobody signs with yet; then they sign with it.
    fleet.use_keys(&[old, new]);
    load.during(roll(&fleet, &envoy)).await;
    assert_eq!(kid(&newcomer().await, TICKET), "fleet");
    assert!(load.inside.iter().all(|visitor| kid(visitor, PASS) == "fleet"));
    fleet.use_keys(&[new, old]);
    load.during(roll(&fleet, &envoy)).await;
    let late = newcomer().await;
    assert_eq!(kid(&late, TICKET), "next");
    assert!(load.waiting.iter().all(|visitor| kid(visitor, TICKET) == "fleet"), "tickets are kept");
    let inside = load.inside.clone();
    let all_renewed = async || inside.iter().all(|visitor| kid(visitor, PASS) == "next").then_some(());
    load.during(until("passes are renewed with the new key", SOON, all_renewed)).await;

    // When the tickets of the old key have run out it goes, and those of the new one hold.
    let (inside, waiting) = load.end().await;
    let mut load = Load::new(envoy.port);
    for (number, visitor) in (1..).zip(inside) {
        load.goes_on_inside(visitor, number);
    }
    let before = late.standing().await;
    fleet.use_keys(&[new]);
    load.during(roll(&fleet, &envoy)).await;
    load.end().await;
    let after = late.standing().await;
    assert_eq!((&after["number"], &after["position"]), (&before["number"], &before["position"]));
    let told = waiting[0].send(Method::GET, "/anteroom/v1/rooms/shop/position", &[]).await;
    assert_eq!(told.status, 401, "nobody knows the old key any more: {told:?}");
}
