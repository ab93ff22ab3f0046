//! Settings: flags and environment, checked together into plain data. Nothing is bound before all is right.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clashes::clashes;
use environment::unknown_variables;
use reader::{Reader, wrong};

use super::Mistake;
use super::cli::{Cli, Command, Flags};
use crate::admin::AdminToken;
use crate::identity::settings::IdentitySettings;
use crate::listen::Listen;
use crate::page::Page;
use crate::room::deny::Entry;
use crate::room::gcra::Quota;
use crate::room::policy::quoted;
use crate::room::token::Key;
use crate::routes::Routes;
use crate::store::target::Target;
use crate::telemetry::logs::LogFormat;

mod clashes;
mod environment;
mod reader;

/// Which part of the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Serve,
    /// `ext_authz` and admin.
    Authz,
    /// Position gRPC, client HTTP and admin.
    Stream,
}

/// Where rooms live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// In this process.
    Memory {
        /// Where its checkpoint is kept, an existing and writable directory; `None`: nowhere.
        state_dir: Option<PathBuf>,
    },
    /// In Redis, shared by all processes that are given the same address and the same keys.
    Redis(Target),
}

/// Everything the program is told when it starts, checked.
#[derive(Debug)]
pub struct Settings {
    /// Which part runs.
    pub role: Role,
    /// `ext_authz` gRPC.
    pub authz_listen: Listen,
    /// Position gRPC.
    pub grpc_listen: Listen,
    /// Client HTTP.
    pub http_listen: Listen,
    /// Health and metrics.
    pub admin_listen: Listen,
    /// Where rooms live.
    pub store: StoreChoice,
    /// The rooms file; empty if there is none.
    pub routes: Arc<Routes>,
    /// The deny file and what it says at the start; it is followed from then on.
    pub deny: Option<(PathBuf, Vec<Entry>)>,
    /// The keys file, the signing key first; `None`: make a key and say so. Always there with a shared store.
    pub keys: Option<Vec<Key>>,
    /// Who vouches for users; `None`: nobody here, Envoy's `jwt_authn` at most.
    pub identity: Option<IdentitySettings>,
    /// The waiting page: the built-in one, or that of a template.
    pub page: Page,
    /// Whether cookies are marked Secure.
    pub cookie_secure: bool,
    /// The cookies' domain, lower case, without a leading dot.
    pub cookie_domain: Option<String>,
    /// How often snapshots are renewed, 50 ms to 1 s.
    pub tick: Duration,
    /// How long a ticket is valid, 1 h to 31 days: longer than anybody waits, as a stream cannot renew it.
    pub ticket_ttl: Duration,
    /// The most rooms, 1 to 1,000,000, and at least as many as the rooms file has.
    pub max_rooms: usize,
    /// The most open streams, 1 to 10,000,000.
    pub max_streams: usize,
    /// The most Checks in flight, 1 to 1,000,000.
    pub max_checks: usize,
    /// How many trusted proxies stand before the one that asks, 0 to 16.
    pub trusted_hops: usize,
    /// The new places that each address may take; `None`: any number.
    pub join_limit: Option<Quota>,
    /// The calls that each address may make to the client API; `None`: any number.
    pub api_limit: Option<Quota>,
    /// The threads that serve connections, 1 to 256.
    pub threads: NonZero<usize>,
    /// The longest a Check may take, 2 ms to 10 s.
    pub check_budget: Duration,
    /// The longest a store call may take, from 1 ms; less than `check_budget`.
    pub store_budget: Duration,
    /// How often streams far back are told, 1 s to 5 min.
    pub stream_interval: Duration,
    /// How often streams at the front of the line look, 100 ms to 1 min.
    pub stream_near: Duration,
    /// How long a stream's client may not read, 1 s to 1 h.
    pub stream_stall: Duration,
    /// How often a quiet stream shows life, 1 s to 1 h.
    pub heartbeat: Duration,
    /// Whether the admin listener takes CPU profiles.
    pub profile: bool,
    /// What operators show to look at rooms and control them; `None`: nobody may.
    pub admin_token: Option<AdminToken>,
    /// How long a shutdown waits, 0 to 10 min.
    pub drain: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged, as directives that `EnvFilter` takes.
    pub log: String,
    /// The OTLP/gRPC collector, an `http://` URL; `None`: no export.
    pub otlp_endpoint: Option<String>,
    /// What is allowed but worth a line in the log.
    pub warnings: Vec<Mistake>,
}

/// Whether checking may touch the world.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The program is about to run: make what is missing.
    Run,
    /// Only look.
    Check,
}

impl Cli {
    /// Checks all settings and reads their files; `env` is the environment (`std::env::vars_os()`), searched
    /// for `ANTEROOM_*` names that mean nothing. Makes the state directory. Reports every mistake.
    ///
    /// For `check-config` nothing is made, and the settings are those of `serve`.
    pub fn settings(
        self,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Settings, Vec<Mistake>> {
        let (flags, role, purpose) = match &self.command {
            Command::Serve(flags) => (&**flags, Role::Serve, Purpose::Run),
            Command::Authz(flags) => (&**flags, Role::Authz, Purpose::Run),
            Command::Stream(flags) => (&**flags, Role::Stream, Purpose::Run),
            Command::CheckConfig(args) => (&args.flags, Role::Serve, Purpose::Check),
            Command::Rooms(_) | Command::Deny(_) => {
                return Err(vec![wrong("admin", "serves nothing", "run anteroom serve")]);
            }
        };
        read(flags, role, purpose, env)
    }
}

pub(super) fn read(
    flags: &Flags,
    role: Role,
    purpose: Purpose,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Settings, Vec<Mistake>> {
    let mut reader = Reader { mistakes: unknown_variables(env), warnings: Vec::new() };
    let check_budget = reader.duration("check-budget", &flags.check_budget, MILLIS * 2..=SECOND * 10);
    let store_budget = reader.duration("store-budget", &flags.store_budget, MILLIS..=SECOND * 10);
    if store_budget >= check_budget && reader.mistakes.iter().all(|m| !m.key.contains("-budget")) {
        let problem = format!("{} is not less than the check budget", quoted(&flags.store_budget));
        reader.wrong(
            "store-budget",
            problem,
            "leave the Check time for an answer: write less than --check-budget",
        );
    }
    let max_rooms = reader.count("max-rooms", &flags.max_rooms, 1_000_000);
    let settings = Settings {
        role,
        authz_listen: reader.listen("authz-listen", &flags.authz_listen),
        grpc_listen: reader.listen("grpc-listen", &flags.grpc_listen),
        http_listen: reader.listen("http-listen", &flags.http_listen),
        admin_listen: reader.listen("admin-listen", &flags.admin_listen),
        store: reader.store(flags, role, purpose),
        routes: Arc::new(reader.routes(flags.rooms.as_deref(), max_rooms)),
        deny: reader.deny(flags.deny.as_deref()),
        keys: reader.keys(flags.keys.as_deref()),
        identity: reader.identity(flags.identity.as_deref()),
        page: reader.page(flags.page.as_deref()),
        cookie_secure: reader.choice("cookie-secure", &flags.cookie_secure, TRUE_OR_FALSE),
        cookie_domain: flags.cookie_domain.as_deref().and_then(|domain| reader.domain(domain)),
        tick: reader.duration("tick", &flags.tick, MILLIS * 50..=SECOND),
        ticket_ttl: reader.duration("ticket-ttl", &flags.ticket_ttl, SECOND * 3_600..=SECOND * 86_400 * 31),
        max_rooms,
        max_streams: reader.count("max-streams", &flags.max_streams, 10_000_000),
        max_checks: reader.count("max-checks", &flags.max_checks, 1_000_000),
        trusted_hops: reader.count_from(0, "trusted-hops", &flags.trusted_hops, 16),
        join_limit: reader.quota("join-limit", flags.join_limit.as_deref()),
        api_limit: reader.quota("api-limit", flags.api_limit.as_deref()),
        threads: reader.threads(flags.threads.as_deref()),
        check_budget,
        store_budget,
        stream_interval: reader.duration("stream-interval", &flags.stream_interval, SECOND..=SECOND * 300),
        stream_near: reader.duration("stream-near", &flags.stream_near, MILLIS * 100..=SECOND * 60),
        stream_stall: reader.duration("stream-stall", &flags.stream_stall, SECOND..=SECOND * 3600),
        heartbeat: reader.duration("heartbeat", &flags.heartbeat, SECOND..=SECOND * 3600),
        profile: reader.choice("profile", &flags.profile, TRUE_OR_FALSE),
        admin_token: reader.admin_token(flags.admin_token_file.as_deref()),
        drain: reader.duration("drain", &flags.drain, Duration::ZERO..=SECOND * 600),
        log_format: reader.choice(
            "log-format",
            &flags.log_format,
            &[("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)],
        ),
        log: reader.log(&flags.log),
        otlp_endpoint: flags.otlp_endpoint.as_deref().and_then(|url| reader.endpoint(url)),
        warnings: reader.warnings,
    };
    let mut mistakes = reader.mistakes;
    clashes(&settings, &mut mistakes);
    if mistakes.is_empty() {
        return Ok(settings);
    }
    mistakes.sort();
    Err(mistakes)
}

const TRUE_OR_FALSE: &[(&str, bool)] = &[("true", true), ("false", false)];
const MILLIS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
