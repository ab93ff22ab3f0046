//! The connections to Redis: one for each server that holds slots, and each call goes to the one of its room.
//!
//! The client library's cluster mode has one task for all servers, which stands still for seconds when one of
//! them does not answer. Every call here has exactly one slot; so each server has a connection and a task of its
//! own, and what happens to one server harms nobody but its own slots.

mod fault;
mod health;
mod link;
mod node;
mod slots;
mod topology;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use fred::types::Value;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use self::fault::{ConnectError, ShardError, Unready};
pub use self::health::{Health, ShardHealth};

use self::fault::{Problem, ProblemKind, Reply};
use self::link::Opener;
use self::node::{CallFailure, Node, Sending};
use self::slots::{Table, slot_of};
use crate::store::redis::script::Script;
use crate::store::target::{Address, Target};
use crate::telemetry::metrics::label::{CallResult, Resent};
use crate::telemetry::metrics::shards::ShardMetrics;

/// The most servers that are connected to at a time.
const MAX_NODES: usize = 256;
/// How often a call may be sent on because its slot is elsewhere.
const MAX_HOPS: u32 = 5;
/// How often a call may be sent while some of its keys are on their way; the budget ends it sooner.
const MAX_TRIES: u32 = 50;
/// How long to wait for keys on their way before sending the call again.
const ON_THE_WAY: Duration = Duration::from_millis(3);

/// The times and bounds of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a call may take, repeats included.
    pub command: Duration,
    /// How long it may take to connect and see whether the server will do.
    pub connect: Duration,
    /// How long a server may leave a PING unanswered before its connection is cut. Longer than any script.
    pub silence: Duration,
    /// How long after the last sign of life a PING is sent.
    pub heartbeat: Duration,
    /// How often the slots are asked for when all is well.
    pub calm: Duration,
    /// How often they are asked for while a server is missing.
    pub trouble: Duration,
    /// The least time between two askings, however many calls want one.
    pub refresh_gap: Duration,
    /// How many calls may be under way to one server.
    pub max_in_flight: usize,
}

impl Timing {
    /// The usual ones, with this budget for a call.
    pub fn with_budget(command: Duration) -> Self {
        Self { command, ..Self::default() }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            command: Duration::from_millis(50),
            connect: Duration::from_secs(1),
            silence: Duration::from_secs(1),
            heartbeat: Duration::from_secs(2),
            calm: Duration::from_secs(5),
            trouble: Duration::from_millis(500),
            refresh_gap: Duration::from_millis(250),
            max_in_flight: 1024,
        }
    }
}

/// The servers of a store. Share it in an `Arc`; end it with [`Shards::close`].
pub struct Shards {
    inner: Arc<Inner>,
    // Whoever forgets to close leaves no tasks behind all the same.
    _end: DropGuard,
}

struct Inner {
    opener: Opener,
    metrics: ShardMetrics,
    seeds: Vec<Address>,
    table: ArcSwap<Table>,
    // Every server with a task, also those without slots.
    nodes: Mutex<BTreeMap<Address, Arc<Node>>>,
    replicas: Mutex<Vec<Address>>,
    problem: Mutex<Option<String>>,
    health: watch::Sender<Health>,
    changed: Notify,
    refresh_wanted: Notify,
    tasks: TaskTracker,
    over: CancellationToken,
}

impl Shards {
    /// Begins to connect, in tasks of its own, and returns at once, also when no server is there. Must be called
    /// within a Tokio runtime. Fails only if TLS is wanted and cannot be set up.
    pub fn connect(
        target: &Target,
        timing: Timing,
        metrics: ShardMetrics,
    ) -> Result<Arc<Self>, ConnectError> {
        let opener = Opener::new(target, timing)?;
        let clustered = opener.clustered();
        let over = CancellationToken::new();
        let inner = Arc::new(Inner {
            opener,
            metrics,
            seeds: target.hosts.clone(),
            table: ArcSwap::from_pointee(Table::empty()),
            nodes: Mutex::default(),
            replicas: Mutex::default(),
            problem: Mutex::default(),
            health: watch::Sender::new(Health::of(&Table::empty(), &[], None)),
            changed: Notify::new(),
            refresh_wanted: Notify::new(),
            tasks: TaskTracker::new(),
            over: over.clone(),
        });
        if clustered {
            for seed in &target.hosts {
                inner.node(seed);
            }
            inner.spawn({
                let inner = Arc::clone(&inner);
                async move { inner.follow().await }
            });
        } else if let Some(node) = target.hosts.first().and_then(|host| inner.node(host)) {
            inner.table.store(Arc::new(Table::single(node)));
        }
        inner.spawn({
            let inner = Arc::clone(&inner);
            async move { inner.watch().await }
        });
        Ok(Arc::new(Self { inner, _end: over.drop_guard() }))
    }

    /// Runs a script on the server that holds the slot of `tag`, the room's name. All of `keys` must have it as
    /// their hash tag; the script's last argument is the `run_id` of the server it runs on. Takes no longer than
    /// `timing.command`.
    ///
    /// A script is sent again only where it is certain that it did not run.
    pub async fn run(
        &self,
        tag: &str,
        script: &Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    ) -> Result<Value, ShardError> {
        // The script or its digest goes before these, once it is known which.
        let mut list = Vec::with_capacity(keys.len() + args.len() + 2);
        list.push(Value::Null);
        list.push(Value::Integer(i64::try_from(keys.len()).unwrap_or(i64::MAX)));
        list.extend(keys.into_iter().chain(args).map(Value::Bytes));
        let answer = self.inner.call(tag, script, list).await;
        let result = match &answer {
            Ok(_) => CallResult::Answered,
            Err(error) => error.result(),
        };
        self.inner.metrics.called(result);
        answer
    }

    /// What is counted.
    pub fn metrics(&self) -> &ShardMetrics {
        &self.inner.metrics
    }

    /// How the servers are, always the newest.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.subscribe()
    }

    /// The server that calls with this tag go to, if it is known.
    pub fn server_of(&self, tag: &str) -> Option<Address> {
        self.inner.table.load().owner(slot_of(tag)).map(|node| node.address.clone())
    }

    /// Ends every connection and waits for the tasks. Calls under way fail.
    pub async fn close(&self) {
        self.inner.over.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    /// Runs a task until the end.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// The server at an address, with a task that keeps it connected. `None` if there are as many as allowed, or
    /// the end has begun.
    fn node(self: &Arc<Self>, address: &Address) -> Option<Arc<Node>> {
        let mut nodes = self.nodes.lock();
        if let Some(known) = nodes.get(address) {
            return Some(Arc::clone(known));
        }
        if nodes.len() >= MAX_NODES || self.over.is_cancelled() {
            return None;
        }
        let node = Arc::new(Node::new(address.clone(), &self.opener.timing, self.over.child_token()));
        nodes.insert(address.clone(), Arc::clone(&node));
        let (kept, inner) = (Arc::clone(&node), Arc::clone(self));
        // Ends by itself when it is retired, and with all others at the end.
        self.tasks.spawn(async move { kept.keep(&inner.opener, &inner.metrics, &inner.changed).await });
        Some(node)
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock() = problem;
    }

    /// Publishes the health at every change, and has the slots asked for when a server came or went.
    async fn watch(&self) {
        loop {
            let nodes: Vec<_> = self.nodes.lock().values().cloned().collect();
            let new = Health::of(&self.table.load(), &nodes, self.problem.lock().clone());
            let amiss = !new.all_served();
            if health::publish(&self.health, new) && amiss {
                self.refresh_wanted.notify_one();
            }
            self.changed.notified().await;
        }
    }

    async fn call(
        self: &Arc<Self>,
        tag: &str,
        script: &Script,
        args: Vec<Value>,
    ) -> Result<Value, ShardError> {
        let deadline = Instant::now() + self.opener.timing.command;
        let slot = slot_of(tag);
        let mut node = self.owner(slot)?;
        let mut sending = Sending { command: "", args, importing: false };
        let (mut with_text, mut hops, mut tries) = (false, 0, 0);
        loop {
            let body = if with_text { script.text } else { script.sha.as_str() };
            sending.command = if with_text { "EVAL" } else { "EVALSHA" };
            if let Some(first) = sending.args.first_mut() {
                *first = body.into();
            }
            let message = match node.call(&sending, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(CallFailure::Error(error)) => return Err(error),
                Err(CallFailure::Reply(message)) => message,
            };
            // Whoever goes round again does so because the server says that the call did not run.
            match Reply::read(&message, &node.address) {
                Reply::NoScript if !with_text => {
                    self.metrics.resent(Resent::NoScript);
                    with_text = true;
                }
                Reply::Moved(to) if self.opener.clustered() => {
                    hops += 1;
                    self.metrics.resent(Resent::Moved);
                    node = self.reachable(&to.to)?;
                    self.moved(to.slot, &node);
                    sending.importing = false;
                    with_text = false;
                }
                Reply::Ask(to) if self.opener.clustered() => {
                    hops += 1;
                    self.metrics.resent(Resent::Ask);
                    node = self.reachable(&to.to)?;
                    sending.importing = true;
                    with_text = false;
                }
                Reply::TryAgain => {
                    tries += 1;
                    self.metrics.resent(Resent::TryAgain);
                    tokio::time::sleep(ON_THE_WAY).await;
                    node = self.owner(slot)?;
                    sending.importing = false;
                    with_text = false;
                    self.refresh_wanted.notify_one();
                }
                Reply::Unready(state) => {
                    self.unready(&node, state);
                    let server = node.address.clone();
                    return Err(ShardError::NotServing { server, state, message });
                }
                Reply::Refused | Reply::Moved(_) | Reply::Ask(_) => {
                    return Err(ShardError::Refused { why: format!("{}: {message}", node.address).into() });
                }
                Reply::NoScript | Reply::Other => {
                    return Err(ShardError::Script { script: script.name, message });
                }
            }
            // Each try may take two hops: to the old server and on to the new.
            if hops > MAX_HOPS + 2 * tries || tries > MAX_TRIES || Instant::now() >= deadline {
                return Err(ShardError::MovedTooOften { hops: hops + tries });
            }
        }
    }

    fn owner(&self, slot: u16) -> Result<Arc<Node>, ShardError> {
        let table = self.table.load();
        table.owner(slot).cloned().ok_or_else(|| {
            let why = match self.problem.lock().as_deref() {
                Some(problem) => format!("no server is known for slot {slot}: {problem}"),
                None => format!("no server is known for slot {slot}"),
            };
            ShardError::NotConnected { why: why.into() }
        })
    }

    fn reachable(self: &Arc<Self>, address: &Address) -> Result<Arc<Node>, ShardError> {
        self.node(address).ok_or_else(|| {
            Problem::new(ProblemKind::Away, address, "more servers than can be connected to").error()
        })
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("health", &*self.inner.health.borrow()).finish_non_exhaustive()
    }
}
