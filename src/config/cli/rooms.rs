//! The command line of `anteroom rooms`, the operators' client for rooms.

// The doc comments here are help texts: a terminal shows them as they are.
#![allow(clippy::doc_markdown)]

use std::ffi::OsString;
use std::time::Duration;

use super::asking::Asking;
use crate::admin::client::{Order, What};
use crate::room::name::RoomName;
use crate::room::policy::quoted;
use crate::room::rate::Rate;
use crate::room::state::Limits;

/// How often `watch` looks, at least and at most.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_hours(1);

/// Arguments of `anteroom rooms`.
#[derive(Debug, clap::Args)]
pub struct RoomsArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub asking: Asking,
    /// What to do.
    #[command(subcommand)]
    pub what: RoomsCommand,
}

/// What an operator wants.
#[derive(Debug, clap::Subcommand)]
pub enum RoomsCommand {
    /// Show every room that the replica knows, one line each
    List,
    /// Show one room and everything known of it
    Show {
        /// The room
        room: String,
    },
    /// Call nobody until resumed; whoever was called may still enter
    Pause {
        /// The room
        room: String,
    },
    /// Call again
    Resume {
        /// The room
        room: String,
    },
    /// Put limits above those that Envoy states; what is not named here is Envoy's again
    #[command(group(clap::ArgGroup::new("stated").required(true).multiple(true)))]
    Limits {
        /// The room
        room: String,
        /// How many may be inside at once
        #[arg(long, value_name = "COUNT", group = "stated")]
        capacity: Option<u32>,
        /// How many are called: 10/s, 600/m, 36000/h
        #[arg(long, value_name = "RATE", group = "stated")]
        rate: Option<String>,
        /// How many may be called at one instant; default: one second of --rate
        #[arg(long, value_name = "COUNT", group = "stated")]
        burst: Option<u32>,
        /// Take the operator's limits away: Envoy's apply again
        #[arg(long, group = "stated", conflicts_with_all = ["capacity", "rate", "burst"])]
        clear: bool,
    },
    /// Begin anew: everybody in line loses the place, everybody inside the pass
    Reset {
        /// The room
        room: String,
        /// The room's name once more
        #[arg(long, value_name = "ROOM")]
        confirm: String,
    },
    /// Show one room or all of them, again and again, until Ctrl-C
    Watch {
        /// The room; none: all
        room: Option<String>,
        /// How often, 200ms to 1h
        #[arg(long, value_name = "DURATION", default_value = "1s")]
        every: String,
    },
}

impl RoomsArgs {
    /// What is to be asked of whom; `token_file` is the variable [`Asking::TOKEN_FILE`]. An error says what is wrong, and what
    /// would be right.
    pub fn order(&self, token_file: Option<OsString>) -> Result<Order, String> {
        self.asking.order(token_file, self.what()?)
    }

    fn what(&self) -> Result<What, String> {
        Ok(match &self.what {
            RoomsCommand::List => What::List,
            RoomsCommand::Show { room } => What::Show(name(room)?),
            RoomsCommand::Pause { room } => What::Pause(name(room)?),
            RoomsCommand::Resume { room } => What::Resume(name(room)?),
            RoomsCommand::Limits { room, clear: true, .. } => What::Clear(name(room)?),
            RoomsCommand::Limits { room, capacity, rate, burst, clear: false } => {
                let rate = rate.as_deref().map(read_rate).transpose()?;
                // The service would say the same; here nothing was asked yet.
                Limits::stated(*capacity, rate, *burst)?;
                What::Limits(name(room)?, Limits { capacity: *capacity, rate, burst: *burst })
            }
            RoomsCommand::Reset { room, confirm } => What::Reset(name(room)?, confirm.clone()),
            RoomsCommand::Watch { room, every } => {
                let every = humantime::parse_duration(every).ok().filter(|every| EVERY.contains(every));
                let every = every.ok_or("--every: write a duration from 200ms to 1h")?;
                What::Watch(room.as_deref().map(name).transpose()?, every)
            }
        })
    }
}

fn name(text: &str) -> Result<RoomName, String> {
    RoomName::parse(text).ok_or_else(|| format!("{}: a room name is {}", quoted(text), RoomName::RULE))
}

fn read_rate(text: &str) -> Result<Rate, String> {
    text.parse().map_err(|()| format!("--rate {}: write 10/s, 600/m or 36000/h", quoted(text)))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::cli::{Cli, Command};

    fn order(line: &str) -> Result<Order, String> {
        let cli = Cli::try_parse_from(["anteroom", "rooms"].into_iter().chain(line.split_whitespace()));
        match cli.map_err(|error| error.to_string())?.command {
            Command::Rooms(arguments) => arguments.order(None),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn orders_are_understood() {
        let shop = || RoomName::parse("shop").unwrap();
        let what = |line: &str| order(line).unwrap().what;
        assert_eq!(what("list"), What::List);
        assert_eq!(what("show shop --format json"), What::Show(shop()));
        let rate = "10/s".parse().ok();
        assert_eq!(
            what("limits shop --rate 10/s"),
            What::Limits(shop(), Limits { rate, ..Limits::default() })
        );
        assert_eq!(what("limits shop --clear"), What::Clear(shop()));
        assert_eq!(what("reset shop --confirm shop"), What::Reset(shop(), "shop".into()));
        assert_eq!(what("watch --every 5s"), What::Watch(None, Duration::from_secs(5)));
        assert!(order("--admin unix:/run/a.sock list").is_ok());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_anything_is_asked() {
        for line in [
            "",
            "list shop",
            "show",
            "show a/b",
            "limits shop",
            "limits shop --rate 10",
            "limits shop --burst 0",
            "limits shop --clear --capacity 5",
            "reset shop",
            "watch --every 1ms",
            "list --admin https://127.0.0.1:9102",
            "list --token-file /nonexistent",
        ] {
            assert!(order(line).is_err(), "{line}");
        }
    }
}
