//! Clients that ask for a stream and never read it.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::listeners::{ask, connect, join};
use super::{Ground, HONEST, KEPT};
use crate::envoy::Envoy;
use crate::figures::Figures;
use crate::redis::SOON;

/// How many are silent over HTTP/2, and over how many connections.
const SILENT: usize = 5_000;
const CONNECTIONS: usize = 5;
/// Less than one word has.
const WINDOW: u32 = 64;
/// How many are silent over HTTP/1, through Envoy.
const THROUGH_ENVOY: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_who_never_read_are_cut_off_and_harm_nobody() {
    let mut ground = Ground::new("silent", &[]).await;
    let port = ground.service().http;
    let mut connections = JoinSet::new();
    let mut tickets = join(port, SILENT).await;
    let of_the_first: Vec<_> = tickets.iter().take(HONEST).cloned().collect();
    let mut unread = Vec::with_capacity(SILENT);
    for at in 0..CONNECTIONS {
        let sender = connect(port, WINDOW, &mut connections).await;
        if at == 0 {
            // They share a connection with the silent.
            for ticket in &of_the_first {
                ground.honest.take(ask(sender.clone(), ticket).await.into_body());
            }
        }
        for ticket in tickets.drain(..SILENT / CONNECTIONS) {
            let answer = ask(sender.clone(), &ticket).await;
            assert_eq!(answer.status(), 200, "every stream is taken");
            unread.push(answer.into_body());
        }
    }
    ground.until_open("the silent are cut off", SOON, |open| open == 2.0 * HONEST as f64).await;
    ground.honest.until_all_heard(3).await;
    // Each of them is told so.
    for body in unread {
        let read = tokio::time::timeout(SOON, http_body_util::BodyExt::collect(body)).await.unwrap();
        assert!(read.is_err(), "a stream that was cut off does not end as if all had been said");
    }
    let kept = ground.is_calm(HONEST, KEPT).await;

    let mut figures = Figures::new(70, &format!("{SILENT} clients never read their streams"));
    figures.row("streams cut off after `--stream-stall`", SILENT);
    figures.row("streams of others cut off, or silent for longer than 4 s at a cadence of 1 s", 0);
    figures.row("resident memory kept, MiB", format!("{:.1}", kept / 1024.0 / 1024.0));
    figures.keep();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_through_envoy_that_are_never_read_harm_nobody() {
    let ground = Ground::new("silent_through_envoy", &[]).await;
    let envoy = Envoy::before(&ground.fleet, &[0]).await;
    let mut silent = Vec::new();
    for ticket in join(ground.service().http, THROUGH_ENVOY).await {
        let mut socket = TcpStream::connect(("127.0.0.1", envoy.port)).await.unwrap();
        socket.write_all(super::frames::http1(&ticket).as_bytes()).await.unwrap();
        silent.push(socket);
    }
    let all = (HONEST + THROUGH_ENVOY) as f64;
    ground.until_open("every stream is taken", SOON, |open| open == all).await;
    ground.honest.until_all_heard(5).await;
    // What they are sent fits into the buffers on the way for many minutes, so that they end by hanging up.
    drop(silent);
    ground.is_calm(0, KEPT).await;
}
