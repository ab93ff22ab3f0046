//! The supervisor: starts named tasks, notices how each ends, and sees the drain through.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::{Phase, Shutdown};

/// How long tasks have to end by themselves once time is up, before they are aborted.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a task returns.
type Ending = Result<(), Box<dyn Error + Send + Sync>>;

/// How long the parts of a drain take.
#[derive(Clone, Copy, Debug)]
pub struct DrainTimes {
    /// From readiness off to closing: what a balancer needs to notice.
    pub lead: Duration,
    /// From closing until time is up.
    pub grace: Duration,
}

/// Why a task did not end well.
#[derive(Debug)]
pub enum Cause {
    /// It returned this error.
    Failed(Box<dyn Error + Send + Sync>),
    /// It panicked, with this message.
    Panicked(String),
    /// It returned although nobody had asked for an end.
    Ended,
    /// It was still running when time was up.
    CutOff,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Ended => f.write_str("ended although nobody asked it to"),
            Self::CutOff => f.write_str("was cut off because it did not end in time"),
        }
    }
}

/// A task that did not end well.
#[derive(Debug)]
pub struct TaskFailure {
    /// The task's name.
    pub task: &'static str,
    /// What became of it.
    pub cause: Cause,
}

/// The tasks that did not end well, the first to do so first; at least one.
#[derive(Debug)]
pub struct DrainError {
    /// The tasks.
    pub failures: Vec<TaskFailure>,
}

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.failures.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}task {} {}", failure.task, failure.cause)?;
        }
        Ok(())
    }
}

impl Error for DrainError {}

/// Tasks that live and end together. Dropping it aborts them all.
#[derive(Debug)]
pub struct Tasks {
    phase: watch::Sender<Phase>,
    running: JoinSet<Ending>,
    names: HashMap<Id, &'static str>,
    failures: Vec<TaskFailure>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            running: JoinSet::new(),
            names: HashMap::new(),
            failures: Vec::new(),
        }
    }

    /// What tells a task when to end.
    pub fn shutdown(&self) -> Shutdown {
        Shutdown { phase: self.phase.subscribe() }
    }

    /// Starts a task that runs until it is told to end. Panics outside a tokio runtime.
    pub fn spawn<E>(&mut self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let handle = self.running.spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// Runs until the first task ends or the first stop comes in, then drains: readiness off, `lead` later
    /// closing, `grace` later over. A second stop ends at once. Returns when no task is left.
    ///
    /// `stops` names what asks for the end: [`signals`](super::signals), or whatever a test sends.
    /// The error names every task that failed, panicked, ended unasked or was cut off.
    pub async fn run_until_drained(
        mut self,
        times: DrainTimes,
        mut stops: impl Stream<Item = &'static str> + Unpin,
    ) -> Result<(), DrainError> {
        match self.run(&mut stops, None).await {
            End::Stopped(by) => tracing::info!(by, "draining"),
            End::TaskEnded => {
                let tasks = DrainError { failures: std::mem::take(&mut self.failures) };
                tracing::error!(%tasks, "draining, because a task ended");
                self.failures = tasks.failures;
            }
            // Without a deadline there is no time to be up.
            End::Empty | End::TimeUp => tracing::info!("draining, as there is nothing to do"),
        }
        let mut at_once = false;
        for (phase, time) in [(Phase::NotReady, times.lead), (Phase::Closing, times.grace)] {
            if !at_once {
                at_once = self.pass_through(phase, time, &mut stops).await;
            }
        }
        self.finish().await;
        if self.failures.is_empty() { Ok(()) } else { Err(DrainError { failures: self.failures }) }
    }

    /// Spends the phase's time, less if all tasks end; `true` if a second stop came in.
    async fn pass_through(
        &mut self,
        phase: Phase,
        time: Duration,
        stops: &mut (impl Stream<Item = &'static str> + Unpin),
    ) -> bool {
        self.phase.send_replace(phase);
        tracing::info!(?phase, tasks = self.running.len(), "drain");
        let until = Instant::now() + time;
        loop {
            match self.run(stops, Some(until)).await {
                End::TaskEnded => {}
                End::Empty | End::TimeUp => return false,
                End::Stopped(by) => {
                    tracing::warn!(by, "asked twice: ending at once");
                    return true;
                }
            }
        }
    }

    /// Time is up: a moment for last words, then tasks are aborted and named.
    async fn finish(&mut self) {
        self.phase.send_replace(Phase::Over);
        let until = Instant::now() + LAST_WORDS;
        let mut nobody = futures_util::stream::pending();
        while matches!(self.run(&mut nobody, Some(until)).await, End::TaskEnded) {}
        self.running.abort_all();
        while let Some(ended) = self.running.join_next_with_id().await {
            self.note(ended);
        }
    }

    /// Waits for the next event.
    async fn run(
        &mut self,
        stops: &mut (impl Stream<Item = &'static str> + Unpin),
        until: Option<Instant>,
    ) -> End {
        let time_up = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // In this order: a failure is told even when a stop comes in with it.
            biased;
            ended = self.running.join_next_with_id() => match ended {
                Some(ended) => {
                    self.note(ended);
                    End::TaskEnded
                }
                None => End::Empty,
            },
            Some(by) = stops.next() => End::Stopped(by),
            () = time_up => End::TimeUp,
        }
    }

    /// Remembers how a task ended, unless it ended well.
    fn note(&mut self, ended: Result<(Id, Ending), JoinError>) {
        let (id, cause) = match ended {
            Ok((id, Ok(()))) => (id, (*self.phase.borrow() == Phase::Serving).then_some(Cause::Ended)),
            Ok((id, Err(error))) => (id, Some(Cause::Failed(error))),
            Err(lost) => (lost.id(), Some(lost_cause(lost))),
        };
        let task = self.names.remove(&id).unwrap_or("unnamed");
        if let Some(cause) = cause {
            self.failures.push(TaskFailure { task, cause });
        }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

enum End {
    TaskEnded,
    Empty,
    Stopped(&'static str),
    TimeUp,
}

fn lost_cause(lost: JoinError) -> Cause {
    let Ok(panic) = lost.try_into_panic() else { return Cause::CutOff };
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Cause::Panicked(message.unwrap_or_else(|| "without a message".to_owned()))
}
