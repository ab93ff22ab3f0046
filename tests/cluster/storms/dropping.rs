//! Clients that ask for a stream and hang up, over and over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::frames::{Frames, http1};
use super::listeners::join;
use super::{Ground, HONEST, KEPT};
use crate::envoy::Envoy;
use crate::figures::Figures;

/// How many clients.
const CLIENTS: usize = 5_000;
/// How many connections at a time come and go through Envoy.
const THROUGH_ENVOY: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_who_come_and_go_on_one_connection_leave_it_to_the_others() {
    come_and_go("dropping", Duration::from_secs(5), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_do_where_few_streams_are_allowed() {
    come_and_go("dropping_few", Duration::from_secs(2), &["--max-streams", "200"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute and a half: make chaos"]
async fn thousands_come_and_go_on_one_connection_for_a_minute() {
    let (gone, kept) = come_and_go("dropping_a_minute", Duration::from_mins(1), &[]).await;
    let mut figures =
        Figures::new(71, &format!("{CLIENTS} clients ask for a stream and hang up, for a minute"));
    figures.row("streams asked for and taken back, over the one connection of 50 others", gone);
    figures.row("streams of others cut off, or silent for longer than 4 s at a cadence of 1 s", 0);
    figures.row("resident memory kept, MiB", format!("{:.1}", kept / 1024.0 / 1024.0));
    figures.keep();
}

/// How many came and went, and the memory that is kept, in bytes.
async fn come_and_go(test: &str, time: Duration, flags: &[&str]) -> (usize, f64) {
    let mut ground = Ground::new(test, flags).await;
    let port = ground.service().http;
    let mut frames = Frames::connect(port, ground.honest.beats()).await;
    for ticket in join(port, HONEST).await {
        frames.listen(&ticket, ground.honest.one_more()).await;
    }
    ground.honest.until_all_heard(1).await;
    let tickets: Vec<_> = join(port, CLIENTS).await.into();
    let (mut gone, mut left) = (0, Vec::new());
    let end = Instant::now() + time;
    while Instant::now() < end {
        frames.come_and_go(&tickets, &mut left).await;
        gone += tickets.len();
        sleep(Duration::from_millis(100)).await;
    }
    frames.go(&mut left).await;
    let words = frames.words();
    let kept = ground.is_calm(HONEST, KEPT).await;
    frames.must_live();
    assert!(frames.words() > words, "those who listen hear more");
    (gone, kept)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_through_envoy_that_come_and_go_harm_nobody() {
    through_envoy("dropping_through_envoy", Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute and a half: make chaos"]
async fn connections_come_and_go_through_envoy_for_a_minute() {
    let (gone, kept) = through_envoy("dropping_through_envoy_a_minute", Duration::from_mins(1)).await;
    let mut figures = Figures::new(72, "The same through Envoy, each with a connection of its own");
    figures.row("connections", gone);
    figures.row("resident memory kept, MiB", format!("{:.1}", kept / 1024.0 / 1024.0));
    figures.keep();
}

async fn through_envoy(test: &str, time: Duration) -> (u64, f64) {
    let ground = Ground::new(test, &[]).await;
    let envoy = Envoy::before(&ground.fleet, &[0]).await;
    let tickets: Arc<[String]> = Vec::from(join(ground.service().http, CLIENTS).await).into();
    let (gone, end) = (Arc::new(AtomicU64::new(0)), Instant::now() + time);
    let mut clients = JoinSet::new();
    for _ in 0..THROUGH_ENVOY {
        let (tickets, gone, port) = (tickets.clone(), gone.clone(), envoy.port);
        clients.spawn(async move {
            while Instant::now() < end {
                let turn = gone.fetch_add(1, Ordering::Relaxed);
                let at = usize::try_from(turn).unwrap() % tickets.len();
                let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                // They end with a reset, so that a minute of them does not use up this machine's ports.
                socket.set_zero_linger().unwrap();
                socket.write_all(http1(&tickets[at]).as_bytes()).await.unwrap();
                if turn % 2 == 0 {
                    let mut first = [0; 64];
                    let read = socket.read(&mut first).await.unwrap();
                    assert!(first[..read].starts_with(b"HTTP/1.1 200 "), "every stream is taken");
                }
            }
        });
    }
    clients.join_all().await;
    (gone.load(Ordering::Relaxed), ground.is_calm(0, KEPT).await)
}
