//! The generator: one thread that sends what is due, reads what comes, and counts.
//!
//! A closed loop keeps a number of requests in flight, to find the top rate. An open loop sends on a fixed schedule,
//! and a request's latency counts from when it was due: a service that stands still makes all who were due meanwhile
//! wait, and they are in the percentiles, sent or not.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::h2::{Answer, Broken, Connection};
use crate::schedule::SECOND;

/// A request sent later than this after it was due is counted as late.
const LATE: u64 = SECOND / 1_000;
/// So long before something is due the generator waits without sleeping: waking up takes about that long.
const AWAKE: u64 = 60_000;
/// How long answers may take once all is sent.
const PATIENCE: u64 = 10 * SECOND;
/// Latencies up to a minute are told apart, to three digits.
const LONGEST: u64 = 60 * SECOND;
/// How many reasons of wrong answers are kept.
const REASONS: usize = 3;

/// What is to be asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    /// Which of the pools it goes to.
    pub(crate) pool: usize,
    /// Comes back with the answer.
    pub(crate) tag: u64,
    /// Its cookie header; empty: none.
    pub(crate) cookie: Vec<u8>,
    /// Its body; empty: none.
    pub(crate) body: Vec<u8>,
}

/// Who asks what and when, and knows right answers.
pub(crate) trait Script {
    /// How many kinds of requests there are; each has figures of its own.
    fn kinds(&self) -> usize {
        1
    }
    /// When the next request is due, nanoseconds from the start; `None`: none is, until an answer comes.
    fn due(&mut self) -> Option<u64>;
    /// The next request, the one that [`Script::due`] told of. What was in `ask` before is the last one.
    fn next(&mut self, ask: &mut Ask);
    /// Takes the answer to the request with this tag, which came `at` nanoseconds from the start; returns its kind, or
    /// what is wrong with it.
    fn answered(&mut self, tag: u64, answer: &Answer, at: u64) -> Result<usize, String>;
}

/// Connections to one listener.
pub(crate) struct Pool {
    pub(crate) connections: Vec<Connection>,
    /// Requests in flight on each.
    pub(crate) streams: usize,
    next: usize,
}

impl Pool {
    pub(crate) fn new(connections: Vec<Connection>, streams: usize) -> Self {
        Self { connections, streams, next: 0 }
    }

    /// The next connection in turn that has room.
    fn free(&mut self, body: usize) -> Option<&mut Connection> {
        let count = self.connections.len();
        let at = (0..count)
            .map(|step| (self.next + step) % count)
            .find(|at| self.connections[*at].has_room(body, self.streams))?;
        self.next = (at + 1) % count;
        self.connections.get_mut(at)
    }

    fn in_flight(&self) -> usize {
        self.connections.iter().map(Connection::in_flight).sum()
    }
}

/// How long a run lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Asked before it counts.
    pub(crate) warm_up: Duration,
    /// What counts.
    pub(crate) length: Duration,
    /// Latencies count from when a request was due, and requests due within `length` count; otherwise from when it
    /// was sent, and answers within `length` count.
    pub(crate) open: bool,
}

/// What a run came to.
pub(crate) struct Outcome {
    /// Latencies in nanoseconds by kind of request, of those that count.
    pub(crate) latencies: Vec<Histogram<u64>>,
    /// Of all answers, the warm-up's included.
    pub(crate) answers: u64,
    pub(crate) wrong: u64,
    /// The first reasons.
    pub(crate) reasons: Vec<String>,
    pub(crate) sent: u64,
    /// Sent more than 1 ms after they were due because the generator was busy.
    pub(crate) late: u64,
    /// The same because the service had left too many unanswered.
    pub(crate) held: u64,
}

impl Outcome {
    fn new(kinds: usize) -> Self {
        Self {
            latencies: (0..kinds).map(|_| histogram()).collect(),
            answers: 0,
            wrong: 0,
            reasons: Vec::new(),
            sent: 0,
            late: 0,
            held: 0,
        }
    }

    fn is_wrong(&mut self, why: String) {
        self.wrong += 1;
        if self.reasons.len() < REASONS && !self.reasons.contains(&why) {
            self.reasons.push(why);
        }
    }
}

/// An empty one, for nanoseconds.
#[allow(clippy::expect_used)] // constants
pub(crate) fn histogram() -> Histogram<u64> {
    // The bounds and the digits fit together, and the tests use them.
    Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds that fit")
}

/// Runs a script over the pools' connections, which are idle before and after.
pub(crate) fn drive(script: &mut dyn Script, pools: &mut [Pool], span: Span) -> Result<Outcome, Broken> {
    Run {
        outcome: Outcome::new(script.kinds()),
        begun: Instant::now(),
        counts_from: nanos(span.warm_up),
        counts_until: nanos(span.warm_up + span.length),
        open: span.open,
        ask: Ask::default(),
        unsent: None,
        held: false,
        ready: Vec::new(),
    }
    .run(script, pools)
}

struct Run {
    outcome: Outcome,
    begun: Instant,
    counts_from: u64,
    counts_until: u64,
    open: bool,
    /// The request taken from the script last, and when it was due, if no connection had room for it yet.
    ask: Ask,
    unsent: Option<u64>,
    /// Requests were due and no connection had room, and these have not all been sent yet.
    held: bool,
    /// Connections, counted through all pools, on which something has come.
    ready: Vec<usize>,
}

impl Run {
    fn run(mut self, script: &mut dyn Script, pools: &mut [Pool]) -> Result<Outcome, Broken> {
        // The system may else round the generator's short sleeps up by 50 µs. Where it does not let us, the share of
        // late requests tells.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        loop {
            crate::stop::check()?;
            let now = self.now();
            let due = self.send_due(script, pools, now)?;
            let in_flight: usize = pools.iter().map(Pool::in_flight).sum();
            let over = now >= self.counts_until;
            // Without an answer to come, nothing more can fall due.
            let done = due.is_none() && self.unsent.is_none() && in_flight == 0;
            if done || (over && self.unsent.is_none() && in_flight == 0) {
                return Ok(self.outcome);
            }
            if now > self.counts_until + PATIENCE {
                self.give_up(script, in_flight);
                return Ok(self.outcome);
            }
            let until = match due {
                Some(due) if !over && !self.held => due.min(self.counts_until),
                _ if over => self.counts_until + PATIENCE + 1,
                _ => self.counts_until,
            };
            self.wait(pools, until.saturating_sub(now))?;
            self.read(script, pools)?;
        }
    }

    fn now(&self) -> u64 {
        nanos(self.begun.elapsed())
    }

    /// Whether a request due at `at` is to be sent now. On a schedule all are, however late.
    fn is_due(&self, at: u64, now: u64) -> bool {
        at <= now && if self.open { at < self.counts_until } else { now < self.counts_until }
    }

    /// Sends all that is due; when the next is.
    fn send_due(
        &mut self,
        script: &mut dyn Script,
        pools: &mut [Pool],
        now: u64,
    ) -> Result<Option<u64>, Broken> {
        let due = loop {
            let at = match self.unsent.take() {
                Some(at) => at,
                None => match script.due() {
                    Some(at) if self.is_due(at, now) => {
                        script.next(&mut self.ask);
                        at
                    }
                    due => {
                        self.held = false;
                        break due;
                    }
                },
            };
            if !self.is_due(at, now) {
                break None;
            }
            let Some(connection) = pools[self.ask.pool].free(self.ask.body.len()) else {
                (self.unsent, self.held) = (Some(at), true);
                break Some(at);
            };
            let from = if self.open { at } else { now };
            connection.send(self.ask.tag, from, &self.ask.cookie, &self.ask.body)?;
            self.outcome.sent += 1;
            if self.open && now - at > LATE {
                *(if self.held { &mut self.outcome.held } else { &mut self.outcome.late }) += 1;
            }
        };
        for connection in pools.iter_mut().flat_map(|pool| &mut pool.connections) {
            connection.flush()?;
        }
        Ok(due)
    }

    /// What was not answered, or could not even be sent, is wrong.
    fn give_up(&mut self, script: &mut dyn Script, in_flight: usize) {
        let mut missing = in_flight + usize::from(self.unsent.is_some());
        while self.open && script.due().is_some_and(|at| at < self.counts_until) {
            script.next(&mut self.ask);
            missing += 1;
        }
        for _ in 0..missing {
            self.outcome.is_wrong("no answer within 10 s after the end".to_owned());
        }
    }

    /// Waits until something has come, or so many nanoseconds.
    fn wait(&mut self, pools: &[Pool], nanoseconds: u64) -> Result<(), Broken> {
        let asleep = nanoseconds.saturating_sub(AWAKE);
        let timeout = Timespec {
            tv_sec: i64::try_from(asleep / SECOND).unwrap_or(i64::MAX),
            // Below a second.
            tv_nsec: (asleep % SECOND).try_into().unwrap_or(0),
        };
        let connections = pools.iter().flat_map(|pool| &pool.connections);
        let mut sockets: Vec<PollFd<'_>> = connections
            .map(|connection| {
                let also = if connection.is_full() { PollFlags::OUT } else { PollFlags::empty() };
                PollFd::new(connection, PollFlags::IN | also)
            })
            .collect();
        // A signal only makes the wait shorter.
        if let Err(error) = rustix::event::poll(&mut sockets, Some(&timeout))
            && error != rustix::io::Errno::INTR
        {
            return Err(Broken::Poll(error.into()));
        }
        let readable = |socket: &PollFd<'_>| socket.revents().intersects(!PollFlags::OUT);
        self.ready.clear();
        self.ready.extend(sockets.iter().enumerate().filter(|(_, s)| readable(s)).map(|(at, _)| at));
        Ok(())
    }

    fn read(&mut self, script: &mut dyn Script, pools: &mut [Pool]) -> Result<(), Broken> {
        let mut ready = self.ready.iter().peekable();
        for (at, connection) in pools.iter_mut().flat_map(|pool| &mut pool.connections).enumerate() {
            if ready.next_if(|next| **next == at).is_none() {
                continue;
            }
            connection.receive()?;
            let now = nanos(self.begun.elapsed());
            let finished = connection.finished();
            for answered in &finished {
                self.outcome.answers += 1;
                match script.answered(answered.tag, &answered.answer, now) {
                    Err(why) => self.outcome.is_wrong(why),
                    Ok(kind) => {
                        let counts = if self.open { answered.from } else { now };
                        if (self.counts_from..self.counts_until).contains(&counts) {
                            let latency = now.saturating_sub(answered.from).max(1);
                            self.outcome.latencies[kind].saturating_record(latency);
                        }
                    }
                }
            }
            connection.recycle(finished);
        }
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
