//! What visitors' streams cost: memory for each, CPU and Redis calls while nothing happens, and how fast those who are
//! called hear of it. `make bench-streams`.
//!
//! The real program runs as a process of its own over a Redis of its own, once for each kind of stream; there is no pass
//! or fail by time, but a visitor who is told something wrong fails the run.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)] // A program for people to read; what fails ends it.

mod crowd;
mod percentiles;
mod progress;
mod report;
mod service;

#[path = "../../tests/e2e/harness/program.rs"]
mod program;
#[path = "../../tests/support/redis.rs"]
mod redis;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;

use crowd::{Crowd, Kind};
use percentiles::Percentiles;
use progress::progress;
use redis::server::Server;
use report::Figures;
use service::{Reading, Service};

/// Opens many streams at one process and reads what they cost
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The program, built for release
    #[arg(long)]
    anteroom: PathBuf,
    /// How many visitors watch at once
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    streams: u32,
    /// Which streams
    #[arg(long, value_enum, default_values_t = [Kind::Sse, Kind::Grpc])]
    kind: Vec<Kind>,
    /// HTTP/2 connections they share, as from Envoy's workers
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// How often a thousand (at most a tenth of all) are called
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Seconds of calm that are looked at
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// One JSON object for machines instead of the table
    #[arg(long)]
    json: bool,
}

/// Between the last stream's first word and the looking: what was opened together has spread out by then.
const SETTLE: Duration = Duration::from_secs(12);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments = Arguments::parse();
    let mut all = Vec::new();
    for kind in &arguments.kind {
        all.push(run(*kind, &arguments).await);
    }
    progress("");
    if arguments.json {
        println!("{:#}", report::json(&all));
    } else {
        print!("{}", report::table(&all));
    }
}

async fn run(kind: Kind, arguments: &Arguments) -> Figures {
    let redis = Server::start().await;
    let service = Service::start(&arguments.anteroom, &redis.url(), arguments.streams).await;
    let empty = service.read(&redis);
    progress("taking places");
    // Nobody gets in before the rounds begin.
    service.state_capacity(0).await;
    let mut crowd = Crowd::join(service.http, arguments.streams, arguments.connections).await;
    let joined = service.read(&redis);
    progress("opening streams");
    if kind == Kind::Grpc {
        crowd.move_to(service.grpc).await;
    }
    let begun = Instant::now();
    crowd.watch(kind).await;
    let opened_in = begun.elapsed();
    tokio::time::sleep(SETTLE).await;

    progress("looking at the calm");
    let words = crowd.words();
    let before = service.read(&redis);
    let watched = Instant::now();
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let after = service.read(&redis);
    let seconds = watched.elapsed().as_secs_f64();
    let words = (crowd.words() - words) as f64 / seconds;

    let each_round = (arguments.streams / 10)
        .clamp(1, 1_000)
        .min(arguments.streams / u32::from(arguments.rounds).max(1))
        .max(1);
    let mut told = Vec::new();
    for round in 1..=u32::from(arguments.rounds) {
        progress(&format!("calling {each_round}, round {round} of {}", arguments.rounds));
        told.extend(crowd.call(&service, each_round * round, each_round).await);
        // Rounds begin at different moments of a tick.
        tokio::time::sleep(Duration::from_millis(700 + 37 * u64::from(round))).await;
    }
    progress("hanging up");
    crowd.hang_up();
    service.until_no_streams().await;
    // Allocators give back what is free in the course of some seconds.
    tokio::time::sleep(SETTLE).await;
    let left = service.read(&redis);
    let memory = |reading: &Reading| reading.resident.saturating_sub(empty.resident);
    Figures {
        kind,
        streams: arguments.streams,
        empty: empty.resident,
        with_places: memory(&joined),
        with_streams: memory(&after),
        left: memory(&left),
        opened_in,
        cpu: (after.cpu - before.cpu) / seconds,
        words,
        redis_calls: (after.redis_calls - before.redis_calls) as f64 / seconds,
        called: each_round,
        told: Percentiles::of(told),
    }
}
