//! One Redis server: its connection, kept open by a task, and the calls over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use fred::clients::Client;
use fred::types::Value;
use rand::RngExt;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Timing;
use super::fault::{Problem, ProblemKind, ShardError};
use super::link::{Failure, Link, Opener, ask, ask_importing, ending};
use crate::store::target::Address;
use crate::telemetry::metrics::label::LinkEvent;
use crate::telemetry::metrics::shards::ShardMetrics;

/// How many calls may be under way on a connection that has just let one time out: the server may be hung, and
/// what is sent to it stays in memory until the connection is cut.
const MAX_IN_DOUBT: usize = 32;
/// The first pause before connecting again. It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lived as long as this was a good one: the next attempt begins with the first pause again.
const GOOD_LIFE: Duration = Duration::from_secs(5);
/// The least time between two looks after a connection.
const LOOK_GAP: Duration = Duration::from_millis(50);
/// The least time between two connections given up because the server was not the one to talk to.
const RENEW_GAP: Duration = Duration::from_secs(1);

/// How a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeState {
    /// The first attempt to connect is under way.
    Starting,
    /// Connected and fit.
    Up,
    /// Not connected.
    Down(Problem),
}

/// One server. [`Node::keep`] must run for anything to happen.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    state: watch::Sender<NodeState>,
    line: ArcSwapOption<Line>,
    in_flight: AtomicUsize,
    max_in_flight: usize,
    // A call timed out and nothing has been heard since.
    doubt: AtomicBool,
    look: Notify,
    renew: AtomicBool,
    hurry: Notify,
    epoch: Instant,
    // Milliseconds since `epoch`.
    last_call: AtomicU64,
    retired: CancellationToken,
}

/// What calls go over.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) client: Client,
    run_id: Bytes,
}

/// What a call sends.
pub(super) struct Sending {
    pub(super) command: &'static str,
    /// Without the last one, which is the `run_id` of the server that it goes to.
    pub(super) args: Vec<Value>,
    /// Whether the slot is still on its way to the server.
    pub(super) importing: bool,
}

/// Why a call brought no answer.
#[derive(Debug)]
pub(super) enum CallFailure {
    /// The server answered with an error, which the caller reads.
    Reply(String),
    /// Everything else.
    Error(ShardError),
}

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    pub(super) fn new(address: Address, timing: &Timing, retired: CancellationToken) -> Self {
        Self {
            address,
            state: watch::Sender::new(NodeState::Starting),
            line: ArcSwapOption::empty(),
            in_flight: AtomicUsize::new(0),
            max_in_flight: timing.max_in_flight,
            doubt: AtomicBool::new(false),
            look: Notify::new(),
            renew: AtomicBool::new(false),
            hurry: Notify::new(),
            epoch: Instant::now(),
            last_call: AtomicU64::new(0),
            retired,
        }
    }

    pub(super) fn state(&self) -> NodeState {
        self.state.borrow().clone()
    }

    pub(super) fn is_up(&self) -> bool {
        *self.state.borrow() == NodeState::Up
    }

    /// Whether it answers as far as is known.
    pub(super) fn seems_well(&self) -> bool {
        self.is_up() && !self.doubt.load(Ordering::Relaxed)
    }

    /// How long nobody has called it.
    pub(super) fn idle(&self) -> Duration {
        let last = Duration::from_millis(self.last_call.load(Ordering::Relaxed));
        self.epoch.elapsed().saturating_sub(last)
    }

    /// Counts as called now.
    pub(super) fn used(&self) {
        self.last_call.store(millis(self.epoch.elapsed()), Ordering::Relaxed);
    }

    /// Ends its connection and its task for good.
    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    /// Ends the connection and makes a new one, which may lead to another server: what the address leads to is
    /// not, or no longer, the master.
    pub(super) fn renew(&self) {
        self.renew.store(true, Ordering::Relaxed);
        self.look.notify_one();
    }

    /// Tries to connect now if it waits for its next attempt.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Sends a command over the connection. Fails at once where there is none, but for the first attempt to
    /// connect: that is waited for.
    pub(super) async fn call(&self, sending: &Sending, deadline: Instant) -> Result<Value, CallFailure> {
        self.used();
        let line = self.line(deadline).await.map_err(CallFailure::Error)?;
        let _in_flight = self.admit().map_err(CallFailure::Error)?;
        let Sending { command, args, importing } = sending;
        let mut args = args.clone();
        args.push(Value::Bytes(line.run_id.clone()));
        let answer = if *importing {
            ask_importing(&line.client, command, args, deadline).await
        } else {
            ask(&line.client, command, args, deadline).await
        };
        if !matches!(answer, Err(Failure::Timeout | Failure::Full)) {
            self.doubt.store(false, Ordering::Relaxed);
        }
        let server = self.address.clone();
        answer.map_err(|failure| match failure {
            Failure::Reply(reply) => CallFailure::Reply(reply),
            Failure::Full => CallFailure::Error(ShardError::Overloaded { server }),
            Failure::Lost(why) => CallFailure::Error(ShardError::Lost { server, why }),
            Failure::Timeout => {
                self.doubt.store(true, Ordering::Relaxed);
                self.look.notify_one();
                CallFailure::Error(ShardError::Timeout { server })
            }
        })
    }

    fn admit(&self) -> Result<InFlight<'_>, ShardError> {
        let max = if self.doubt.load(Ordering::Relaxed) { MAX_IN_DOUBT } else { self.max_in_flight };
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let admitted = InFlight(&self.in_flight);
        if before >= max {
            return Err(ShardError::Overloaded { server: self.address.clone() });
        }
        Ok(admitted)
    }

    /// The connection to send over.
    pub(super) async fn line(&self, deadline: Instant) -> Result<Arc<Line>, ShardError> {
        if let Some(line) = self.line.load_full() {
            return Ok(line);
        }
        let mut state = self.state.subscribe();
        let begun = state.wait_for(|state| *state != NodeState::Starting);
        // The sender lives in `self`; so an error here can only be the timeout, and is told below.
        if let Ok(Ok(state)) = tokio::time::timeout_at(deadline, begun).await
            && let NodeState::Down(problem) = &*state
        {
            return Err(problem.error());
        }
        self.line
            .load_full()
            .ok_or_else(|| Problem::new(ProblemKind::Away, &self.address, "still connecting").error())
    }

    /// Keeps a connection open until the server is retired. `changed` is told of every change of state.
    pub(super) async fn keep(&self, opener: &Opener, metrics: &ShardMetrics, changed: &Notify) {
        tokio::select! {
            () = self.retired.cancelled() => {}
            () = self.keep_on(opener, metrics, changed) => {}
        }
        self.line.store(None);
        let ended = Problem::new(ProblemKind::Away, &self.address, "no longer used");
        self.state.send_replace(NodeState::Down(ended));
    }

    async fn keep_on(&self, opener: &Opener, metrics: &ShardMetrics, changed: &Notify) {
        let mut pause = FIRST_PAUSE;
        loop {
            let problem = match opener.open(&self.address).await {
                Ok(link) => {
                    let begun = Instant::now();
                    metrics.linked(LinkEvent::Opened);
                    self.doubt.store(false, Ordering::Relaxed);
                    let line = Line { client: link.client.clone(), run_id: link.run_id.clone() };
                    self.line.store(Some(Arc::new(line)));
                    self.state.send_replace(NodeState::Up);
                    changed.notify_one();
                    let (event, problem) = self.tend(link, opener.timing).await;
                    metrics.linked(event);
                    if begun.elapsed() >= GOOD_LIFE {
                        pause = FIRST_PAUSE;
                    }
                    problem
                }
                Err(problem) => {
                    metrics.linked(LinkEvent::Failed);
                    problem
                }
            };
            self.line.store(None);
            self.state.send_replace(NodeState::Down(problem));
            changed.notify_one();
            // Half of it by chance, so that not all replicas come at the same time.
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                () = self.hurry.notified() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Looks after an open connection; returns when it has ended, with why. Drops, and with that cuts, it.
    async fn tend(&self, mut link: Link, timing: Timing) -> (LinkEvent, Problem) {
        let away = |what: String| Problem::new(ProblemKind::Away, &self.address, what);
        let begun = Instant::now();
        loop {
            tokio::select! {
                biased;
                ended = &mut link.router => {
                    return (LinkEvent::Lost, Problem::said(&self.address, &ending(ended)));
                }
                () = self.look.notified() => {}
                () = tokio::time::sleep(timing.heartbeat) => {}
            }
            if self.renew.swap(false, Ordering::Relaxed) && begun.elapsed() >= RENEW_GAP {
                return (LinkEvent::Cut, away("it is not the master".to_owned()));
            }
            // Any answer to this one is an answer to everything sent before: the server may be slow, but lives.
            let heard = ask(&link.client, "PING", Vec::new(), Instant::now() + timing.silence);
            tokio::select! {
                biased;
                ended = &mut link.router => {
                    return (LinkEvent::Lost, Problem::said(&self.address, &ending(ended)));
                }
                heard = heard => match heard {
                    Err(Failure::Timeout) => {
                        let what = format!("connected, but silent for {:?}", timing.silence);
                        return (LinkEvent::Cut, away(what));
                    }
                    // A full queue says nothing yet; what fills it will be answered or time out.
                    Err(Failure::Full) => {}
                    Ok(_) | Err(Failure::Reply(_) | Failure::Lost(_)) => {
                        self.doubt.store(false, Ordering::Relaxed);
                    }
                },
            }
            tokio::time::sleep(LOOK_GAP).await;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
