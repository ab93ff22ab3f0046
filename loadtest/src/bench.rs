//! Rounds: the peers are asked in turn, A B C A B C, first for their top rates and then for their latencies.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Failed;
use crate::cli::{Plan, Rate};
use crate::drive::{Ask, Outcome, Script, Span, drive, histogram};
use crate::figures::{Latencies, Spread};
use crate::h2::Answer;
use crate::peers::{Judge, Peer};
use crate::process::{self, Time};
use crate::progress::progress;
use crate::report::{Busy, Closed, Open, Row, Tally};
use crate::schedule::{SECOND, Schedule};

/// How long a peer is asked before a round counts.
const WARM_UP: Duration = Duration::from_millis(300);
/// Requests in flight on a connection where the schedule says when to ask: more than any peer that keeps up has.
const MANY: usize = 500;

/// Measures the peers; their rows in the same order.
pub(crate) fn run(peers: &mut [Peer], rounds: &Plan, tally: &mut Tally) -> Result<Vec<Row>, Failed> {
    let mut rows: Vec<Row> = peers.iter().map(|peer| Row::named(peer.name)).collect();
    for peer in peers.iter_mut() {
        peer.try_it()?;
    }
    for turn in 1..=rounds.rounds {
        for (peer, row) in peers.iter_mut().zip(&mut rows) {
            progress(&format!("top rate, round {turn} of {}: {}", rounds.rounds, peer.name));
            row.closed.push(top_rate(peer, rounds, tally)?);
        }
    }
    let rates: Vec<Option<f64>> = rows.iter().map(|row| rate_of(rounds.rate, row)).collect();
    let mut all: Vec<Histogram<u64>> = rows.iter().map(|_| histogram()).collect();
    for turn in 1..=rounds.rounds {
        for ((peer, row), (rate, all)) in peers.iter_mut().zip(&mut rows).zip(rates.iter().zip(&mut all)) {
            let Some(rate) = rate else { continue };
            progress(&format!("latency at {rate:.0}/s, round {turn} of {}: {}", rounds.rounds, peer.name));
            row.open.push(open(peer, rounds, *rate, all, tally)?);
        }
    }
    for ((peer, row), all) in peers.iter_mut().zip(&mut rows).zip(&all) {
        row.tell(all);
        row.resident = process::resident(peer.server.process().pid());
    }
    Ok(rows)
}

fn rate_of(rate: Rate, row: &Row) -> Option<f64> {
    match rate {
        Rate::Off => None,
        Rate::Half => Spread::of(row.closed.iter().map(|round| round.rate)).map(|top| top.median / 2.0),
        Rate::Of(rate) => Some(rate),
    }
}

/// Asks as fast as the peer answers.
pub(crate) fn top_rate(peer: &mut Peer, rounds: &Plan, tally: &mut Tally) -> Result<Closed, Failed> {
    let span = Span { warm_up: WARM_UP, length: rounds.length(), open: false };
    let (outcome, used) = asked(peer, None, rounds.connections, rounds.streams.into(), span, tally)?;
    let latencies = &outcome.latencies[0];
    let each = |cpu: Option<f64>| cpu.map(|cpu| cpu * 1e6 / outcome.answers.max(1) as f64);
    Ok(Closed {
        rate: latencies.len() as f64 / rounds.seconds,
        cpu_micros: each(used.service),
        envoy_micros: each(used.envoy),
        busy: used.busy(),
        latencies: Latencies::of(latencies),
    })
}

fn open(
    peer: &mut Peer,
    rounds: &Plan,
    rate: f64,
    all: &mut Histogram<u64>,
    tally: &mut Tally,
) -> Result<Open, Failed> {
    let span = Span { warm_up: WARM_UP, length: rounds.length(), open: true };
    let length = u64::try_from((span.warm_up + span.length).as_nanos()).unwrap_or(u64::MAX);
    let schedule = Schedule::new(rate, length);
    let (outcome, used) = asked(peer, Some(schedule), rounds.connections, MANY, span, tally)?;
    let latencies = &outcome.latencies[0];
    // Both have the same bounds.
    all.add(latencies).map_err(|error| Failed(error.to_string()))?;
    let share = |count: u64| count as f64 / outcome.sent.max(1) as f64;
    Ok(Open {
        rate,
        late: share(outcome.late),
        held: share(outcome.held),
        busy: used.busy(),
        latencies: Latencies::of(latencies),
    })
}

/// CPU time used while asking, in seconds, and how long that lasted.
pub(crate) struct Used {
    service: Option<f64>,
    /// The service could have run, and somebody else did.
    waited: Option<f64>,
    store: Option<f64>,
    envoy: Option<f64>,
    load: Option<f64>,
    lasted: f64,
}

/// The processes that are looked at while they are asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) service: u32,
    pub(crate) store: Option<u32>,
    pub(crate) envoy: Option<u32>,
}

impl Used {
    /// What these processes use while `during` runs.
    pub(crate) fn during<T>(of: Watched, during: impl FnOnce() -> T) -> (T, Self) {
        let pids = [Some(of.service), of.store, of.envoy, Some(std::process::id())];
        let read = || pids.map(|pid| pid.and_then(process::time));
        let (before, begun) = (read(), Instant::now());
        let result = during();
        let (after, lasted) = (read(), begun.elapsed().as_secs_f64());
        let used = |at: usize, of: fn(Time) -> Duration| {
            Some(of(after[at]?).saturating_sub(of(before[at]?)).as_secs_f64())
        };
        let cpu = |at| used(at, |time| time.cpu);
        let waited = used(0, |time| time.waited);
        (result, Self { service: cpu(0), waited, store: cpu(1), envoy: cpu(2), load: cpu(3), lasted })
    }

    /// As shares of a core.
    pub(crate) fn busy(&self) -> Busy {
        let share = |seconds: Option<f64>| seconds.map(|seconds| seconds / self.lasted);
        let Self { service, waited, store, envoy, load, .. } = *self;
        let [service, waited, load, store, envoy] = [service, waited, load, store, envoy].map(share);
        Busy { service, waited, load, store, envoy }
    }
}

fn asked(
    peer: &mut Peer,
    schedule: Option<Schedule>,
    connections: u16,
    streams: usize,
    span: Span,
    tally: &mut Tally,
) -> Result<(Outcome, Used), Failed> {
    let mut pools = [peer.connect(connections, streams)?];
    let envoy = peer.envoy.as_ref().map(|envoy| envoy.process.pid());
    let watched = Watched { service: peer.server.process().pid(), store: peer.store, envoy };
    let mut asking = Asking { ask: &peer.ask, judge: &mut peer.judge, schedule, sent: 0 };
    let (outcome, used) = Used::during(watched, || drive(&mut asking, &mut pools, span));
    let outcome = outcome?;
    tally.add(peer.name, &outcome);
    Ok((outcome, used))
}

/// One and the same request, over and over: at once, or on a schedule.
struct Asking<'a> {
    ask: &'a Ask,
    judge: &'a mut Judge,
    schedule: Option<Schedule>,
    sent: u64,
}

impl Script for Asking<'_> {
    fn due(&mut self) -> Option<u64> {
        self.schedule.map_or(Some(0), |schedule| schedule.due(self.sent))
    }

    fn next(&mut self, ask: &mut Ask) {
        if self.sent == 0 {
            ask.clone_from(self.ask);
        }
        self.sent += 1;
    }

    fn answered(&mut self, _tag: u64, answer: &Answer, _at: u64) -> Result<usize, String> {
        (self.judge)(answer).map(|()| 0)
    }
}

/// Asks the same so many times, as fast as it goes.
pub(crate) fn ask_times(peer: &mut Peer, times: u64, tally: &mut Tally) -> Result<(), Failed> {
    let mut pools = [peer.connect(10, 50)?];
    let span = Span { warm_up: Duration::ZERO, length: Duration::from_mins(10), open: true };
    // All are due in the first nanosecond.
    let schedule = Schedule::new(times as f64 * SECOND as f64, 1);
    let mut asking = Asking { ask: &peer.ask, judge: &mut peer.judge, schedule: Some(schedule), sent: 0 };
    let outcome = drive(&mut asking, &mut pools, span)?;
    tally.add(peer.name, &outcome);
    Ok(())
}
