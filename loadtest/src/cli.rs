//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::question::Accept;
use crate::serve::ServeArgs;

/// What a Check, an arrival and a poll cost, next to other services in the same run
///
/// The figures are this machine's: compare the ratios. There is no pass or fail by time; a wrong answer fails the run.
#[derive(Debug, clap::Parser)]
#[command(name = "loadtest", max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Checks with a valid pass
    Pass(Plan),
    /// Checks with a valid pass and a user's token (ES256, remembered), next to those without an identity file
    Identity(Plan),
    /// Checks of newcomers: a number, a ticket and the whole answer, over the embedded store and over Redis
    Arrive {
        #[command(flatten)]
        rounds: Plan,
        /// What the newcomers take: json, or html (the waiting page)
        #[arg(long, value_enum, default_value_t = Accept::Json)]
        accept: Accept,
    },
    /// Polls of one's position in a long line
    Poll {
        #[command(flatten)]
        rounds: Plan,
        /// How many wait
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        waiting: u64,
    },
    /// Requests with a valid pass through a real Envoy, next to the same Envoy that asks the no-op service
    Envoy {
        #[command(flatten)]
        rounds: Plan,
        /// Envoy's program; `make tools` installs one
        #[arg(long, value_name = "PATH", env = "ENVOY_BIN")]
        envoy: Option<PathBuf>,
    },
    /// An event: 300,000 visitors at 30,000/s, a poll every 5 s each, 1,000 let in per second, all times a factor
    Mixed {
        /// By what the event is scaled
        #[arg(long, default_value_t = 0.2)]
        scale: f64,
        /// How many seconds of its 300 are played
        #[arg(long, default_value_t = 60.0, value_parser = seconds)]
        seconds: f64,
        /// Where the rooms live
        #[arg(long, value_enum, default_value_t = Store::Redis)]
        store: Store,
        #[command(flatten)]
        with: With,
    },
    /// Memory with very many waiting, and the time a snapshot of a very long line takes
    Memory {
        /// How many wait
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        visitors: u64,
        /// How long the line of the snapshot is
        #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        line: u64,
        #[command(flatten)]
        with: With,
    },
    /// One very long line with several replicas, and very many rooms: what they cost Redis, and what 100 replicas would
    Scale {
        #[command(flatten)]
        size: Size,
        #[command(flatten)]
        with: With,
    },
    /// How often memory is asked for on the pass path (needs a build with the feature count-allocations)
    Allocations {
        #[command(flatten)]
        with: With,
    },
    #[command(hide = true)]
    Serve(ServeArgs),
}

/// Where rooms live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Store {
    /// In the process itself
    Memory,
    /// In a Redis that is started for it
    Redis,
}

/// What all scenarios take.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct With {
    /// The program; without it, the one beside this one. `built-in`: the library, in a process of this harness
    #[arg(long, value_name = "PATH")]
    pub(crate) anteroom: Option<PathBuf>,
    /// Also write all figures there, for machines
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also draw there: latency by percentile, requests per second by round
    #[arg(long, value_name = "DIR")]
    pub(crate) svg: Option<PathBuf>,
}

/// How large `scale` is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Size {
    /// How many wait in the one room
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) line: u64,
    /// How many replicas look at it at most
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) replicas: u32,
    /// How many rooms there are then
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rooms: u32,
    /// How many wait in each of them
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) each: u64,
    /// Seconds for which each size is looked at
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,
}

/// How the scenarios with peers are measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Plan {
    /// Seconds that each round lasts, behind a warm-up of 0.3 s
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Rounds of each peer, in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) rounds: u16,
    /// HTTP/2 connections of the load
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) connections: u16,
    /// Requests in flight on each, where the top rate is looked for
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) streams: u16,
    /// Requests per second where latency is looked at, on a fixed schedule: half (of each peer's own top rate), a
    /// number for all, or off
    #[arg(long, default_value = "half")]
    pub(crate) rate: Rate,
    /// Limitador's server, to be measured as well
    #[arg(long, value_name = "PATH")]
    pub(crate) limitador: Option<PathBuf>,
    /// Also profile Anteroom at its top rate for another round, and draw the flame graph there
    #[arg(long, value_name = "FILE")]
    pub(crate) flame: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) with: With,
}

impl Plan {
    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// How many requests per second an open loop makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    Off,
    Half,
    Of(f64),
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Half => f.write_str("half"),
            Self::Of(rate) => write!(f, "{rate}"),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<f64>()) {
            ("off", _) => Ok(Self::Off),
            ("half", _) => Ok(Self::Half),
            (_, Ok(rate)) if (1.0..=10_000_000.0).contains(&rate) => Ok(Self::Of(rate)),
            _ => Err("write `half`, `off` or requests per second, 1 to 10000000".to_owned()),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let wrong = "write seconds from 0.1 to 3600".to_owned();
    text.parse().ok().filter(|seconds| (0.1..=3_600.0).contains(seconds)).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["loadtest", "pass", "--rate", "0"]).is_err());
        assert!(Cli::try_parse_from(["loadtest", "pass", "--seconds", "0"]).is_err());
        assert_eq!("12.5".parse(), Ok(Rate::Of(12.5)));
    }
}
