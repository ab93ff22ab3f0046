//! The twins: a room as the model has it and as Redis has it, driven together.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::HandClock;
use anteroom::room::bits::Bits;
use anteroom::room::line::MARGIN;
use anteroom::room::name::RoomName;
use anteroom::room::policy::Policy;
use anteroom::room::rate::{Period, Rate};
use anteroom::room::snapshot::Snapshot;
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Control, Hints, Limits, Newcomer, Outcome, State};
use anteroom::store::redis::RedisStore;
use anteroom::store::redis::shards::{Health, Shards, Timing};
use anteroom::store::target::Target;
use anteroom::store::{Store, StoreError};
use anteroom::telemetry::metrics::shards::ShardMetrics;

use crate::plain::plain;
use crate::redis_server::resp::Reply;
use crate::redis_server::server::Server;

/// The limits that a history may have, and change between.
pub(crate) const POLICIES: [&str; 8] = [
    "capacity=2 session_ttl=20s claim_ttl=8s patience=10s",
    "rate=2/s burst=3 session_ttl=20s claim_ttl=8s patience=10s",
    "capacity=5 rate=60/m burst=2 patience=20s identity=subject",
    "capacity=0",
    "rate=0/s patience=4s",
    "capacity=40 session_ttl=3s claim_ttl=2s patience=3s",
    "rate=7/h burst=70 claim_ttl=31d",
    "mode=off capacity=1",
];

/// Something done to both.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// So many strangers, then users with whether they come anew.
    Arrive(u16, Vec<(u16, bool)>),
    /// Tickets are shown.
    Enter(Vec<Pick>),
    /// Passes are shown.
    Touch(Vec<Pick>),
    /// Places, with a pass or by ticket, are given up.
    Leave(Vec<(Pick, bool)>),
    /// The pages of these go away, each with its grace.
    Away(Vec<(Pick, u16)>),
    /// The places whose bit is set (modulo 64) are heard of; the replica's snapshot may be written back.
    Observe(u64, bool),
    /// An operator's doing.
    Pause(bool),
    /// Capacity, rate per second, burst.
    Limit(Option<u8>, Option<u8>, Option<u8>),
    /// A new generation.
    Reset,
    /// The limits stated from now on.
    Policy(usize),
    /// Everything is lost.
    Wipe,
    /// The room is on another server.
    Move,
    /// A copy is taken; it comes back on another server.
    Save,
    Rollback,
    /// The clock is set back by so many milliseconds.
    Back(u32),
}

/// A place that was told to somebody, or one made up from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pick {
    pub(crate) index: u8,
    pub(crate) number: i16,
    pub(crate) generation: i8,
}

/// Who calls, and what becomes of the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// Which replica.
    pub(crate) replica: u8,
    /// Whether it states the limits.
    pub(crate) states: bool,
    /// The answer never arrives.
    pub(crate) deaf: bool,
    /// The call is made twice.
    pub(crate) twice: bool,
}

#[derive(Clone, Default)]
struct Replica {
    hints: Hints,
    snapshot: Option<Snapshot>,
}

/// A server with a store on it, for many histories.
pub(crate) struct Bench {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) server: Server,
    pub(crate) store: RedisStore,
    pub(crate) clock: HandClock,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(true)
    }

    /// One whose server tells the time itself.
    pub(crate) fn in_real_time() -> Self {
        Self::with(false)
    }

    fn with(by_hand: bool) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let clock = HandClock::at(0);
        let (server, store) = runtime.block_on(async {
            let server = Server::start().await;
            let target = Target::parse(&server.url()).unwrap();
            let timing = Timing::with_budget(Duration::from_secs(20));
            let shards = Shards::connect(&target, timing, ShardMetrics::unregistered()).unwrap();
            shards.health().wait_for(Health::all_served).await.unwrap();
            (server, RedisStore::with_clock(shards, 10, by_hand.then(|| clock.clone())))
        });
        Self { runtime, server, store, clock }
    }
}

/// A room's name, keys and what they hold.
type Dump = Vec<(String, Vec<u8>)>;

pub(crate) struct Twins<'a> {
    bench: &'a Bench,
    room: RoomName,
    now: u64,
    policy: Arc<Policy>,
    model: Option<State>,
    /// The model is to wake on another server at the next call.
    moved: bool,
    moves: u32,
    copy: Option<(State, Dump)>,
    replicas: [Replica; 3],
    /// Told to somebody, with the end of the pass.
    places: Vec<(Place, u64)>,
}

impl<'a> Twins<'a> {
    pub(crate) fn new(bench: &'a Bench, policy: usize) -> Self {
        bench.server.command(&["FLUSHALL"]);
        Self {
            bench,
            room: RoomName::parse("shop").unwrap(),
            now: 1_700_000_000_000,
            policy: parse(policy),
            model: None,
            moved: false,
            moves: 0,
            copy: None,
            replicas: std::array::from_fn(|_| Replica::default()),
            places: Vec::new(),
        }
    }

    /// Does it to both; an error says where they differ.
    pub(crate) fn step(&mut self, pause: u64, caller: Caller, op: &Op) -> Result<(), String> {
        self.now += pause;
        for _ in 0..=u8::from(caller.twice) {
            self.once(caller, op)?;
        }
        Ok(())
    }

    fn once(&mut self, caller: Caller, op: &Op) -> Result<(), String> {
        self.bench.clock.set(self.now);
        let call =
            Call { policy: caller.states.then(|| self.policy.clone()), hints: self.replica(caller).hints };
        match op {
            Op::Policy(which) => self.policy = parse(*which),
            Op::Back(ms) => self.now -= u64::from(*ms),
            Op::Wipe => {
                self.bench.server.command(&["FLUSHALL"]);
                (self.model, self.moved) = (None, false);
            }
            Op::Move => self.moved = self.model.is_some(),
            Op::Save => self.copy = self.model.clone().map(|model| (model, self.dump())),
            Op::Rollback => self.roll_back(),
            _ => return self.call(caller, &call, op),
        }
        Ok(())
    }

    fn call(&mut self, caller: Caller, call: &Call, op: &Op) -> Result<(), String> {
        self.wake(call);
        let (bench, room, now) = (self.bench, self.room.clone(), self.now);
        let (run, store) = (&bench.runtime, &bench.store);
        match op {
            Op::Arrive(strangers, users) => {
                let mut newcomers = vec![Newcomer::default(); usize::from(*strangers)];
                newcomers.extend(users.iter().map(|(user, anew)| Newcomer {
                    subject: Some(crate::users::subject((*user).into())),
                    anew: *anew,
                }));
                // Strangers behind users, too.
                newcomers.rotate_left(usize::from(*strangers) / 2);
                let there = run.block_on(store.arrive(&room, call, &newcomers));
                let here = self.model.as_mut().map(|model| model.arrive(call, &newcomers, now));
                let outcomes = same("arrive", here, there)?;
                self.told(caller, &outcomes);
            }
            Op::Enter(picks) => {
                let places: Vec<_> = picks.iter().map(|pick| self.pick(*pick).0).collect();
                let there = run.block_on(store.enter(&room, call, &places));
                let here = self.model.as_mut().map(|model| model.enter(call, &places, now));
                let outcomes = same("enter", here, there)?;
                self.told(caller, &outcomes);
            }
            Op::Touch(picks) => {
                let passes: Vec<_> = picks.iter().map(|pick| self.pick(*pick)).collect();
                let there = run.block_on(store.touch(&room, call, &passes));
                let here = self.model.as_mut().map(|model| model.touch(call, &passes, now));
                same("touch", here, there)?;
            }
            Op::Leave(picks) => {
                let leaving: Vec<_> = picks
                    .iter()
                    .map(|(pick, by_pass)| (self.pick(*pick), by_pass))
                    .map(|((place, until), by_pass)| (place, by_pass.then_some(until)))
                    .collect();
                let there = run.block_on(store.leave(&room, call, &leaving));
                let here = self.model.as_mut().map(|model| model.leave(call, &leaving, now));
                same("leave", here, there)?;
            }
            Op::Away(picks) => {
                let away: Vec<_> =
                    picks.iter().map(|(pick, grace)| (self.pick(*pick).0, u64::from(*grace))).collect();
                let there = run.block_on(store.away(&room, call, &away));
                let here = self.model.as_mut().map(|model| model.away(call, &away, now));
                same("away", here, there)?;
            }
            Op::Observe(mask, write_back) => {
                let beats = self.beats(*mask);
                let known = self.replica(caller).snapshot.clone().filter(|_| *write_back);
                let there = run.block_on(store.observe(&room, call, &beats, known.as_ref()));
                let there = there.inspect(|snapshot| self.seen(caller, snapshot)).map(|s| plain(&s));
                let here =
                    self.model.as_mut().map(|model| plain(&model.observe(call, &beats, known.as_ref(), now)));
                same("observe", here, there)?;
            }
            Op::Pause(true) => self.control(call, &Control::Pause)?,
            Op::Pause(false) => self.control(call, &Control::Resume)?,
            Op::Reset => self.control(call, &Control::Reset)?,
            Op::Limit(capacity, rate, burst) => {
                let limits = Limits {
                    capacity: capacity.map(u32::from),
                    rate: rate.map(|count| Rate { count: u32::from(count), period: Period::Second }),
                    burst: burst.map(|burst| u32::from(burst) + 1),
                };
                self.control(call, &Control::Limits(limits))?;
            }
            Op::Policy(_) | Op::Wipe | Op::Move | Op::Save | Op::Rollback | Op::Back(_) => {}
        }
        self.compare(caller)
    }

    /// After every call: what is not in its answer must be the same, too. It is the tick of some replica.
    fn compare(&mut self, caller: Caller) -> Result<(), String> {
        let call = Call::default();
        let there =
            self.bench.runtime.block_on(self.bench.store.observe(&self.room, &call, &Beats::new(), None));
        let there = there.map(|snapshot| {
            if !caller.deaf {
                self.seen(caller, &snapshot);
            }
            plain(&snapshot)
        });
        let here =
            self.model.as_mut().map(|model| plain(&model.observe(&call, &Beats::new(), None, self.now)));
        same("then", here, there).map(drop)
    }

    /// Makes the model where Redis will make the room, and moves it where the server has changed.
    fn wake(&mut self, call: &Call) {
        if self.model.is_none() {
            self.model = call.policy.clone().map(|policy| State::new(policy, self.now));
        } else if std::mem::take(&mut self.moved)
            && let Some(model) = &mut self.model
        {
            self.moves += 1;
            let home = format!("elsewhere{}", self.moves);
            self.bench.server.command(&["HSET", "anteroom:{shop}:room", "home", &home]);
            model.resume(model.next() + MARGIN, self.now);
        }
    }

    fn control(&mut self, call: &Call, control: &Control) -> Result<(), String> {
        let there = self.bench.runtime.block_on(self.bench.store.control(&self.room, call, control.clone()));
        let here = self.model.as_mut().map(|model| model.control(call, control.clone(), self.now));
        same("control", here, there).map(drop)
    }

    fn replica(&mut self, caller: Caller) -> &mut Replica {
        &mut self.replicas[usize::from(caller.replica) % 3]
    }

    fn told(&mut self, caller: Caller, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let (place, until) = match outcome {
                Outcome::Admitted(place, until) => (*place, *until),
                Outcome::Waiting(place, _) | Outcome::Gone(place) => (*place, self.now),
            };
            match self.places.iter_mut().find(|(known, _)| *known == place) {
                Some(known) => known.1 = known.1.max(until),
                None => self.places.push((place, until)),
            }
            if !caller.deaf && !matches!(outcome, Outcome::Gone(_)) {
                let hints = &mut self.replica(caller).hints;
                let Place { generation, number } = place;
                if generation == hints.generation {
                    hints.next = hints.next.max(number + 1);
                }
            }
        }
        // The latest are the interesting ones; of a crowd a few are enough.
        let surplus = self.places.len().saturating_sub(200);
        self.places.drain(..surplus);
    }

    fn seen(&mut self, caller: Caller, snapshot: &Snapshot) {
        let Some(line) = snapshot.lines.last() else { return };
        let replica = self.replica(caller);
        replica.hints =
            Hints { generation: line.generation, next: line.next, head: line.head, floor: snapshot.floor };
        replica.snapshot = Some(snapshot.clone());
    }

    fn pick(&self, pick: Pick) -> (Place, u64) {
        let nobody = (Place { generation: self.now - 1_000, number: 7 }, self.now + 5_000);
        let from_the_end = usize::from(pick.index) % self.places.len().max(1);
        let (place, until) = self.places.iter().rev().nth(from_the_end).copied().unwrap_or(nobody);
        let generation = place.generation.saturating_add_signed(i64::from(pick.generation)).max(1);
        let number = place.number.saturating_add_signed(i64::from(pick.number)).max(1);
        (Place { generation, number }, until)
    }

    fn beats(&self, mask: u64) -> Beats {
        let mut beats = Beats::new();
        for (place, _) in self.places.iter().filter(|(place, _)| mask >> (place.number % 64) & 1 == 1) {
            let known = beats.iter().position(|(generation, _)| *generation == place.generation);
            let at = known.unwrap_or(beats.len());
            if known.is_none() {
                beats.push((place.generation, Bits::default()));
            }
            beats[at].1.insert(place.number);
        }
        beats
    }

    fn dump(&self) -> Dump {
        let bytes = |key: &String| match self.bench.server.reply(&["DUMP", key]) {
            Reply::Text(bytes) => bytes,
            other => panic!("a dump of {key} expected, {other:?} came"),
        };
        self.bench.server.keys().iter().map(|key| (key.clone(), bytes(key))).collect()
    }

    fn roll_back(&mut self) {
        let Some((model, dump)) = self.copy.clone() else { return };
        self.bench.server.command(&["FLUSHALL"]);
        for (key, bytes) in dump {
            self.bench.server.command(&[b"RESTORE".as_slice(), key.as_bytes(), b"0", &bytes]);
        }
        (self.model, self.moved) = (Some(model), true);
    }
}

fn parse(which: usize) -> Arc<Policy> {
    let pairs = POLICIES[which % POLICIES.len()].split_whitespace().filter_map(|word| word.split_once('='));
    Arc::new(Policy::parse(pairs.chain([("room", "shop")])).unwrap())
}

/// What both answered, if it is the same.
fn same<T: PartialEq + std::fmt::Debug + Default>(
    what: &str,
    here: Option<T>,
    there: Result<T, StoreError>,
) -> Result<T, String> {
    match (here, there) {
        (Some(here), Ok(there)) if here == there => Ok(here),
        (None, Err(StoreError::NoRoom(_))) => Ok(T::default()),
        (here, there) => Err(format!("{what}:\n model {here:?}\n redis {there:?}")),
    }
}
