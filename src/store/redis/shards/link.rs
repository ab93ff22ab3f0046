//! One connection to one Redis server: opened, checked and asked.
//!
//! The client library's own reconnection is not used. It would queue calls while it waits, and its one task
//! hangs in a write when the server hangs. A connection lives and ends here as a whole; the next is a new one.

use std::sync::LazyLock;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::{
    Config, ConnectionConfig, Options, PerformanceConfig, Server, ServerConfig, TcpConfig, TlsConfig,
    TlsConnector,
};
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Resp3Frame, Value};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Timing;
use super::fault::{ConnectError, Problem, ProblemKind, Reply};
use crate::store::redis::script::Script;
use crate::store::target::{Address, Target, TargetKind};

/// Answers which commands of the other scripts the user may not run.
static TRIAL: LazyLock<Script> =
    LazyLock::new(|| Script::new("trial", include_str!("../../../../lua/trial.lua")));

/// How to connect: the target's part that is the same for all its servers.
#[derive(Debug)]
pub(super) struct Opener {
    target: Target,
    tls: Option<TlsConfig>,
    pub(super) timing: Timing,
}

/// An open connection. `router` is the library's task; the connection ends with it.
pub(super) struct Link {
    pub(super) client: Client,
    /// The `run_id` of the server's process, which a connection cannot outlive.
    pub(super) run_id: Bytes,
    pub(super) router: AbortOnDropHandle<Result<(), Error>>,
}

impl Opener {
    pub(super) fn new(target: &Target, timing: Timing) -> Result<Self, ConnectError> {
        let tls = if target.tls {
            let connector =
                TlsConnector::default_rustls().map_err(|error| ConnectError::Tls(error.to_string()))?;
            Some(connector.into())
        } else {
            None
        };
        Ok(Self { target: target.clone(), tls, timing })
    }

    /// Whether servers are to be nodes of a cluster.
    pub(super) fn clustered(&self) -> bool {
        self.target.kind == TargetKind::Cluster
    }

    /// Opens a connection and sees whether the server will do. Takes `timing.connect` at most.
    pub(super) async fn open(&self, address: &Address) -> Result<Link, Problem> {
        let deadline = Instant::now() + self.timing.connect;
        let opened = tokio::time::timeout_at(deadline, async {
            let (client, router) = self.connect(address).await?;
            let run_id = self.check(address, &client, deadline).await?;
            Ok(Link { client, run_id, router })
        });
        opened.await.unwrap_or_else(|_| {
            let what = format!("no answer within {:?} of connecting", self.timing.connect);
            Err(Problem::new(ProblemKind::Away, address, what))
        })
    }

    async fn connect(
        &self,
        address: &Address,
    ) -> Result<(Client, AbortOnDropHandle<Result<(), Error>>), Problem> {
        let client = self.client(address);
        let mut opened = client.reconnect_rx();
        let handle: ConnectHandle = client.connect();
        let mut router = AbortOnDropHandle::new(handle);
        tokio::select! {
            biased;
            ended = &mut router => Err(Problem::said(address, &ending(ended))),
            // An error here means that the client is gone, which the branch above tells.
            Ok(_) = opened.recv() => Ok((client, router)),
        }
    }

    fn client(&self, address: &Address) -> Client {
        let timing = &self.timing;
        let server = |address: &Address| Server::new(address.host.as_str(), address.port);
        let server = match &self.target.kind {
            TargetKind::Sentinel { service } => ServerConfig::Sentinel {
                hosts: self.target.hosts.iter().map(server).collect(),
                service_name: service.clone(),
            },
            TargetKind::Single | TargetKind::Cluster => ServerConfig::Centralized { server: server(address) },
        };
        let login = self.target.credentials.as_ref();
        let config = Config {
            fail_fast: true,
            server,
            username: login.and_then(|login| login.username.clone()),
            password: login.map(|login| login.password.clone()),
            database: (self.target.db != 0).then_some(self.target.db),
            tls: self.tls.clone(),
            ..Config::default()
        };
        let performance =
            PerformanceConfig { default_command_timeout: timing.silence, ..PerformanceConfig::default() };
        let connection = ConnectionConfig {
            // `open` holds the deadline and names it; these only stand behind it.
            connection_timeout: timing.connect * 2,
            internal_command_timeout: timing.connect * 2,
            // A script must not run twice.
            max_command_attempts: 1,
            max_command_buffer_len: timing.max_in_flight.saturating_mul(2).saturating_add(16),
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            reconnect_errors: Vec::new(),
            ..ConnectionConfig::default()
        };
        Client::new(config, Some(performance), Some(connection), None)
    }

    /// The check of a new connection: version, kind, and whether the scripts may do what they do. The server's `run_id`.
    async fn check(&self, address: &Address, client: &Client, deadline: Instant) -> Result<Bytes, Problem> {
        let ask = async |command: &'static str, args: Vec<Value>| match ask(client, command, args, deadline)
            .await
        {
            Ok(answer) => Ok(answer),
            Err(Failure::Reply(reply)) => Err(reply),
            Err(failure) => Err(failure.to_string()),
        };
        let refused = |what: String| Err(Problem::new(ProblemKind::Refused, address, what));
        // For CLIENT LIST; a user that may not do so is fine.
        if let Err(reply) = ask("CLIENT", vec!["SETNAME".into(), "anteroom".into()]).await {
            tracing::debug!(server = %address, %reply, "the connection has no name");
        }
        let info = match ask("INFO", vec!["server".into(), "memory".into()]).await {
            Ok(info) => info.into_string().unwrap_or_default(),
            Err(reply) if Reply::read(&reply, address) == Reply::Refused => {
                return refused(format!("INFO is not permitted, allow it to the user: {reply}"));
            }
            Err(reply) => return Err(Problem::said(address, &reply)),
        };
        if let Err(what) = fit(&info, self.clustered()) {
            return refused(what);
        }
        if let Some(policy) = forgetful(&info) {
            tracing::warn!(
                server = %address, policy,
                "Redis throws keys away when its memory is full, and visitors lose their places: \
                 set maxmemory-policy to noeviction"
            );
        }
        for command in ["EVAL", "EVALSHA"] {
            let script = if command == "EVAL" { TRIAL.text } else { TRIAL.sha.as_str() };
            let reply = match ask(command, vec![script.into(), 0.into()]).await {
                Ok(lacking) => match lacking.convert::<Vec<String>>().unwrap_or_default() {
                    lacking if lacking.is_empty() => continue,
                    lacking => {
                        return refused(format!(
                            "scripts need more than is permitted, allow {} on the keys anteroom:* to the user",
                            lacking.join(", ")
                        ));
                    }
                },
                Err(reply) => reply,
            };
            match Reply::read(&reply, address) {
                Reply::NoScript => {}
                Reply::Refused => {
                    return refused(format!(
                        "scripts are not permitted as needed, allow EVAL, EVALSHA and TIME to the user: \
                         {reply}"
                    ));
                }
                _ => return Err(Problem::said(address, &reply)),
            }
        }
        match info.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::trim) {
            Some(run_id) if !run_id.is_empty() => Ok(run_id.to_owned().into()),
            _ => refused("INFO does not tell a run_id; it is what a failover is noticed by".to_owned()),
        }
    }
}

/// Whether a server will do, by what INFO says of it.
fn fit(info: &str, clustered: bool) -> Result<(), String> {
    let field =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    // Valkey tells the version of Redis that it is compatible with, 7.2.4.
    let Some(version) = field("redis_version") else {
        return Err("INFO does not tell a version; Redis 7.0 or later, or Valkey, is needed".to_owned());
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < 7) {
        return Err(format!("Redis {version} is too old; 7.0 or later, or Valkey, is needed"));
    }
    match (field("redis_mode").unwrap_or("standalone"), clustered) {
        ("cluster", false) => Err("it is a node of a cluster; write redis-cluster://".to_owned()),
        ("standalone", true) => Err("it is no cluster node; write redis://".to_owned()),
        ("sentinel", _) => {
            Err("it is a sentinel; write redis-sentinel://…?sentinelServiceName=name".to_owned())
        }
        _ => Ok(()),
    }
}

/// The policy of a server that may throw any key away to make room for others, by what INFO says of it.
fn forgetful(info: &str) -> Option<&str> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let limited = field("maxmemory:").is_some_and(|bytes| bytes != "0");
    field("maxmemory_policy:").filter(|policy| limited && policy.starts_with("allkeys"))
}

/// Why a command brought no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server answered with an error.
    #[error("{0}")]
    Reply(String),
    /// Too late.
    #[error("no answer in time")]
    Timeout,
    /// The queue to the connection is full; not sent.
    #[error("too many commands wait")]
    Full,
    /// The connection ended.
    #[error("{0}")]
    Lost(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Backpressure => Self::Full,
            // The library ends the connection at this reply, and tells everybody on it.
            ErrorKind::Cluster | ErrorKind::Auth => Self::Reply(error.details().to_owned()),
            _ => Self::Lost(in_words(&error)),
        }
    }
}

/// What the library says of an error, less the way it writes those of the system and of its channels.
fn in_words(error: &Error) -> String {
    let details = error.details();
    if ["Os {", "Custom {"].iter().any(|begin| details.starts_with(begin))
        && let (Some(begin), Some(end)) = (details.find('"'), details.rfind('"'))
        && begin < end
    {
        return details[begin + 1..end].to_owned();
    }
    match error.kind() {
        ErrorKind::Canceled => "it was cut".to_owned(),
        _ => details.to_owned(),
    }
}

/// Sends a command and waits for its answer, until `deadline` at most.
pub(super) async fn ask(
    client: &Client,
    command: &'static str,
    args: Vec<Value>,
    deadline: Instant,
) -> Result<Value, Failure> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Failure::Timeout);
    }
    // The library's timeout, because it then does not send what nobody waits for any more.
    let client = client.with_options(&Options { timeout: Some(left), ..Options::default() });
    match client.custom_raw(custom(command), args).await? {
        Resp3Frame::SimpleError { data, .. } => Err(Failure::Reply(data.to_string())),
        Resp3Frame::BlobError { data, .. } => {
            Err(Failure::Reply(String::from_utf8_lossy(&data).into_owned()))
        }
        frame => Ok(Value::try_from(frame)?),
    }
}

/// The same for a server to which the slot is moving: nothing comes between ASKING and the command.
pub(super) async fn ask_importing(
    client: &Client,
    command: &'static str,
    args: Vec<Value>,
    deadline: Instant,
) -> Result<Value, Failure> {
    let pipeline = client.pipeline();
    // These queue only; the answers come below.
    let () = pipeline.custom(custom("ASKING"), Vec::<Value>::new()).await?;
    let () = pipeline.custom(custom(command), args).await?;
    let answers = tokio::time::timeout_at(deadline, pipeline.try_all::<Value>()).await;
    let Ok(mut answers) = answers else { return Err(Failure::Timeout) };
    match answers.pop() {
        Some(Ok(answer)) => Ok(answer),
        // In a pipeline the library tells replies and its own errors by their kind alone.
        Some(Err(error)) => Err(match error.kind() {
            ErrorKind::IO | ErrorKind::Canceled => Failure::Lost(in_words(&error)),
            ErrorKind::Timeout => Failure::Timeout,
            ErrorKind::Backpressure => Failure::Full,
            _ => Failure::Reply(error.details().to_owned()),
        }),
        None => Err(Failure::Lost("the pipeline brought nothing".to_owned())),
    }
}

/// How the library's task ended, in words.
pub(super) fn ending(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "the connection was closed".to_owned(),
        Ok(Err(error)) => in_words(&error),
        Err(error) => format!("the connection's task failed: {error}"),
    }
}

fn custom(command: &'static str) -> CustomCommand {
    CustomCommand::new_static(command, ClusterHash::FirstKey, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_and_those_of_another_kind_will_not_do() {
        let info = |version: &str, mode: &str| {
            format!("# Server\r\nredis_version:{version}\r\nredis_mode:{mode}\r\n")
        };
        assert_eq!(fit(&info("7.0.15", "standalone"), false), Ok(()));
        assert_eq!(fit(&info("8.2.0", "cluster"), true), Ok(()));
        for (text, clustered, says) in [
            (info("6.2.14", "standalone"), false, "6.2.14 is too old"),
            (info("7.2.4", "cluster"), false, "redis-cluster://"),
            (info("7.2.4", "standalone"), true, "write redis://"),
            (info("7.2.4", "sentinel"), false, "redis-sentinel://"),
            (info("x", "standalone"), false, "too old"),
            ("+OK".to_owned(), false, "version"),
        ] {
            let what = fit(&text, clustered).unwrap_err();
            assert!(what.contains(says), "{text}: {what}");
        }
    }

    #[test]
    fn only_a_server_that_may_throw_any_key_away_is_forgetful() {
        let info = |max: &str, policy: &str| format!("maxmemory:{max}\r\nmaxmemory_policy:{policy}\r\n");
        assert_eq!(forgetful(&info("1000", "allkeys-lru")), Some("allkeys-lru"));
        for (max, policy) in [("0", "allkeys-lru"), ("1000", "noeviction"), ("1000", "volatile-lru")] {
            assert_eq!(forgetful(&info(max, policy)), None, "{max} {policy}");
        }
        assert_eq!(forgetful(""), None);
    }

    #[test]
    fn errors_of_the_system_are_said_in_words() {
        let refused = std::io::Error::from_raw_os_error(111);
        assert_eq!(in_words(&Error::from(refused)), "Connection refused");
        let unknown = std::io::Error::other("failed to lookup address information");
        assert_eq!(in_words(&Error::from(unknown)), "failed to lookup address information");
        assert_eq!(in_words(&Error::new(ErrorKind::Canceled, "Canceled.")), "it was cut");
        assert_eq!(in_words(&Error::new(ErrorKind::Unknown, "Custom")), "Custom");
    }

    #[test]
    fn tls_finds_its_roots_and_algorithms() {
        let target = Target::parse("rediss://localhost:1").unwrap();
        assert!(Opener::new(&target, Timing::default()).is_ok());
    }
}
