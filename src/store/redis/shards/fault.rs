//! What can go wrong with a call, and what a server's error reply means.

use std::fmt;
use std::sync::Arc;

use crate::store::target::Address;
use crate::telemetry::metrics::label::CallResult;

/// Why the connections cannot even be begun.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TLS cannot be set up.
    #[error("TLS cannot be set up with the system's root certificates: {0}; install ca-certificates")]
    Tls(String),
}

/// Why a call brought no answer. [`ShardError::may_have_run`] tells whether it may have had an effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ShardError {
    /// The script ended with an error of its own.
    #[error("script {script}: {message}")]
    Script {
        /// Which script.
        script: &'static str,
        /// What it said; the first word is its code.
        message: String,
    },
    /// No answer within the budget.
    #[error("Redis server {server} did not answer in time")]
    Timeout {
        /// Which server.
        server: Address,
    },
    /// The connection ended before the answer came.
    #[error("the connection to Redis server {server} was lost during the call: {why}")]
    Lost {
        /// Which server.
        server: Address,
        /// How.
        why: String,
    },
    /// There is no connection, or no server for the slot; nothing was sent.
    #[error("not connected: {why}")]
    NotConnected {
        /// To which server, and why not.
        why: Arc<str>,
    },
    /// As many calls are under way as allowed; nothing was sent.
    #[error("Redis server {server} has too many calls under way")]
    Overloaded {
        /// Which server.
        server: Address,
    },
    /// Redis does not let us, or is of a kind or version that does not do.
    #[error("refused: {why}")]
    Refused {
        /// What is missing, and what would be right.
        why: Arc<str>,
    },
    /// The server answers, but cannot serve at present.
    #[error("Redis server {server} cannot serve: {message}")]
    NotServing {
        /// Which server.
        server: Address,
        /// What it is at.
        state: Unready,
        /// What it said.
        message: String,
    },
    /// The slot went from server to server, or stayed on its way, for as long as the call may take.
    #[error("the slot is on its way between servers: sent {hops} times")]
    MovedTooOften {
        /// How often the call was sent.
        hops: u32,
    },
}

impl ShardError {
    /// Whether the call may have run although it brought no answer.
    pub fn may_have_run(&self) -> bool {
        match self {
            // A script's errors and those of the commands within it leave what was written before.
            // So do refusals: it may be a later command of the script that is not allowed.
            Self::Script { .. }
            | Self::Timeout { .. }
            | Self::Lost { .. }
            | Self::NotServing { .. }
            | Self::Refused { .. } => true,
            Self::NotConnected { .. } | Self::Overloaded { .. } | Self::MovedTooOften { .. } => false,
        }
    }

    /// The first word of a script's error: its code.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Script { message, .. } => message.split_whitespace().next(),
            _ => None,
        }
    }

    /// What it counts as.
    pub(super) fn result(&self) -> CallResult {
        match self {
            Self::Script { .. } => CallResult::Script,
            Self::Timeout { .. } => CallResult::Timeout,
            Self::Lost { .. } => CallResult::Lost,
            Self::NotConnected { .. } => CallResult::NotConnected,
            Self::Overloaded { .. } => CallResult::Overloaded,
            Self::Refused { .. } => CallResult::Refused,
            Self::NotServing { .. } => CallResult::NotServing,
            Self::MovedTooOften { .. } => CallResult::Moved,
        }
    }
}

/// Why a server that answers cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// It reads its data from disk or from its master.
    Loading,
    /// Too little of the cluster is there.
    ClusterDown,
    /// It is a replica.
    ReadOnly,
    /// It is a replica without its master.
    MasterDown,
    /// A script runs for seconds.
    Busy,
    /// Its memory is full.
    OutOfMemory,
    /// It cannot save and so takes no writes.
    CannotSave,
    /// Too few replicas are there.
    NoReplicas,
}

/// What an error reply tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It does not have the script.
    NoScript,
    /// The slot is elsewhere for good.
    Moved(Move),
    /// The keys are elsewhere already.
    Ask(Move),
    /// Some keys are here and some elsewhere.
    TryAgain,
    /// It cannot serve at present.
    Unready(Unready),
    /// It does not let us.
    Refused,
    /// Anything else: the script's own.
    Other,
}

/// Where a slot is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) slot: u16,
    pub(super) to: Address,
}

impl Reply {
    /// Reads an error reply of `asked`; a move without a host goes to the host that was asked.
    pub(super) fn read(message: &str, asked: &Address) -> Self {
        let mut words = message.split_whitespace();
        match words.next().unwrap_or_default() {
            "NOSCRIPT" => Self::NoScript,
            "MOVED" => Move::read(words, asked).map_or(Self::Other, Self::Moved),
            "ASK" => Move::read(words, asked).map_or(Self::Other, Self::Ask),
            "TRYAGAIN" => Self::TryAgain,
            "LOADING" => Self::Unready(Unready::Loading),
            "CLUSTERDOWN" => Self::Unready(Unready::ClusterDown),
            "READONLY" => Self::Unready(Unready::ReadOnly),
            "MASTERDOWN" => Self::Unready(Unready::MasterDown),
            "BUSY" => Self::Unready(Unready::Busy),
            "OOM" => Self::Unready(Unready::OutOfMemory),
            "MISCONF" => Self::Unready(Unready::CannotSave),
            "NOREPLICAS" => Self::Unready(Unready::NoReplicas),
            "NOPERM" | "NOAUTH" | "WRONGPASS" => Self::Refused,
            // What a command within a script may not do: as Redis 7.0 says it, and as later ones do.
            _ if message.contains("The user executing the script can't")
                || message.contains("ACL failure in script") =>
            {
                Self::Refused
            }
            _ => Self::Other,
        }
    }
}

impl Move {
    fn read<'a>(mut words: impl Iterator<Item = &'a str>, asked: &Address) -> Option<Self> {
        let slot =
            words.next()?.parse::<u16>().ok().filter(|slot| usize::from(*slot) < super::slots::SLOTS)?;
        // IPv6 comes without brackets, so the port stands after the last colon.
        let (host, port) = words.next()?.rsplit_once(':')?;
        let host = if host.is_empty() { &asked.host } else { host };
        Some(Self { slot, to: Address::new(host, port.parse().ok()?) })
    }
}

/// Why a server is not connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: ProblemKind,
    /// Which server, what is wrong, what would be right.
    pub(super) text: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProblemKind {
    /// It is not there, or not now.
    Away,
    /// It is there but will not do.
    Refused,
    /// It says that the cluster is down: worth another try as soon as the cluster is well.
    ClusterDown,
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, server: &impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { kind, text: format!("{server}: {what}").into() }
    }

    /// From what a server or the network said while connecting.
    pub(super) fn said(server: &Address, what: &str) -> Self {
        let kind = match Reply::read(what, server) {
            Reply::Refused => ProblemKind::Refused,
            Reply::Unready(Unready::ClusterDown) => ProblemKind::ClusterDown,
            _ => ProblemKind::Away,
        };
        Self::new(kind, server, what)
    }

    pub(super) fn error(&self) -> ShardError {
        let why = Arc::clone(&self.text);
        match self.kind {
            ProblemKind::Refused => ShardError::Refused { why },
            ProblemKind::Away | ProblemKind::ClusterDown => ShardError::NotConnected { why },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_replies_are_understood() {
        let asked = Address::new("asked", 1);
        let moved = |slot, host: &str, port| Move { slot, to: Address::new(host, port) };
        for (message, reply) in [
            ("NOSCRIPT No matching script. Please use EVAL.", Reply::NoScript),
            ("MOVED 3999 127.0.0.1:6381", Reply::Moved(moved(3999, "127.0.0.1", 6381))),
            ("MOVED 1 ::1:6381", Reply::Moved(moved(1, "::1", 6381))),
            ("MOVED 1 :6381", Reply::Moved(moved(1, "asked", 6381))),
            ("ASK 0 h:1", Reply::Ask(moved(0, "h", 1))),
            ("MOVED 16384 h:1", Reply::Other),
            ("MOVED", Reply::Other),
            ("MOVED 1 h", Reply::Other),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Reply::TryAgain),
            ("LOADING Redis is loading", Reply::Unready(Unready::Loading)),
            ("NOPERM this user has no permissions", Reply::Refused),
            ("ERR ACL failure in script: User a has no permissions", Reply::Refused),
            ("ERR The user executing the script can't run this command or subcommand", Reply::Refused),
            ("NOROOM shop", Reply::Other),
            ("", Reply::Other),
        ] {
            assert_eq!(Reply::read(message, &asked), reply, "{message}");
        }
    }

    #[test]
    fn only_what_was_sent_may_have_run() {
        let server = Address::new("h", 1);
        assert!(ShardError::Timeout { server: server.clone() }.may_have_run());
        assert!(!ShardError::Overloaded { server }.may_have_run());
        let error = ShardError::Script { script: "arrive", message: "NOROOM shop".to_owned() };
        assert_eq!(error.code(), Some("NOROOM"));
    }
}
