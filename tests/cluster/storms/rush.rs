//! All come at once, more than are taken.

use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::listeners::{ask, connect, join};
use super::{Ground, HONEST, KEPT};
use crate::figures::Figures;
use crate::redis::SOON;

const CONNECTIONS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_who_come_at_once_are_served_or_refused() {
    rush("rush", 10_000, 6_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute: make chaos"]
async fn forty_thousand_who_come_at_once_are_served_or_refused() {
    let (within, kept) = rush("rush_of_many", 40_000, 30_000).await;
    let mut figures = Figures::new(73, "40,000 ask for a stream at once, `--max-streams` being 30,000");
    figures.row("refused with 503 and `retry-after`; all others are served", 40_000 + HONEST - 30_000);
    figures.row(
        "all are answered, and those served have heard their position, after",
        format!("{:.1} s", within.as_secs_f64()),
    );
    figures.row("streams of others silent for longer than 4 s at a cadence of 1 s", 0);
    figures.row("resident memory kept, MiB", format!("{:.1}", kept / 1024.0 / 1024.0));
    figures.keep();
}

/// How long it took until all were answered, and the memory that is kept, in bytes.
async fn rush(test: &str, count: usize, most: usize) -> (Duration, f64) {
    let ground = Ground::new(test, &["--max-streams", &most.to_string()]).await;
    let port = ground.service().http;
    let tickets = join(port, count).await;
    let mut connections = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..CONNECTIONS {
        senders.push(connect(port, 1 << 16, &mut connections).await);
    }
    let begun = Instant::now();
    let mut asking = JoinSet::new();
    for (at, ticket) in tickets.into_iter().enumerate() {
        let sender = senders[at % CONNECTIONS].clone();
        asking.spawn(async move {
            let mut answer = ask(sender, &ticket).await;
            if answer.status() == 200 {
                let first = tokio::time::timeout(SOON * 2, answer.frame()).await.unwrap().unwrap().unwrap();
                assert!(first.into_data().unwrap().starts_with(b"retry: "), "who is served hears at once");
                return Some(answer);
            }
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.headers()["retry-after"], "5", "a refusal says when to come again");
            let told = answer.into_body().collect().await.unwrap().to_bytes();
            let told = String::from_utf8(told.to_vec()).unwrap();
            assert!(told.contains("streams"), "a refusal says why: {told}");
            None
        });
    }
    let answers = asking.join_all().await;
    let within = begun.elapsed();
    let served: Vec<_> = answers.into_iter().flatten().collect();
    assert_eq!(served.len(), most - HONEST, "as many as there is room for");
    let refused = ground.service().metric("anteroom_streams_refused_total").await;
    assert_eq!(refused, (count - served.len()) as f64, "each refusal is counted");
    ground.honest.until_all_heard(2).await;

    // All hang up at once, and there is room again.
    drop((served, senders));
    connections.shutdown().await;
    let kept = ground.is_calm(0, KEPT).await;
    (within, kept)
}
