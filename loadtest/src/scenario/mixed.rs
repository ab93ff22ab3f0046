//! `mixed`: an event as the project's brief has it, scaled: visitors arrive, poll every few seconds, are called and enter.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use serde_json::json;

use super::{Stage, memory};
use crate::Failed;
use crate::bench::{Used, Watched};
use crate::cli::Store;
use crate::drive::{Ask, Outcome, Pool, Script, Span, drive};
use crate::figures::Latencies;
use crate::h2::head::Head;
use crate::h2::{Answer, Connection};
use crate::progress::progress;
use crate::question::{Accept, CHECK, Question, Told, Verdict, admitted, is_waiting};
use crate::report::table::grouped;
use crate::report::{Fact, Open, Report, Row};
use crate::schedule::{SECOND, Schedule};

/// The event at its full size.
const VISITORS: f64 = 300_000.0;
const ARRIVALS: f64 = 30_000.0;
const ADMISSIONS: f64 = 1_000.0;
/// How often each asks where they stand.
const EVERY: u64 = 5 * SECOND;
/// Requests in flight on a connection at most.
const MANY: usize = 500;
const CONNECTIONS: usize = 5;
/// How often is told how far it has come.
const TOLD_EVERY: u64 = 5 * SECOND;
const POSITION: &str = "/anteroom/v1/rooms/event/position";
const TICKET: &str = "anteroom_ticket_event";
/// The kinds of requests, in the order of their figures.
const KINDS: [&str; 3] = ["arrive", "poll", "enter"];
const ARRIVE: u64 = 0;
const POLL: u64 = 1;
const ENTER: u64 = 2;

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count of visitors
pub(super) fn run(mut stage: Stage, scale: f64, seconds: f64, store: Store) -> Result<Report, Failed> {
    if !(0.001..=100.0).contains(&scale) {
        return Err(Failed(format!("--scale {scale}: write 0.001 to 100")));
    }
    let redis = if store == Store::Redis { Some(stage.redis()?) } else { None };
    let service =
        stage.anteroom(&redis.as_ref().map_or("memory".to_owned(), crate::redis::server::Server::url))?;
    let rate = format!("{:.0}/m", ADMISSIONS * scale * 60.0);
    let limits = [("room", "event"), ("rate", rate.as_str())];
    let open = |address, head: Head| -> Result<Pool, Failed> {
        let connections = (0..CONNECTIONS).map(|_| Connection::open(address, head.clone()));
        Ok(Pool::new(connections.collect::<Result<_, _>>()?, MANY))
    };
    let mut pools = [open(service.authz, Head::grpc(CHECK))?, open(service.http, Head::get(POSITION))?];
    let schedule = Schedule::new(ARRIVALS * scale, (VISITORS / ARRIVALS * SECOND as f64) as u64);
    let mut event = Event::new(
        schedule,
        Question { limits: &limits, accept: Accept::Json, token: None, bearer: None }.framed(),
        &limits,
    );
    let length = Duration::from_secs_f64(seconds);
    progress(&format!("the event × {scale}: its first {seconds:.0} s of 300"));
    let span = Span { warm_up: Duration::ZERO, length, open: true };
    let store = redis.as_ref().map(crate::redis::server::Server::pid);
    let watched = Watched { service: service.process.pid(), store, envoy: None };
    let (outcome, used) = Used::during(watched, || drive(&mut event, &mut pools, span));
    let outcome = outcome?;
    stage.tally.add("anteroom", &outcome);
    let facts = facts(&event, &outcome, &used, seconds, memory(&service).ok());
    let rows = rows(&outcome, &used, seconds);
    let what = format!(
        "{} visitors at {}/s, a poll every 5 s each, {} let in per second: the event × {scale}",
        grouped(VISITORS * scale),
        grouped(ARRIVALS * scale),
        grouped(ADMISSIONS * scale)
    );
    let parameters = json!({"scale": scale, "seconds": seconds, "redis": redis.is_some()});
    Ok(Report { facts, ..stage.report("mixed", what, parameters, rows) })
}

fn rows(outcome: &Outcome, used: &Used, seconds: f64) -> Vec<Row> {
    let share = |count: u64| count as f64 / outcome.sent.max(1) as f64;
    let kinds = KINDS.iter().zip(&outcome.latencies).filter(|(_, all)| !all.is_empty());
    let row = |(name, all): (&&str, _)| {
        let mut row = Row::named(name);
        row.tell(all);
        row.open.push(Open {
            rate: all.len() as f64 / seconds,
            late: share(outcome.late),
            held: share(outcome.held),
            busy: used.busy(),
            latencies: Latencies::of(all),
        });
        row
    };
    kinds.map(row).collect()
}

fn facts(event: &Event, outcome: &Outcome, used: &Used, seconds: f64, memory: Option<f64>) -> Vec<Fact> {
    let busy = used.busy();
    let mut facts = vec![
        Fact::new("visitors who came", event.visitors.len() as f64, ""),
        Fact::new("visitors who entered", event.entered as f64, ""),
        Fact::new("requests", outcome.sent as f64 / seconds, "/s"),
    ];
    let shares =
        [("CPU of Anteroom", busy.service), ("CPU of Redis", busy.store), ("CPU of the load", busy.load)];
    facts.extend(
        shares
            .iter()
            .filter_map(|(name, share)| Some(Fact::new(*name, share.as_ref()? * 100.0, "% of a core"))),
    );
    facts.extend(memory.map(|bytes| Fact::new("memory of Anteroom at the end", bytes, "bytes")));
    facts
}

/// Somebody who has come.
#[derive(Default)]
struct Visitor {
    ticket: String,
    position: u64,
    /// When the last question was due.
    due: u64,
}

/// The event's visitors and what they do next.
struct Event {
    schedule: Schedule,
    newcomer: Vec<u8>,
    limits: Vec<(String, String)>,
    visitors: Vec<Visitor>,
    /// Who polls when, the earliest first.
    polls: BinaryHeap<Reverse<(u64, usize)>>,
    /// Who has been called, and since when.
    called: VecDeque<(u64, usize)>,
    entered: u64,
    /// When is told next how far it has come.
    tell_at: u64,
}

impl Event {
    fn new(schedule: Schedule, newcomer: Vec<u8>, limits: &[(&str, &str)]) -> Self {
        Self {
            schedule,
            newcomer,
            limits: limits.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            visitors: Vec::new(),
            polls: BinaryHeap::new(),
            called: VecDeque::new(),
            entered: 0,
            tell_at: TOLD_EVERY,
        }
    }

    /// What falls due first: when, which kind, and who.
    fn first(&self) -> Option<(u64, u64, usize)> {
        let arrival =
            self.schedule.due(self.visitors.len() as u64).map(|at| (at, ARRIVE, self.visitors.len()));
        let poll = self.polls.peek().map(|Reverse((at, who))| (*at, POLL, *who));
        let enter = self.called.front().map(|(at, who)| (*at, ENTER, *who));
        [arrival, poll, enter].into_iter().flatten().min()
    }

    fn tell(&mut self, at: u64) {
        if at < self.tell_at {
            return;
        }
        let [came, entered] = [self.visitors.len() as f64, self.entered as f64].map(grouped);
        progress(&format!("after {} s: {came} came, {entered} entered", self.tell_at / SECOND));
        self.tell_at += TOLD_EVERY;
    }

    fn waits_on(&mut self, who: usize, position: u64) {
        let visitor = &mut self.visitors[who];
        visitor.position = position;
        visitor.due += EVERY;
        self.polls.push(Reverse((visitor.due, who)));
    }

    fn has_arrived(&mut self, who: usize, answer: &Answer) -> Result<(), String> {
        let denied = match Verdict::of(answer)? {
            Verdict::Ok(ok) => {
                self.entered += 1;
                return admitted(&ok, "event").map(|_| ());
            }
            Verdict::Denied(denied) => denied,
        };
        is_waiting(&denied)?;
        let told = Told::of(denied.body.as_bytes())?;
        let ticket =
            told.ticket.ok_or_else(|| format!("a newcomer should be given a ticket: {}", denied.body))?;
        ticket.clone_into(&mut self.visitors[who].ticket);
        self.waits_on(who, told.position);
        Ok(())
    }

    fn has_polled(&mut self, who: usize, answer: &Answer, at: u64) -> Result<(), String> {
        let told = Told::of(&answer.body)?;
        let before = self.visitors[who].position;
        match told.status {
            "waiting" if answer.status == 200 && told.position <= before => self.waits_on(who, told.position),
            "called" if answer.status == 200 => self.called.push_back((at, who)),
            _ => {
                return Err(format!(
                    "HTTP {}, {told:?}: it should wait at {before} or before, or be called",
                    answer.status
                ));
            }
        }
        Ok(())
    }

    fn has_entered(&mut self, answer: &Answer) -> Result<(), String> {
        self.entered += 1;
        match Verdict::of(answer)? {
            Verdict::Ok(ok) => admitted(&ok, "event").map(|_| ()),
            Verdict::Denied(denied) => Err(format!("called, and not let in: {}", denied.body)),
        }
    }
}

impl Script for Event {
    fn kinds(&self) -> usize {
        KINDS.len()
    }

    fn due(&mut self) -> Option<u64> {
        self.first().map(|(at, _, _)| at)
    }

    fn next(&mut self, ask: &mut Ask) {
        let Some((at, kind, who)) = self.first() else { return };
        ask.cookie.clear();
        ask.body.clear();
        ask.tag = (who as u64) << 2 | kind;
        ask.pool = usize::from(kind == POLL);
        match kind {
            ARRIVE => {
                ask.body.extend_from_slice(&self.newcomer);
                self.visitors.push(Visitor { due: at, ..Visitor::default() });
            }
            POLL => {
                self.polls.pop();
                ask.cookie.extend_from_slice(TICKET.as_bytes());
                ask.cookie.push(b'=');
                ask.cookie.extend_from_slice(self.visitors[who].ticket.as_bytes());
            }
            _ => {
                self.called.pop_front();
                let limits: Vec<_> =
                    self.limits.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                let token = Some((TICKET, self.visitors[who].ticket.as_str()));
                ask.body = Question { limits: &limits, accept: Accept::Json, token, bearer: None }.framed();
            }
        }
    }

    fn answered(&mut self, tag: u64, answer: &Answer, at: u64) -> Result<usize, String> {
        self.tell(at);
        let who = usize::try_from(tag >> 2).map_err(|error| error.to_string())?;
        match tag & 3 {
            ARRIVE => self.has_arrived(who, answer).map(|()| 0),
            POLL => self.has_polled(who, answer, at).map(|()| 1),
            _ => self.has_entered(answer).map(|()| 2),
        }
    }
}
