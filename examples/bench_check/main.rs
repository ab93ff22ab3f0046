//! What a Check with a valid pass costs, next to a service that does nothing with the same question. `make bench`.
//!
//! Three servers run on threads of their own and are asked in turn, one at a time: the real `ext_authz` service, a no-op
//! one with the official messages, and the client API. There is no pass or fail by time; a wrong answer fails the run.

mod cpu;
mod load;
mod question;
mod report;
mod servers;

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use load::{Load, Round, round};
use report::{Figures, Report};
use servers::Servers;

/// The program's own allocator, for all three alike.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long the servers are asked before a round counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// Requests per second of a Check with a valid pass, next to a no-op service
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    /// One JSON object for machines instead of the table
    #[arg(long)]
    json: bool,
    /// Seconds that each round lasts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Rounds for each server, in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// HTTP/2 connections of the client
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    streams: u16,
    /// Threads of the servers; the client has one of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    server_threads: u16,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; then there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "bench_check: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let progress = Progress::new();
    progress.show("starting the servers");
    let servers = Servers::start(arguments.server_threads.into())?;
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let crowd = Load {
        connections: arguments.connections,
        streams: arguments.streams,
        warm_up: WARM_UP,
        length: Duration::from_secs(arguments.seconds),
    };
    let alone = Load { connections: 1, streams: 1, ..crowd };
    let mut rounds: Vec<Vec<Round>> = servers.targets.iter().map(|_| Vec::new()).collect();
    for turn in 1..=arguments.rounds {
        for (target, done) in servers.targets.iter().zip(&mut rounds) {
            progress.show(&format!("round {turn} of {}: {}", arguments.rounds, target.name));
            done.push(client.block_on(round(target, crowd))?);
        }
    }
    let mut figures = Vec::new();
    for (target, rounds) in servers.targets.iter().zip(rounds) {
        progress.show(&format!("one request at a time: {}", target.name));
        figures.push(Figures { name: target.name, rounds, alone: client.block_on(round(target, alone))? });
    }
    progress.clear();
    let report = Report { figures, load: crowd, server_threads: arguments.server_threads };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{:#}", report.json())?;
    } else {
        report.table(&mut out)?;
    }
    Ok(())
}

/// One line on standard error that is written over, and none at all where nobody watches.
struct Progress {
    watched: bool,
}

impl Progress {
    fn new() -> Self {
        Self { watched: std::io::stderr().is_terminal() }
    }

    fn show(&self, what: &str) {
        if self.watched {
            // Only progress: the figures do not depend on it.
            let _ = write!(std::io::stderr(), "\r\x1b[K{what} …");
        }
    }

    fn clear(&self) {
        if self.watched {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
