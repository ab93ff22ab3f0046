//! Limits and idempotency keys: floods are kept out without harm to others, and an order that is sent twice arrives once.

use std::time::Instant;

use reqwest::Method;
use tokio::task::JoinSet;

use crate::harness::visitor::Visitor;
use crate::harness::{SOON, Scene, until};

/// Orders that are sent twice.
const ROUNDS: u64 = 1_000;

/// What nobody in these tests would wait for.
const OPEN: (&str, &str) = ("capacity", "1000000");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_refused_takes_no_number_and_harms_nobody_else() {
    let limits = [OPEN, ("limit_ip", "20/m burst 5")];
    let test = "a_flood_is_refused_takes_no_number_and_harms_nobody_else";
    let scene = Scene::with(test, |config| config.limits(&limits)).await;
    let begun = Instant::now();
    let flood = scene.visitor_from([127, 0, 9, 9]);
    for _ in 0..5 {
        assert_eq!(flood.get("/shop").await.status, 200);
    }
    let mut last = None;
    for forged in 0..100 {
        // The client's own word of its address is worth nothing.
        let address = format!("198.51.100.{forged}");
        let answer = flood.send(Method::GET, "/shop", &[("x-forwarded-for", &address)]).await;
        // On a slow machine one more may be due.
        if answer.status != 200 {
            assert_eq!(answer.status, 429, "{answer:?}");
            last = Some(answer);
        }
    }
    let refused = last.expect("a hundred in a moment are beyond the limit");
    let allowed = scene.backend.requests();
    assert!(allowed as f64 <= 5.0 + begun.elapsed().as_secs_f64() / 3.0, "{allowed} have passed");
    assert_eq!(refused.header("ratelimit-policy"), "\"ip\";q=20;w=60");
    assert!(refused.header("ratelimit").starts_with("\"ip\";r=0;t="), "{refused:?}");
    assert!((1..=3).contains(&refused.header("retry-after").parse::<u64>().unwrap()), "{refused:?}");
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert!(
        refused.set_cookie("anteroom_ticket_shop").is_none()
            && refused.set_cookie("anteroom_pass_shop").is_none()
    );
    let honest = scene.visitor_from([127, 0, 0, 2]).get("/shop").await;
    assert_eq!(honest.status, 200, "{honest:?}");
    assert_eq!(honest.json()["headers"]["x-anteroom-number"], "2", "nobody refused took a number");
}

/// A flood that lasts until it is dropped.
async fn goes_on(flood: Visitor) {
    loop {
        let status = flood.get("/shop").await.status;
        assert!([200, 429].contains(&status), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_honest_clients_notice_nothing_of_a_flood() {
    let limits = [OPEN, ("limit_ip", "20/s burst 20")];
    let test = "two_hundred_honest_clients_notice_nothing_of_a_flood";
    let scene = Scene::with(test, |config| config.limits(&limits)).await;
    let mut flood = JoinSet::new();
    for _ in 0..8 {
        flood.spawn(goes_on(scene.visitor_from([127, 0, 9, 9])));
    }
    let mut honest = JoinSet::new();
    for number in 1..=200 {
        let visitor = scene.visitor_from([127, 0, 8, number]);
        honest.spawn(async move {
            for _ in 0..10 {
                assert_eq!(visitor.get("/shop").await.status, 200);
            }
        });
    }
    while let Some(done) = honest.join_next().await {
        done.unwrap();
    }
    // The flood was one: more was refused to it than it was allowed.
    let counted = async || scene.metric("anteroom_limit_decisions_total").await;
    until("the flood is far beyond its limit", SOON, || async { (counted().await > 4_000.0).then_some(()) })
        .await;
    let allowed = scene.backend.requests();
    assert!(allowed >= 2_000 && (allowed as f64) < counted().await, "{allowed}");
    assert!(flood.try_join_next().is_none(), "the flood goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_orders_with_one_key_one_reaches_the_backend() {
    let limits = [OPEN, ("idempotency", "require")];
    let test = "of_two_orders_with_one_key_one_reaches_the_backend";
    let scene = Scene::with(test, |config| config.limits(&limits)).await;
    let visitor = std::sync::Arc::new(scene.inside().await);
    let before = scene.backend.requests();
    for _ in 0..ROUNDS {
        let key = uuid::Uuid::new_v4().to_string();
        let mut orders = JoinSet::new();
        for _ in 0..2 {
            let (visitor, key) = (visitor.clone(), key.clone());
            orders.spawn(async move {
                visitor.send(Method::POST, "/shop/orders", &[("idempotency-key", &key)]).await.status
            });
        }
        let mut told = orders.join_all().await;
        told.sort_unstable();
        assert_eq!(told, [200, 409]);
    }
    assert_eq!(scene.backend.requests() - before, ROUNDS);

    let key = uuid::Uuid::new_v4().to_string();
    let order = async |path: &str, keys: &[&str]| {
        let headers: Vec<_> = keys.iter().map(|key| ("idempotency-key", *key)).collect();
        visitor.send(Method::POST, path, &headers).await.status
    };
    for wrong in [&[][..], &["1"], &[&key, &key], &[&format!("{key}, {key}")]] {
        assert_eq!(order("/shop/orders", wrong).await, 400, "{wrong:?}");
    }
    assert_eq!(order("/shop/orders", &[&key]).await, 200, "what was refused has not used it up");
    assert_eq!(order("/shop/orders", &[&key]).await, 409);
    assert_eq!(order("/shop/returns", &[&key]).await, 200, "another call");
    // A request that Envoy asks about twice is let through twice, as an answer may be lost; a client cannot claim that.
    let chosen = uuid::Uuid::new_v4().to_string();
    let ids = [("idempotency-key", chosen.as_str()), ("x-request-id", chosen.as_str())];
    for expected in [200, 409] {
        assert_eq!(visitor.send(Method::POST, "/shop/orders", &ids).await.status, expected);
    }
    let other = scene.inside().await;
    let theirs = other.send(Method::POST, "/shop/orders", &[("idempotency-key", &key)]).await;
    assert_eq!(theirs.status, 200, "another visitor's key of the same name");
    assert_eq!(visitor.get("/shop").await.status, 200, "reading needs none");
}
