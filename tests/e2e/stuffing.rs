//! Ticket stuffing: one client that wants thousands of places, through Envoy, while others want one each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use reqwest::{Client, Method};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::Scene;
use crate::harness::visitor::client_from;

/// How often the client tries to join; every tenth time it tries by a Check and by a poll as well.
const TRIES: usize = 5_000;
/// Those who want one place each, of an address each.
const HONEST: u8 = 60;
const AT_ONCE: usize = 16;

/// What is tried: whether it brought a place.
async fn tries(client: &Client, url: &str, at: usize) -> bool {
    let way = if at.is_multiple_of(2) { Method::POST } else { Method::GET };
    let way = if url.ends_with("/join") { Method::POST } else { way };
    let answer = client
        .request(way, url)
        .header("accept", "application/json")
        // The client's own word of its address is worth nothing, and another name makes it nobody else.
        .header("x-forwarded-for", format!("198.51.{}.{}", at / 250, at % 250))
        .header("user-agent", format!("browser {at}"))
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let policy = answer.headers().get("ratelimit-policy").cloned();
    let told: Value = answer.json().await.unwrap();
    let has_place = told["number"].is_u64() || told["waitCnt"].is_u64();
    if !has_place {
        assert_eq!((status, policy.unwrap().to_str().unwrap()), (429, "\"join\";q=5;w=1"), "{told}");
    }
    has_place
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_gets_no_more_places_than_its_limit_and_stands_in_nobodys_way() {
    let test = "one_client_gets_no_more_places_than_its_limit_and_stands_in_nobodys_way";
    let limits = [("capacity", "0")];
    let flag = "--join-limit=5/s burst 50";
    let scene = Arc::new(Scene::with_flags(test, &[flag], |config| config.limits(&limits)).await);
    // The room has limits from its first Check on.
    let (first, _) = scene.in_line().await;
    assert_eq!(first.standing().await["number"], 1);

    let begun = Instant::now();
    let (next, places) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut script = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (next, places) = (next.clone(), places.clone());
        let client = client_from([127, 0, 9, 9].into());
        let base = format!("http://127.0.0.1:{}", scene.ports.public);
        script.spawn(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= TRIES {
                    break;
                }
                let mut urls = vec![format!("{base}/anteroom/v1/rooms/shop/join")];
                if at % 10 == 9 {
                    urls.push(format!("{base}/shop"));
                    urls.push(format!("{base}/anteroom/v1/rooms/shop/tracer?loginId=bot{at}"));
                }
                for url in urls {
                    if tries(&client, &url, at).await {
                        places.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    let mut honest = JoinSet::new();
    for host in 1..=HONEST {
        let scene = scene.clone();
        honest.spawn(async move {
            let visitor = scene.visitor_from([127, 0, 2, host]);
            let answer = if host % 2 == 0 {
                visitor.get("/shop").await
            } else {
                visitor.send(Method::POST, "/anteroom/v1/rooms/shop/join", &[]).await
            };
            assert!(answer.json()["number"].is_u64(), "{answer:?}");
            // Whoever has a place joins again as often as they like.
            for _ in 0..5 {
                let again = visitor.send(Method::POST, "/anteroom/v1/rooms/shop/join", &[]).await;
                assert_eq!((again.status, &again.json()["number"]), (200, &answer.json()["number"]));
            }
        });
    }
    honest.join_all().await;
    script.join_all().await;
    let passed = begun.elapsed().as_secs_f64();
    let places = places.load(Ordering::Relaxed);
    let most = 50.0 + 5.0 * passed;
    assert!(places >= 50 && places as f64 <= most, "{places} places in {passed:.1} s");

    // Nobody refused took a number.
    let last =
        scene.visitor_from([127, 0, 3, 1]).send(Method::POST, "/anteroom/v1/rooms/shop/join", &[]).await;
    assert_eq!(last.json()["number"], 1 + places + usize::from(HONEST) + 1, "{places} places");
    assert!(scene.metric("anteroom_limit_decisions_total").await >= (TRIES + TRIES / 5) as f64);
}
