//! The hidden subcommand `serve`: what is measured, in a process of its own, on a core of its own.
//!
//! A server of this file says its port in its first line, answers `count` on its standard input with the allocations so
//! far, and ends with whoever started it.

mod floor;
mod no_op;

#[cfg(test)]
pub(crate) use no_op::yes;

use std::ffi::OsString;
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anteroom::app;
use anteroom::config::cli::Cli;
use anteroom::drain::signals;
use clap::Parser as _;

use crate::{allocations, cores};

/// A server, and where it runs.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The core it is kept on
    #[arg(long)]
    core: Option<usize>,
    #[command(subcommand)]
    peer: Served,
}

/// What is served.
#[derive(Debug, clap::Subcommand)]
enum Served {
    /// Reads the question with the official messages, and says yes: the usual way to write an `ext_authz` service
    NoOp,
    /// Reads nothing, and says yes: bare HTTP/2
    Floor,
    /// The program as a library, for counting what it allocates
    Anteroom {
        /// As for `anteroom`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Becomes another program
    Program {
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Serves until it is ended.
pub(crate) fn serve(arguments: ServeArgs) -> Result<(), String> {
    cores::end_with_parent().map_err(|error| format!("cannot be bound to its parent: {error}"))?;
    if let Some(core) = arguments.core {
        cores::pin(core).map_err(|error| format!("cannot be kept on core {core}: {error}"))?;
    }
    match arguments.peer {
        Served::NoOp => no_op::serve(),
        Served::Floor => floor::serve(),
        Served::Anteroom { arguments } => serve_anteroom(arguments),
        Served::Program { command } => {
            let mut words = command.into_iter();
            let program = words.next().unwrap_or_default();
            let error = Command::new(&program).args(words).exec();
            Err(format!("cannot become {}: {error}", program.display()))
        }
    }
}

/// What the program's own `main` does, in this process.
fn serve_anteroom(arguments: Vec<OsString>) -> Result<(), String> {
    answer_counts();
    let words = [OsString::from("anteroom")].into_iter().chain(arguments);
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let settings = cli
        .settings(std::env::vars_os())
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    app::runtime().map_err(|error| error.to_string())?.block_on(async {
        let stops = signals().map_err(|error| error.to_string())?;
        app::run(settings, stops).await.map_err(|error| error.to_string())
    })
}

/// Says where a server of this process listens, for whoever started it.
fn say(address: SocketAddr) -> io::Result<()> {
    answer_counts();
    let mut out = io::stdout().lock();
    writeln!(out, "{address}")?;
    out.flush()
}

/// Answers questions on standard input in the background. When that is closed, whoever asks has gone: the process ends.
fn answer_counts() {
    std::thread::spawn(|| {
        for _ in io::stdin().lock().lines().map_while(Result::ok) {
            let mut out = io::stdout().lock();
            let count = allocations::count().map_or_else(|| "unknown".to_owned(), |count| count.to_string());
            if writeln!(out, "{count}").and_then(|()| out.flush()).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
}
