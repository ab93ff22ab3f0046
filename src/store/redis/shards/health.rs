//! How the servers are, for readiness and for the log: each change is said once.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::node::NodeState;
use super::slots::Table;
use crate::store::target::Address;

/// How the servers of a store are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Every server that holds slots; before they are known, those that are asked for them.
    pub shards: Vec<ShardHealth>,
    /// Slots that no server holds, of 16,384.
    pub uncovered: usize,
    /// What is wrong with the whole and what would be right; `None` if nothing is.
    pub problem: Option<String>,
}

/// How one server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardHealth {
    /// Where it is.
    pub server: Address,
    /// Whether it is connected and fit.
    pub up: bool,
    /// What is wrong with it and what would be right, never a password.
    pub problem: Option<Arc<str>>,
}

impl Health {
    /// Whether every slot is held by a server that is connected and fit.
    pub fn all_served(&self) -> bool {
        let known = self.uncovered == 0 && self.problem.is_none() && !self.shards.is_empty();
        known && self.shards.iter().all(|shard| shard.up)
    }

    /// Whether at least one server is connected and fit.
    pub fn any_served(&self) -> bool {
        self.shards.iter().any(|shard| shard.up)
    }

    /// As of now. `asked` are the servers to name while the table is empty.
    pub(super) fn of(table: &Table, asked: &[Arc<super::node::Node>], problem: Option<String>) -> Self {
        let known = !table.nodes().is_empty();
        let nodes = if known { table.nodes() } else { asked };
        let mut shards: Vec<_> = nodes
            .iter()
            .map(|node| {
                let state = node.state();
                let problem = match &state {
                    NodeState::Down(problem) => Some(Arc::clone(&problem.text)),
                    NodeState::Starting | NodeState::Up => None,
                };
                ShardHealth { server: node.address.clone(), up: state == NodeState::Up, problem }
            })
            .collect();
        shards.sort_by(|one, other| one.server.cmp(&other.server));
        let uncovered = table.uncovered();
        let problem = problem.or_else(|| match (known, uncovered) {
            (true, 0) => None,
            (true, _) => Some(format!("{uncovered} of 16384 slots are held by no server; see CLUSTER SLOTS")),
            (false, _) => Some("no server has told yet which slots it holds".to_owned()),
        });
        Self { shards, uncovered, problem }
    }
}

/// Publishes the newest, and says in the log what is different; whether anything is.
pub(super) fn publish(health: &watch::Sender<Health>, new: Health) -> bool {
    health.send_if_modified(|old| {
        if *old == new {
            return false;
        }
        tell(old, &new);
        *old = new;
        true
    })
}

fn tell(old: &Health, new: &Health) {
    let before: BTreeMap<_, _> = old.shards.iter().map(|shard| (&shard.server, shard)).collect();
    for shard in &new.shards {
        let known = before.get(&shard.server);
        if known.is_some_and(|known| *known == shard) {
            continue;
        }
        match &shard.problem {
            Some(problem) => tracing::warn!(%problem, "Redis server out of reach"),
            None if shard.up => tracing::info!(server = %shard.server, "Redis server connected"),
            None => {}
        }
    }
    for server in before.keys().filter(|server| new.shards.iter().all(|shard| shard.server != ***server)) {
        tracing::info!(%server, "Redis server no longer holds slots");
    }
    match &new.problem {
        Some(problem) if old.problem.as_ref() != Some(problem) => {
            tracing::warn!(%problem, "Redis does not serve every room");
        }
        // A server that is only known about serves nobody yet.
        _ if new.all_served() && !old.all_served() => {
            tracing::info!(servers = new.shards.len(), "Redis serves every room");
        }
        _ => {}
    }
}
