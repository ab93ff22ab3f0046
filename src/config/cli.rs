//! The command line: subcommands and flags, each flag with its `ANTEROOM_*` twin in the environment.
//!
//! Values stay text here: `settings` checks them all together, so that every mistake is reported at once.

// The doc comments here are help texts: a terminal shows them as they are.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

pub mod asking;
pub mod deny;
pub mod rooms;

/// A virtual waiting room for Envoy: fair lines, honest positions, signed passes.
#[derive(Debug, clap::Parser)]
#[command(name = "anteroom", version, about, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program is to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run everything in one process: ext_authz, positions, pages and the admin listener
    Serve(Box<Flags>),
    /// Run only the ext_authz role and the admin listener (needs a shared store)
    Authz(Box<Flags>),
    /// Run only the position role, gRPC and HTTP, and the admin listener (needs a shared store)
    Stream(Box<Flags>),
    /// Check settings, rooms, keys and identity files and Envoy configuration; exit with 0, 1 (mistakes) or 2 (unreadable)
    CheckConfig(Box<CheckArgs>),
    /// Look at rooms and control them through an admin listener; exit with 0, 1 (refused, no such room), 2 (not done) or 3 (may
    /// have been done: look)
    Rooms(rooms::RoomsArgs),
    /// Look at the deny list and change operators' entries, through an admin listener; exits like rooms
    Deny(deny::DenyArgs),
}

/// Arguments of `anteroom check-config`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Files to check; what each one is shows in its content. None: only the settings are checked
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value_t)]
    pub format: CheckFormat,
    /// The settings that would be served with, checked too.
    #[command(flatten)]
    pub flags: Flags,
}

/// How `check-config` reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CheckFormat {
    /// Lines for people and editors
    #[default]
    Human,
    /// One JSON object for machines
    Json,
}

/// All settings, as they were written. Defaults are filled in.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Where Envoy asks (ext_authz gRPC): IP:PORT or unix:/path
    #[arg(long, env = "ANTEROOM_AUTHZ_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    pub authz_listen: String,
    /// Where clients ask for positions by gRPC, through Envoy: IP:PORT or unix:/path
    #[arg(long, env = "ANTEROOM_GRPC_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50052")]
    pub grpc_listen: String,
    /// Where clients poll, stream and fetch the page, through Envoy: IP:PORT or unix:/path
    #[arg(long, env = "ANTEROOM_HTTP_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub http_listen: String,
    /// Health, metrics and control of rooms, for operators only: IP:PORT or unix:/path
    #[arg(long, env = "ANTEROOM_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:9102")]
    pub admin_listen: String,
    /// Where rooms live: memory (this process; one replica), or a shared Redis >= 7.0: redis://host:port,
    /// redis-cluster://host:port,host:port; rediss for TLS, user:password@ before the host
    #[arg(
        long,
        env = "ANTEROOM_STORE",
        value_name = "STORE",
        default_value = "memory",
        hide_env_values = true
    )]
    pub store: String,
    /// Directory of the memory store's checkpoint, so that a restart costs nobody their place; made if missing
    #[arg(long, env = "ANTEROOM_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Rooms file: rooms matched by host, path and method, and limits of rooms that Envoy only names
    #[arg(long, env = "ANTEROOM_ROOMS", value_name = "FILE")]
    pub rooms: Option<PathBuf>,
    /// Deny file: networks, browsers and users that are refused with 403; read again when it changes
    #[arg(long, env = "ANTEROOM_DENY", value_name = "FILE")]
    pub deny: Option<PathBuf>,
    /// Keys file; without one a fresh key is made, and tickets do not outlive the process. A shared store needs one
    #[arg(long, env = "ANTEROOM_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Identity file: who vouches for users by signed tokens, and which requests need no user
    #[arg(long, env = "ANTEROOM_IDENTITY", value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Template of the waiting page, in place of the built-in one
    #[arg(long, env = "ANTEROOM_PAGE", value_name = "FILE")]
    pub page: Option<PathBuf>,
    /// Whether cookies are marked Secure; false only for plain HTTP in development
    #[arg(long, env = "ANTEROOM_COOKIE_SECURE", value_name = "BOOL", default_value = "true")]
    pub cookie_secure: String,
    /// Domain of the cookies, to share places between hosts; without it they belong to the one host
    #[arg(long, env = "ANTEROOM_COOKIE_DOMAIN", value_name = "DOMAIN")]
    pub cookie_domain: Option<String>,
    /// How often the copy of each room's state is renewed, 50ms to 1s
    #[arg(long, env = "ANTEROOM_TICK", value_name = "DURATION", default_value = "200ms")]
    pub tick: String,
    /// How long a ticket is valid, 1h to 31d: longer than anybody waits
    #[arg(long, env = "ANTEROOM_TICKET_TTL", value_name = "DURATION", default_value = "24h")]
    pub ticket_ttl: String,
    /// The most rooms kept at once, 1 to 1000000
    #[arg(long, env = "ANTEROOM_MAX_ROOMS", value_name = "COUNT", default_value = "16384")]
    pub max_rooms: String,
    /// The most streams open at once, 1 to 10000000
    #[arg(long, env = "ANTEROOM_MAX_STREAMS", value_name = "COUNT", default_value = "100000")]
    pub max_streams: String,
    /// The most Checks in flight, 1 to 1000000; those above are answered with an error at once
    #[arg(long, env = "ANTEROOM_MAX_CHECKS", value_name = "COUNT", default_value = "10000")]
    pub max_checks: String,
    /// How many trusted proxies stand before the one that asks, 0 to 16: whose word on the client's address counts
    #[arg(long, env = "ANTEROOM_TRUSTED_HOPS", value_name = "COUNT", default_value = "0")]
    pub trusted_hops: String,
    /// The new places that each client address may take, by whatever way: a rate like 5/s, perhaps with a burst:
    /// 5/s burst 50; default: any number
    #[arg(long, env = "ANTEROOM_JOIN_LIMIT", value_name = "QUOTA")]
    pub join_limit: Option<String>,
    /// The calls that each client address may make to the client API, written like --join-limit; default: any number
    #[arg(long, env = "ANTEROOM_API_LIMIT", value_name = "QUOTA")]
    pub api_limit: Option<String>,
    /// The threads that serve connections, 1 to 256; default: one for each core
    #[arg(long, env = "ANTEROOM_THREADS", value_name = "COUNT")]
    pub threads: Option<String>,
    /// The longest a Check may take, 2ms to 10s; keep it well under Envoy's own timeout
    #[arg(long, env = "ANTEROOM_CHECK_BUDGET", value_name = "DURATION", default_value = "60ms")]
    pub check_budget: String,
    /// The longest a store call may take, 1ms to 10s and less than the check budget
    #[arg(long, env = "ANTEROOM_STORE_BUDGET", value_name = "DURATION", default_value = "20ms")]
    pub store_budget: String,
    /// How often a stream tells those far back their position, 1s to 5m
    #[arg(long, env = "ANTEROOM_STREAM_INTERVAL", value_name = "DURATION", default_value = "10s")]
    pub stream_interval: String,
    /// How often a stream looks for those at the front of the line, 100ms to 1m
    #[arg(long, env = "ANTEROOM_STREAM_NEAR", value_name = "DURATION", default_value = "1s")]
    pub stream_near: String,
    /// How long a stream puts up with a client that does not read, 1s to 1h
    #[arg(long, env = "ANTEROOM_STREAM_STALL", value_name = "DURATION", default_value = "1m")]
    pub stream_stall: String,
    /// How often a quiet stream sends a sign of life, 1s to 1h
    #[arg(long, env = "ANTEROOM_HEARTBEAT", value_name = "DURATION", default_value = "30s")]
    pub heartbeat: String,
    /// Whether the admin listener takes CPU profiles at /debug/profile
    #[arg(long, env = "ANTEROOM_PROFILE", value_name = "BOOL", default_value = "false")]
    pub profile: String,
    /// File with the operators' token, 16 bytes at least: who shows it may look at rooms and control them
    #[arg(long, env = "ANTEROOM_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// How long a shutdown waits for what is in flight, 0s to 10m
    #[arg(long, env = "ANTEROOM_DRAIN", value_name = "DURATION", default_value = "10s")]
    pub drain: String,
    /// Logs for people (human), machines (json), or as the terminal suggests (auto)
    #[arg(long, env = "ANTEROOM_LOG_FORMAT", value_name = "FORMAT", default_value = "auto")]
    pub log_format: String,
    /// What is logged: a level, or directives like info,anteroom::authz=debug
    #[arg(long, env = "ANTEROOM_LOG", value_name = "DIRECTIVES", default_value = "info")]
    pub log: String,
    /// OTLP/gRPC collector for traces, like http://127.0.0.1:4317; without it no trace is exported
    #[arg(long, env = "ANTEROOM_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    pub otlp_endpoint: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::room::gates::ALL_KEYS;

    #[test]
    fn the_arguments_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_and_their_twins_have_the_same_name() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        let flags: Vec<_> = serve.get_arguments().filter(|arg| arg.get_long() != Some("help")).collect();
        assert_eq!(flags.len(), 34);
        for flag in flags {
            let long = flag.get_long().unwrap();
            let twin = format!("ANTEROOM_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(flag.get_env().unwrap().to_str(), Some(twin.as_str()));
        }
    }

    #[test]
    fn the_documentation_has_every_flag_with_its_default_and_every_policy_key() {
        let text = include_str!("../../docs/configuration.md");
        let command = Cli::command();
        for flag in command.find_subcommand("serve").unwrap().get_arguments() {
            let Some(twin) = flag.get_env() else { continue };
            let name = format!("| `--{}` |", flag.get_long().unwrap());
            let row = text.lines().find(|line| line.starts_with(&name));
            let row = row.unwrap_or_else(|| panic!("no row begins with {name}"));
            let defaults = flag.get_default_values().iter().map(|value| value.to_str());
            for part in defaults.chain([twin.to_str()]) {
                assert!(row.contains(&format!("`{}`", part.unwrap())), "{part:?} is missing in: {row}");
            }
        }
        for key in ALL_KEYS.iter() {
            let name = format!("| `{key}` |");
            assert!(text.lines().any(|line| line.starts_with(&name)), "no row begins with {name}");
        }
        for subcommand in command.get_subcommands() {
            assert!(text.contains(&format!("anteroom {}", subcommand.get_name())), "{subcommand}");
        }
    }
}
