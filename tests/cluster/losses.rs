//! The room's master dies, hangs, cannot be reached or forgets everything, under load.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::crowd::{Crowd, Left, Manner, Waits};
use crate::door::{Door, Place, Tokens, Told};
use crate::figures::Figures;
use crate::fleet::Fleet;
use crate::ledger::{self, Event, Ledger, STALE, Way};
use crate::redis::cluster::Cluster;
use crate::redis::until;

const CAPACITY: usize = 30;
const RATE: f64 = 10.0;
const BURST: f64 = 10.0;
/// Arrivals in each of the rooms on the other shards, a second.
const ELSEWHERE: u32 = 50;
/// How long all is well before the blow.
const BEFORE: Duration = Duration::from_secs(6);
/// How long what hangs or is cut off stays so.
const HELD_DOWN: Duration = Duration::from_secs(10);
/// How long it may take until a replica stands in for its master, and the service has found it.
const PROMOTED: Duration = Duration::from_secs(7);
/// What holds again after a blow holds at the latest then.
const HEALED: Duration = Duration::from_secs(30);

/// What befalls the room's master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Killed,
    Hung,
    CutOff,
    Flushed,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute: make chaos"]
async fn the_master_is_killed() {
    survives(Blow::Killed, 20, "The room's master is killed (`kill -9`)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute: make chaos"]
async fn the_master_hangs() {
    survives(Blow::Hung, 30, "The room's master hangs for 10 s (SIGSTOP)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute: make chaos"]
async fn the_master_is_cut_off() {
    survives(Blow::CutOff, 40, "The room's master cannot be reached for 10 s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute: make chaos"]
async fn everything_is_flushed() {
    survives(Blow::Flushed, 50, "All masters forget everything (FLUSHALL)").await;
}

async fn survives(blow: Blow, order: u32, title: &str) {
    let cluster = match blow {
        Blow::CutOff => Cluster::proxied().await,
        _ => Cluster::start().await,
    };
    let [room, others @ ..] = cluster.rooms_on_each_shard();
    let mut rooms = format!(
        "rooms:\n  {room}:\n    capacity: {CAPACITY}\n    rate: {RATE}/s\n    burst: {BURST}\n    session_ttl: 40s\n"
    );
    for other in &others {
        rooms.extend(["  ", other, ":\n    capacity: 0\n"]);
    }
    let fleet = Fleet::serving(&format!("{blow:?}").to_lowercase(), &cluster.url(), &rooms, 2).await;
    let manner = Manner {
        poll: Duration::from_millis(500),
        look: Duration::from_millis(500),
        stay: Duration::from_secs(5),
    };
    let mut crowd = Crowd::new(&room, fleet.doors(), manner);
    let elsewhere: Vec<_> = others.iter().map(|other| Flow::start(other, fleet.doors())).collect();
    crowd.come(100, Duration::from_secs(2), Waits::Polling).await;
    crowd.come(100, Duration::from_secs(2), Waits::Watching).await;
    sleep(BEFORE).await;

    let ledger = crowd.ledger.clone();
    let struck = ledger.now();
    let since: Vec<_> = elsewhere.iter().map(|flow| flow.ledger.now()).collect();
    let hurt = strike(blow, &cluster, &room);
    let newcomers = crowd.come(150, Duration::from_secs(15), Waits::Polling);
    tokio::join!(hurt, newcomers);
    until("arrivals and calls go on", HEALED, || async { goes_on(&ledger.events(), struck).then_some(()) })
        .await;
    sleep(Duration::from_secs(3)).await;
    let ended: Vec<_> = elsewhere.iter().map(|flow| flow.ledger.now()).collect();
    let flows: Vec<Vec<Event>> = elsewhere.into_iter().map(Flow::stop).collect();
    let left = crowd.ends().await;
    let told = ask_all(&room, &fleet.doors(), &left).await;

    let events = ledger.events();
    let wrong = Judged { events: &events, struck, blow }.breaches(&told);
    let mut figures = Figures::new(order, title);
    tell(&mut figures, &events, struck);
    let mut slow = Vec::new();
    for (index, flow) in flows.iter().enumerate() {
        let rate = |from: Duration, to: Duration| per_second(flow, from, to);
        let calm = rate(since[index].saturating_sub(BEFORE), since[index]);
        let down = since[index] + Duration::from_secs(8).min(ended[index].saturating_sub(since[index]));
        let during = rate(since[index], down);
        figures.row(
            &format!("arrivals/s on another shard ({}), before → during", others[index]),
            format!("{calm:.1} → {during:.1}"),
        );
        if during < 0.9 * calm {
            slow.push(format!("{}: {calm:.1} arrivals/s before, {during:.1} during", others[index]));
        }
        for ((_, why), count) in ledger::failures(flow) {
            figures.row(&format!("{}: {why}, of {}", others[index], flow.len()), count);
        }
    }
    figures.keep();
    let wrong: Vec<_> = wrong.into_iter().chain(slow).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn strike(blow: Blow, cluster: &Cluster, room: &str) {
    let master = cluster.master_of(room);
    match blow {
        Blow::Killed => master.kill9(),
        Blow::Flushed => cluster.flushall(),
        Blow::Hung => {
            master.stop();
            sleep(HELD_DOWN).await;
            master.cont();
        }
        Blow::CutOff => {
            let proxy = cluster.proxy_of(room);
            proxy.cut();
            sleep(HELD_DOWN).await;
            proxy.heal();
        }
    }
}

/// Whether newcomers get numbers and somebody was called, some seconds after the blow.
fn goes_on(events: &[Event], struck: Duration) -> bool {
    let recent = events.iter().filter(|event| event.sent > struck + Duration::from_secs(5));
    let (mut arrived, mut called) = (false, false);
    for event in recent {
        arrived |= event.way == Way::Arrive && event.place.is_some();
        called |= event.way == Way::Enter && event.told == Some(Told::Inside);
    }
    arrived && called
}

/// Where everybody stands who still waits, at each replica: asked until nothing moves any more. Nobody leaves now, so
/// calls end when the room is full.
async fn ask_all(room: &str, doors: &[Door], left: &Left) -> Vec<BTreeMap<Place, Told>> {
    let waits = |told: &Told| matches!(told, Told::Waiting(_));
    let waiting: Vec<&Tokens> =
        left.iter().filter(|(_, told)| waits(told)).map(|(tokens, _)| tokens).collect();
    let before = RefCell::new(Vec::new());
    until("the line stands still", HEALED, || async {
        let mut all = Vec::new();
        for door in doors {
            let mut told = BTreeMap::new();
            for tokens in &waiting {
                if let Some(place) = tokens.place() {
                    told.insert(place, door.poll(room, tokens).await.told);
                }
            }
            all.push(told);
        }
        let stands = *before.borrow() == all;
        before.replace(all);
        stands.then_some(())
    })
    .await;
    before.into_inner()
}

struct Judged<'a> {
    events: &'a [Event],
    struck: Duration,
    blow: Blow,
}

impl Judged<'_> {
    /// Every rule that was broken.
    fn breaches(&self, told: &[BTreeMap<Place, Told>]) -> Vec<String> {
        let mut wrong = Vec::new();
        let stories = ledger::stories(self.events).unwrap_or_else(|why| {
            wrong.push(format!("a place was lost: {why}"));
            BTreeMap::new()
        });
        // Replicas that cannot ask hold an old snapshot: until then somebody called may be told to wait.
        let stale = STALE
            + match self.blow {
                Blow::Flushed => Duration::ZERO,
                Blow::Killed | Blow::Hung => PROMOTED,
                Blow::CutOff => HELD_DOWN,
            };
        let mut rule = |name: &str, verdict: Result<(), String>| {
            if let Err(why) = verdict {
                wrong.push(format!("{name}: {why}"));
            }
        };
        rule("numbers", ledger::numbers(&stories, false));
        rule("order", ledger::order(&stories, stale));
        rule("capacity", ledger::capacity(&stories, CAPACITY).map(drop));
        rule("rate", ledger::rate(&stories, RATE, BURST, None));
        if self.blow != Blow::Flushed {
            rule("positions", ledger::positions(self.events, stale).map(drop));
        }
        for told in told {
            rule("the line at the end", ledger::standings(told));
        }
        for ((way, why), count) in ledger::failures(self.events) {
            // An arrival and a call taken up need the store; what is held asks again.
            let may_wait = why == "held" && [Way::Arrive, Way::Enter].contains(&way);
            if !may_wait {
                wrong.push(format!("{way:?} failed {count} times: {why}"));
            }
        }
        let late = self.events.iter().rev().find(|event| event.told == Some(Told::Held));
        if let Some(late) = late.filter(|late| late.received > self.struck + HEALED) {
            wrong.push(format!("still held at {:?}", late.received));
        }
        wrong
    }
}

fn tell(figures: &mut Figures, events: &[Event], struck: Duration) {
    let after: Vec<_> = events.iter().filter(|event| event.sent >= struck).collect();
    let count = |way: Way| after.iter().filter(|event| event.way == way).count();
    for (way, what) in [(Way::Pass, "passes shown"), (Way::Poll, "polls"), (Way::Stream, "stream events")] {
        figures.row(&format!("{what} after the blow"), count(way));
    }
    for ((way, why), count) in ledger::failures(events) {
        figures.row(&format!("{way:?}: {why}"), count);
    }
    let given = after.iter().filter(|event| event.way == Way::Arrive && event.place.is_some());
    figures.row("longest time in which no newcomer got a number", longest_pause(given, struck));
    let entered = after.iter().filter(|event| event.way == Way::Enter && event.told == Some(Told::Inside));
    figures.row("longest time in which nobody entered", longest_pause(entered, struck));
}

fn longest_pause<'a>(events: impl Iterator<Item = &'a &'a Event>, from: Duration) -> String {
    let (_, longest) = events.fold((from, Duration::ZERO), |(last, longest), event| {
        (event.received, longest.max(event.received.saturating_sub(last)))
    });
    format!("{:.1} s", longest.as_secs_f64())
}

/// A steady flow of newcomers into a room where everybody waits.
struct Flow {
    ledger: Arc<Ledger>,
    task: JoinHandle<()>,
}

impl Flow {
    fn start(room: &str, doors: Vec<Door>) -> Self {
        let (ledger, room) = (Arc::new(Ledger::new()), room.to_owned());
        let noted = ledger.clone();
        let task = tokio::spawn(async move {
            let mut beat = interval(Duration::from_secs(1) / ELSEWHERE);
            // What is late is made up for: the load stays what it is.
            beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut visitors = tokio::task::JoinSet::new();
            for id in 0.. {
                beat.tick().await;
                let (ledger, room, door) = (noted.clone(), room.clone(), doors[id % doors.len()].clone());
                visitors.spawn(async move {
                    let sent = ledger.now();
                    let answer = door.check(&room, &Tokens::default()).await;
                    ledger.answered(id, Way::Arrive, door.index, sent, &answer);
                });
                while visitors.try_join_next().is_some() {}
            }
        });
        Self { ledger, task }
    }

    fn stop(self) -> Vec<Event> {
        self.task.abort();
        self.ledger.events()
    }
}

/// How many got a number a second.
fn per_second(events: &[Event], from: Duration, to: Duration) -> f64 {
    let given =
        events.iter().filter(|event| event.place.is_some() && (from..to).contains(&event.received)).count();
    given as f64 / to.saturating_sub(from).as_secs_f64()
}
