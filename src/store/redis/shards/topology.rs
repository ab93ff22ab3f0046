//! Keeps the table of slots right: asks the nodes of a cluster which of them holds which slots.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use rand::seq::{IteratorRandom, SliceRandom};
use tokio::time::Instant;

use super::Inner;
use super::fault::{ProblemKind, Reply, Unready};
use super::link::{Failure, ask};
use super::node::{Node, NodeState};
use super::slots::{Table, View};
use crate::store::target::Address;
use crate::telemetry::metrics::label::Refresh;

/// How many nodes are asked at a time: enough that one that was cut off from the rest is outvoted.
const ASKED: usize = 5;
/// Once one has answered, the others get so long.
const GRACE: Duration = Duration::from_millis(100);
/// A server without slots is let go once nobody has called it for so long. Not at once: slots on their way to a
/// new server are asked for there before it holds any.
const REST: Duration = Duration::from_secs(10);

/// One node's answer.
struct Report {
    view: View,
    /// Whether it says that the cluster is well.
    well: bool,
    /// How new its knowledge is: it rises with every failover.
    epoch: u64,
}

impl Inner {
    /// Refreshes the table for ever: now and then, and soon where something is amiss.
    pub(super) async fn follow(self: &Arc<Self>) {
        let timing = self.opener.timing;
        loop {
            let begun = Instant::now();
            let known = self.refresh().await;
            self.changed.notify_one();
            let nodes_up = self.table.load().nodes().iter().all(|node| node.is_up());
            let calm = known && nodes_up && self.table.load().uncovered() == 0;
            tokio::select! {
                () = self.refresh_wanted.notified() => {}
                () = tokio::time::sleep(if calm { timing.calm } else { timing.trouble }) => {}
            }
            tokio::time::sleep_until(begun + timing.refresh_gap).await;
        }
    }

    /// Asks for the slots; whether anybody told. What is wrong goes to `problem`.
    async fn refresh(self: &Arc<Self>) -> bool {
        let candidates = self.candidates();
        let mut asked: FuturesUnordered<_> = candidates.iter().map(|node| self.report(node)).collect();
        let mut reports = Vec::new();
        let mut failures = Vec::new();
        let mut deadline = None;
        loop {
            let next = asked.next();
            let answer = match deadline {
                None => next.await,
                Some(deadline) => tokio::time::timeout_at(deadline, next).await.unwrap_or(None),
            };
            match answer {
                None => break,
                Some(Ok(report)) => {
                    reports.push(report);
                    deadline.get_or_insert_with(|| Instant::now() + GRACE);
                }
                Some(Err(why)) => failures.push(why),
            }
        }
        let Some(best) = reports.into_iter().max_by_key(|report| (report.well, report.epoch)) else {
            self.metrics.refreshed(Refresh::Failed);
            // While nobody is connected the servers' own problems say more.
            self.set_problem(failures.pop());
            return false;
        };
        self.metrics.refreshed(Refresh::Done);
        self.adopt(best);
        true
    }

    /// Whom to ask. Masters that seem well, at random; without any, everybody ever heard of.
    fn candidates(self: &Arc<Self>) -> Vec<Arc<Node>> {
        let table = self.table.load_full();
        let mut rng = rand::rng();
        let mut chosen: Vec<Arc<Node>> =
            table.nodes().iter().filter(|node| node.seems_well()).cloned().sample(&mut rng, ASKED);
        if chosen.len() < 2 {
            let mut others: Vec<Address> = self.replicas.lock().clone();
            others.extend(self.seeds.iter().cloned());
            others.shuffle(&mut rng);
            // One that is up first: the rest of them may have been gone for long.
            let mut nodes: Vec<_> = others.iter().filter_map(|address| self.node(address)).collect();
            nodes.sort_by_key(|node| !node.is_up());
            for node in nodes {
                if chosen.len() < ASKED && !chosen.iter().any(|known| Arc::ptr_eq(known, &node)) {
                    node.used();
                    chosen.push(node);
                }
            }
        }
        chosen
    }

    async fn report(&self, node: &Node) -> Result<Report, String> {
        let deadline = Instant::now() + self.opener.timing.connect;
        let line = node.line(deadline).await.map_err(|error| error.to_string())?;
        let failed = |what: &str, failure: Failure| match &failure {
            Failure::Reply(reply) if Reply::read(reply, &node.address) == Reply::Refused => {
                format!("{}: {what} is not permitted, allow it to the user: {failure}", node.address)
            }
            _ => format!("{}: {what}: {failure}", node.address),
        };
        let info = ask(&line.client, "CLUSTER", vec!["INFO".into()], deadline)
            .await
            .map_err(|failure| failed("CLUSTER INFO", failure))?;
        let info = info.into_string().unwrap_or_default();
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let slots = ask(&line.client, "CLUSTER", vec!["SLOTS".into()], deadline)
            .await
            .map_err(|failure| failed("CLUSTER SLOTS", failure))?;
        let view = View::read(&slots, &node.address)
            .ok_or_else(|| format!("{}: its answer to CLUSTER SLOTS is not understood", node.address))?;
        Ok(Report {
            view,
            well: field("cluster_state") == Some("ok"),
            epoch: field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
        })
    }

    fn adopt(self: &Arc<Self>, report: Report) {
        let Report { view, well, .. } = report;
        let mut left_out = 0;
        let masters = view.masters.into_iter().filter_map(|(address, ranges)| {
            let node = self.node(&address);
            left_out += usize::from(node.is_none());
            Some((node?, ranges))
        });
        let table = Table::of(masters);
        let problem = match (well, left_out) {
            (_, 1..) => Some(format!("{left_out} servers more than can be connected to at a time")),
            (false, 0) => Some(
                "cluster_state is fail: a master is gone and not yet replaced; with \
                 cluster-require-full-coverage no the others would go on"
                    .to_owned(),
            ),
            (true, 0) => None,
        };
        self.set_problem(problem);
        *self.replicas.lock() = view.replicas;
        for node in table.nodes() {
            // It was right to leave a server whose cluster was down; now it is well.
            if let NodeState::Down(problem) = node.state()
                && problem.kind == ProblemKind::ClusterDown
                && well
            {
                node.hurry();
            }
        }
        let table = Arc::new(table);
        self.table.store(Arc::clone(&table));
        self.nodes.lock().retain(|_, node| {
            let used = table.nodes().iter().any(|known| Arc::ptr_eq(known, node)) || node.idle() < REST;
            if !used {
                node.retire();
            }
            used
        });
    }

    /// Puts a slot where a server says it is.
    pub(super) fn moved(&self, slot: u16, to: &Arc<Node>) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            table.give(slot, to);
            table
        });
        self.refresh_wanted.notify_one();
    }

    /// What a server's state means for the rest: the slots may be elsewhere by now.
    pub(super) fn unready(&self, node: &Node, state: Unready) {
        match state {
            Unready::ReadOnly | Unready::MasterDown if !self.opener.clustered() => node.renew(),
            Unready::ReadOnly | Unready::MasterDown | Unready::ClusterDown | Unready::Loading => {
                self.refresh_wanted.notify_one();
            }
            Unready::Busy | Unready::OutOfMemory | Unready::CannotSave | Unready::NoReplicas => {}
        }
    }
}
