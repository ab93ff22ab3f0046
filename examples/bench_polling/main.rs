//! What streams save against polling: the same crowd waits twice through the real Envoy, asking for its position every
//! few seconds, and with a stream each. `make bench-polling`.
//!
//! Envoy's own counters tell how many requests it got. Each visitor has an HTTP/2 connection, as browsers do. There is
//! no pass or fail by figures, but a visitor who is told something wrong fails the run.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)] // A program for people to read; what fails ends it.

mod envoy;
mod report;

// The tests' use of Envoy's configuration is wider.
#[allow(dead_code)]
#[path = "../../tests/e2e/harness/config.rs"]
mod config;
#[path = "../bench_streams/crowd.rs"]
mod crowd;
#[path = "../bench_streams/percentiles.rs"]
mod percentiles;
#[allow(dead_code)]
#[path = "../../tests/e2e/harness/ports.rs"]
mod ports;
#[path = "../../tests/e2e/harness/program.rs"]
mod program;
#[path = "../bench_streams/progress.rs"]
mod progress;
#[path = "../../tests/support/redis.rs"]
mod redis;
#[allow(dead_code)]
#[path = "../bench_streams/service.rs"]
mod service;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;

use crowd::{Crowd, Kind};
use envoy::Envoy;
use percentiles::Percentiles;
use progress::progress;
// One source of ports for all: two would give the same ones.
use redis::ports as free_port;
use redis::server::Server;
use report::{Figures, Way};
use service::Service;

/// Lets a crowd wait twice through Envoy, polling and with streams, and counts what each takes
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The program
    #[arg(long)]
    anteroom: PathBuf,
    /// Envoy's binary
    #[arg(long, env = "ENVOY_BIN")]
    envoy: PathBuf,
    /// How many visitors wait, each with a connection of their own
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u16).range(1..=50_000))]
    visitors: u16,
    /// How many seconds they wait
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Seconds between the polls of one visitor
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    every: u64,
    /// How many are called at the end, all at once (at most all of them)
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..))]
    called: u16,
    /// One JSON object for machines instead of the table
    #[arg(long)]
    json: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments = Arguments::parse();
    let polling = run(Way::Polling, &arguments).await;
    let streams = run(Way::Streams, &arguments).await;
    progress("");
    if arguments.json {
        println!("{:#}", report::json(&polling, &streams));
    } else {
        print!("{}", report::table(&polling, &streams, arguments.every));
    }
}

async fn run(way: Way, arguments: &Arguments) -> Figures {
    let redis = Server::start().await;
    let service = Service::start(&arguments.anteroom, &redis.url(), u32::from(arguments.visitors)).await;
    let mut envoy = Envoy::start(&arguments.envoy, &service).await;
    progress(&format!("{}: taking places", way.name()));
    // Nobody gets in while they wait.
    service.state_capacity(0).await;
    let visitors = arguments.visitors;
    let mut crowd = Crowd::join(envoy.public, u32::from(visitors), visitors).await;

    let before = (service.read(&redis), envoy.read().await);
    let begun = Instant::now();
    match way {
        Way::Polling => crowd.poll(Duration::from_secs(arguments.every)),
        Way::Streams => crowd.watch(Kind::Sse).await,
    }
    let end = begun + Duration::from_secs(arguments.seconds);
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        progress(&format!("{}: {} s to wait", way.name(), left.as_secs()));
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
        crowd.all_must_wait();
        envoy.must_run();
    }
    let after = (service.read(&redis), envoy.read().await);
    let words = crowd.words();

    let called = u32::from(arguments.called.min(visitors));
    progress(&format!("{}: calling {called}", way.name()));
    let told = Percentiles::of(crowd.call(&service, called, called).await);
    Figures {
        way,
        visitors,
        seconds: arguments.seconds,
        requests: after.1.requests - before.1.requests,
        words,
        sent: after.1.sent - before.1.sent,
        received: after.1.received - before.1.received,
        envoy_cpu: after.1.cpu - before.1.cpu,
        anteroom_cpu: after.0.cpu - before.0.cpu,
        envoy_memory: after.1.resident,
        anteroom_memory: after.0.resident,
        redis_calls: after.0.redis_calls - before.0.redis_calls,
        called,
        told,
    }
}

/// The folder of this package, where `envoy/` is.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
