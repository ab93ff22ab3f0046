//! Replicas restarted one after the other under load, through Envoy: nobody notices, not even where their keys change.

mod load;

use reqwest::Method;

use crate::envoy::Envoy;
use crate::envoy::visitor::Visitor;
use crate::fleet::Fleet;
use crate::redis::server::Server;
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
    let next = waiting[1].standing().await;
    assert_eq!((&next["status"], &next["position"]), (&"waiting".into(), &1.into()), "{next}");
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
    let renewed = async {
        while load.inside.iter().any(|visitor| kid(visitor, PASS) != "next") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::redis::SOON, renewed).await.expect("passes are renewed with the new key");

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
