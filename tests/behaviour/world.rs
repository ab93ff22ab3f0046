//! A small world to test in: rooms over a watched store, with keys, metrics and a way to end.

use std::sync::Arc;
use std::time::Duration;

use anteroom::admin::AdminToken;
use anteroom::admin::operators::Operators;
use anteroom::authz::limits::LimitsReader;
use anteroom::authz::{Gate, GateParts};
use anteroom::client_address::Proxies;
use anteroom::clock::Clock;
use anteroom::cookie::CookiePolicy;
use anteroom::drain::{DrainTimes, Tasks};
use anteroom::guard::deny::Denials;
use anteroom::guard::{self, Guard};
use anteroom::identity::Identity;
use anteroom::page::Page;
use anteroom::position::cadence::Cadence;
use anteroom::position::entrance::Entrance;
use anteroom::position::tracer::TracerDesk;
use anteroom::position::{Desk, Streaming};
use anteroom::room::decision::Verdict;
use anteroom::room::gcra::Quota;
use anteroom::room::policy::Source;
use anteroom::room::token::{Key, KeyRing, Material};
use anteroom::rooms::visit::{Answer, Shown};
use anteroom::rooms::{Options, Room, Rooms};
use anteroom::routes::Routes;
use anteroom::store::memory::ledger::MemoryLedger;
use anteroom::telemetry::metrics::Metrics;
use anteroom::telemetry::trace::Tracer;
use futures_util::StreamExt as _;

use crate::policies::policy;
use crate::probe::Probe;

/// How long the tests' store calls may take.
pub(crate) const STORE_BUDGET: Duration = Duration::from_millis(20);
/// How long the tests' Checks may take.
pub(crate) const CHECK_BUDGET: Duration = Duration::from_millis(60);
/// How often the tests' rooms are ticked.
pub(crate) const TICK: Duration = Duration::from_millis(200);

/// Rooms over a watched store.
pub(crate) struct World {
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) probe: Arc<Probe>,
    pub(crate) metrics: Arc<Metrics>,
    tasks: Tasks,
    options: Options,
    clock: Clock,
    ledger: Arc<MemoryLedger>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) denials: Arc<Denials>,
    doors: Doors,
}

/// The gates before the client API.
#[derive(Clone, Default)]
pub(crate) struct Doors {
    pub(crate) join_limit: Option<Quota>,
    pub(crate) api_limit: Option<Quota>,
    pub(crate) identity: Option<Arc<Identity>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A world whose options are changed before it begins.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            tick: TICK,
            store_budget: STORE_BUDGET,
            ticket_ttl: 3_600_000,
            max_rooms: 100,
            max_streams: 100,
        };
        change(&mut options);
        let clock = Clock::system();
        let ledger = MemoryLedger::new(clock, Metrics::new(1).counting());
        Self::over(Probe::new(clock), Arc::new(ledger), options, clock, Doors::default())
    }

    /// A world with these gates before its client API.
    pub(crate) fn behind(doors: Doors) -> Self {
        let world = Self::new();
        Self::over(world.probe, world.ledger, world.options, world.clock, doors)
    }

    /// Another replica over the same store.
    pub(crate) fn beside(&self) -> Self {
        Self::over(self.probe.clone(), self.ledger.clone(), self.options, self.clock, self.doors.clone())
    }

    fn over(
        probe: Arc<Probe>,
        ledger: Arc<MemoryLedger>,
        options: Options,
        clock: Clock,
        doors: Doors,
    ) -> Self {
        let metrics = Arc::new(Metrics::new(options.max_rooms));
        let guarded = guard::Options { budget: STORE_BUDGET, checks: true };
        let guard = Arc::new(Guard::new(guarded, ledger.clone(), clock, &metrics));
        let mut rooms = Rooms::new(options, probe.clone(), ring(), clock, metrics.clone());
        if let Some(quota) = doors.join_limit {
            rooms = rooms.with_toll(Box::new(guard.clone().toll(quota)));
        }
        let rooms = Arc::new(rooms);
        let denials = Arc::new(Denials::new(metrics.guard()));
        Self { rooms, probe, metrics, tasks: Tasks::new(), options, clock, ledger, guard, denials, doors }
    }

    /// Ticks the rooms from now on.
    pub(crate) fn run(&mut self) {
        let (rooms, closing) = (self.rooms.clone(), self.tasks.shutdown().closing());
        self.tasks.spawn("feed", async move {
            rooms.feed(closing).await;
            Ok::<_, std::io::Error>(())
        });
    }

    /// Hears of other replicas from now on, and follows what operators deny.
    pub(crate) fn run_guard(&mut self) {
        let (guard, denials) = (self.guard.clone(), self.denials.clone());
        let (heard, closing) = (guard.clone(), self.tasks.shutdown());
        self.tasks.spawn("guard", async move {
            tokio::join!(heard.tend(closing.closing()), guard.follow_shared(denials, closing.closing()));
            Ok::<_, std::io::Error>(())
        });
    }

    /// Begins to end the process: streams are sent elsewhere.
    pub(crate) fn drain(&mut self) {
        let mut tasks = std::mem::replace(&mut self.tasks, Tasks::new());
        let streaming = self.desk_of(&tasks).streaming;
        tasks.spawn("streams", async move {
            streaming.end().await;
            Ok::<_, std::io::Error>(())
        });
        let times = DrainTimes { lead: Duration::ZERO, grace: Duration::from_secs(10) };
        let stops = futures_util::stream::iter(["the test"]).chain(futures_util::stream::pending());
        tokio::spawn(tasks.run_until_drained(times, stops));
    }

    pub(crate) fn room(&self, words: &str) -> Arc<Room> {
        self.rooms.room_with(&policy(words), Source::ContextExtensions).unwrap()
    }

    pub(crate) fn operators(&self, token: Option<AdminToken>) -> Operators {
        Operators::new(self.rooms.clone(), self.guard.clone(), self.denials.clone(), token)
    }

    pub(crate) fn tracer_desk(&self, routes: Arc<Routes>) -> TracerDesk {
        TracerDesk { rooms: self.rooms.clone(), routes, entrance: self.entrance() }
    }

    fn entrance(&self) -> Arc<Entrance> {
        Arc::new(Entrance {
            rooms: self.rooms.clone(),
            denials: self.denials.clone(),
            guard: self.guard.clone(),
            identity: self.doors.identity.clone(),
            api_limit: self.doors.api_limit,
            proxies: self.proxies(),
            budget: CHECK_BUDGET,
        })
    }

    pub(crate) fn desk(&self) -> Desk {
        self.desk_of(&self.tasks)
    }

    fn desk_of(&self, tasks: &Tasks) -> Desk {
        let cadence = Cadence::default();
        let (rooms, shutdown) = (self.rooms.clone(), tasks.shutdown());
        let streaming = Arc::new(Streaming { rooms: rooms.clone(), cadence, shutdown });
        Desk {
            rooms,
            cookies: CookiePolicy { secure: true, domain: None },
            entrance: self.entrance(),
            streaming,
        }
    }

    /// No proxy stands before the one that asks.
    fn proxies(&self) -> Arc<Proxies> {
        Arc::new(Proxies::new(0, self.metrics.guard()))
    }

    pub(crate) fn gate(&self, max_checks: usize) -> Gate {
        self.gate_over(Routes::new(Vec::new()), max_checks)
    }

    /// A gate with a rooms file.
    pub(crate) fn gate_over(&self, routes: Routes, max_checks: usize) -> Gate {
        Gate::new(self.parts(routes, max_checks))
    }

    /// A gate that knows users by their tokens.
    pub(crate) fn gate_knowing(&self, identity: Arc<Identity>) -> Gate {
        Gate::new(GateParts { identity: Some(identity), ..self.parts(Routes::default(), 100) })
    }

    fn parts(&self, routes: Routes, max_checks: usize) -> GateParts {
        GateParts {
            rooms: self.rooms.clone(),
            limits: LimitsReader::new(Arc::new(routes)),
            cookies: CookiePolicy { secure: true, domain: None },
            page: Page::builtin(),
            tracer: Tracer::off(),
            budget: CHECK_BUDGET,
            max_checks,
            proxies: self.proxies(),
            denials: self.denials.clone(),
            guard: self.guard.clone(),
            identity: self.doors.identity.clone(),
        }
    }

    /// The value of a metric, by its name and labels as they stand in the text; 0 where there is none.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub(crate) async fn check(&self, words: &str, shown: &Shown) -> Verdict {
        self.rooms.check(&policy(words), Source::ContextExtensions, false, shown).await
    }
}

/// The keys of every world, so that tokens of one hold in another.
pub(crate) fn ring() -> KeyRing {
    let ed25519 = include_str!("../data/ed25519.pem").to_owned();
    KeyRing::new(&[
        Key { kid: "test".into(), material: Material::Hs256(vec![7; 32]) },
        Key { kid: "backend".into(), material: Material::EdDsa(ed25519) },
    ])
    .unwrap()
}

pub(crate) fn ticket(token: &str) -> Shown {
    Shown { tickets: vec![token.to_owned()], ..Shown::default() }
}

pub(crate) fn pass(token: &str) -> Shown {
    Shown { passes: vec![token.to_owned()], ..Shown::default() }
}

/// The ticket an answer brings.
pub(crate) fn ticket_of(answer: &Answer) -> Shown {
    ticket(&answer.ticket.as_ref().expect("a ticket").token)
}

/// The pass an answer brings.
pub(crate) fn pass_of(answer: &Answer) -> Shown {
    pass(&answer.pass.as_ref().expect("a pass").token)
}
