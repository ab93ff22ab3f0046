//! The load harness: what Anteroom costs, next to other services in the same run. `make bench`.

mod allocations;
mod bench;
mod cli;
mod cores;
mod drive;
mod envoy;
mod figures;
mod flame;
mod h2;
mod peers;
mod process;
mod progress;
mod question;
#[path = "../../tests/support/redis.rs"]
mod redis;
mod report;
mod scenario;
mod schedule;
mod serve;
mod service;
mod stop;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

/// Why a run came to nothing: what was wrong, where, and what would be right.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failed(String);

impl From<h2::Broken> for Failed {
    fn from(error: h2::Broken) -> Self {
        Self(error.to_string())
    }
}

impl From<stop::Stopped> for Failed {
    fn from(stopped: stop::Stopped) -> Self {
        Self(stopped.to_string())
    }
}

impl From<process::ProcessError> for Failed {
    fn from(error: process::ProcessError) -> Self {
        Self(error.to_string())
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(arguments) => serve::serve(arguments).map(|()| true).map_err(Failed),
        command => stop::listen()
            .map_err(|error| Failed(format!("signals cannot be taken: {error}")))
            .and_then(|()| scenario::run(command)),
    };
    progress::progress("");
    match result {
        Ok(true) => ExitCode::SUCCESS,
        // The report says what was wrong.
        Ok(false) => ExitCode::FAILURE,
        Err(_) if stop::asked() => {
            // Whatever it broke off with, and whoever heard of the signal first.
            let _ = writeln!(std::io::stderr(), "loadtest: stopped; what it had started is ended");
            ExitCode::from(stop::STATUS)
        }
        Err(error) => {
            // Standard error may be closed; then there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}
