//! Redis is not there when the service starts.

use serde_json::json;

use crate::door::{Tokens, Told};
use crate::fleet::Fleet;
use crate::redis::server::Server;
use crate::redis::{SOON, until};

const ROOMS: &str = "rooms:\n  shop:\n    capacity: 1\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_starts_without_redis_and_is_ready_when_it_comes() {
    let redis = Server::absent();
    let mut fleet = Fleet::new("absent", &redis.url(), ROOMS);
    fleet.add("serve");
    let replica = &fleet.replicas()[0];
    until("it lives", SOON, || async { (replica.admin("/livez").await.0 == 200).then_some(()) }).await;
    let (status, text) = replica.admin("/readyz").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("store"), "says what is missing: {text}");

    // A pass needs no store; a newcomer waits without a number.
    let door = &fleet.doors()[0];
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = json!({"aud": "shop", "gen": now * 1_000, "num": 1, "iat": now, "exp": now + 3_600});
    let pass = Tokens { ticket: None, pass: Some(fleet.token("pass", &claims, true)) };
    until("a pass is served", SOON, || async {
        (door.check("shop", &pass).await.told == Told::Inside).then_some(())
    })
    .await;
    assert_eq!(door.check("shop", &Tokens::default()).await.told, Told::Held);
    replica.must_run();
    let log = replica.log();
    let said = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect::<Vec<_>>();
    assert!(!said.is_empty() && said.len() < 20, "it says so, and not all the time: {said:#?}");

    redis.restart().await;
    replica.until_ready().await;
    let told = until("a newcomer gets a number", SOON, || async {
        let answer = door.check("shop", &Tokens::default()).await;
        (answer.told != Told::Held).then_some(answer.told)
    })
    .await;
    assert!(matches!(told, Told::Inside | Told::Waiting(_)), "{told:?}");
}
