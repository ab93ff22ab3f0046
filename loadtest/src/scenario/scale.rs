//! `scale`: one very long line with several replicas, and very many rooms, over a real Redis; and what these figures
//! come to for 100 replicas.

use std::time::{Duration, Instant};

use anteroom::room::bits::Bits;
use anteroom::room::name::RoomName;
use anteroom::room::state::{Beats, Call};
use anteroom::store::redis::RedisStore;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::line::{Copy, closed_room, connect, fill, limits};
use super::{Stage, memory, runtime};
use crate::bench::{Used, Watched};
use crate::cli::Size;
use crate::drive::histogram;
use crate::figures::Latencies;
use crate::progress::progress;
use crate::question::{Accept, Question, Verdict, is_waiting};
use crate::redis::server::Server;
use crate::report::table::grouped;
use crate::report::{Fact, Report};
use crate::service::Service;
use crate::{Failed, cores, process, stop};

/// How often a replica renews its copy of a line: the program's default.
const TICK: Duration = Duration::from_millis(200);
/// How many replicas the figures are computed for.
const MANY: f64 = 100.0;
/// How often each of those who wait asks where they stand, where they are heard of.
const EVERY: f64 = 10.0;
/// Until a service has seen all its rooms.
const SETTLE: Duration = Duration::from_secs(2);

/// How long Redis may take to tell what it has sent.
const PATIENCE: Duration = Duration::from_secs(20);

type Room = (RoomName, Call);

pub(super) fn run(mut stage: Stage, size: &Size) -> Result<Report, Failed> {
    let redis = stage.redis()?;
    let mut facts = long_line(&stage, &redis, size)?;
    facts.extend(whole_replica(&mut stage, &redis, size)?);
    drop(redis);
    let redis = stage.redis()?;
    facts.extend(many_rooms(&mut stage, &redis, size)?);
    let [line, rooms, each] = [size.line as f64, size.rooms.into(), size.each as f64].map(grouped);
    let what = format!(
        "one line of {line} with up to {} replicas; {rooms} rooms with {each} waiting in each; over one Redis",
        size.replicas
    );
    let parameters = json!({
        "line": size.line, "replicas": size.replicas, "rooms": size.rooms, "each": size.each,
        "seconds": size.seconds,
    });
    let notes = vec![
        "computed: a tick every 200 ms of each replica, at the cost of the most that kept up".to_owned(),
        "Redis has the service's core while replicas share the load's, and the load's beside the program"
            .to_owned(),
    ];
    Ok(Report { facts, notes, ..stage.report("scale", what, parameters, Vec::new()) })
}

/// Replicas that do nothing but renew their copies of the line, through the store that the program has.
fn long_line(stage: &Stage, redis: &Server, size: &Size) -> Result<Vec<Fact>, Failed> {
    place(redis, stage.cores.map(|cores| cores.service))?;
    runtime()?.block_on(async {
        let room = closed_room("line")?;
        let first = connect(&redis.url()).await?;
        progress(&format!("{} visitors take their places", grouped(size.line as f64)));
        fill(&first, &room, size.line).await?;
        let copy = Copy::default();
        copy.renew(&first, &room, &Beats::new()).await?;
        if copy.waiting() != size.line {
            return Err(Failed(format!("{} wait; it should be {}", copy.waiting(), size.line)));
        }
        first.close().await;
        let mut facts = Vec::new();
        for heard in [false, true] {
            let who = if heard { "all ask every 10 s" } else { "nobody asks anything" };
            let of = format!("one line of {}, {who}", grouped(size.line as f64));
            let mut computed = Vec::new();
            for replicas in steps(size.replicas) {
                let beats = |replica| {
                    if !heard {
                        return Beats::new();
                    }
                    let each = size.line as f64 / EVERY * TICK.as_secs_f64() / f64::from(replicas);
                    vec![(copy.generation(), some_of(size.line, each, u64::from(replica)))]
                };
                let some =
                    if replicas == 1 { "1 replica".to_owned() } else { format!("{replicas} replicas") };
                progress(&format!("{some}, {who}"));
                let step = Step::measure(redis, &room, size, replicas, beats).await?;
                let told = step.facts().into_iter().map(|fact| fact.of(format!("{of}, {some}")));
                facts.extend(told);
                // Beyond what Redis can do, a tick's cost says nothing of the next one's.
                if computed.is_empty() || step.kept_up(replicas) {
                    computed = step.computed();
                }
            }
            facts.extend(computed.into_iter().map(|fact| fact.of(format!("{of}, computed"))));
        }
        Ok(facts)
    })
}

/// 1, 4, 16 … and the most.
fn steps(most: u32) -> Vec<u32> {
    let mut steps: Vec<u32> = std::iter::successors(Some(1), |step: &u32| step.checked_mul(4))
        .take_while(|step| *step < most)
        .collect();
    steps.push(most);
    steps
}

/// About so many numbers of a line, picked here and there.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count of visitors
fn some_of(line: u64, count: f64, seed: u64) -> Bits {
    let mut bits = Bits::default();
    let mut random = seed.wrapping_add(1);
    for _ in 0..count.ceil() as u64 {
        // Knuth's generator; its upper bits are the better ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bits.insert(1 + (random >> 16) % line);
    }
    bits
}

/// Lets Redis run on this core.
fn place(redis: &Server, core: Option<usize>) -> Result<(), Failed> {
    let Some(core) = core else { return Ok(()) };
    cores::move_to(redis.pid(), core)
        .map_err(|error| Failed(format!("Redis cannot be moved to core {core}: {error}")))
}

/// What Redis has used and sent so far.
struct Spent {
    cpu: f64,
    sent: f64,
    received: f64,
    own: f64,
}

impl Spent {
    fn so_far(redis: &Server) -> Result<Self, Failed> {
        // A busy Redis takes its time.
        let stats =
            redis.ask(&["INFO", "stats"], PATIENCE).map_err(|why| Failed(format!("Redis: INFO: {why}")))?;
        let stats = stats.to_string();
        let count = |name: &str| {
            let told = stats.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
            told.and_then(|text| text.parse().ok())
                .ok_or_else(|| Failed(format!("Redis: INFO tells no {name}")))
        };
        let cpu = |pid| process::time(pid).map_or(0.0, |time| time.cpu.as_secs_f64());
        Ok(Self {
            cpu: cpu(redis.pid()),
            sent: count("total_net_output_bytes")?,
            received: count("total_net_input_bytes")?,
            own: cpu(std::process::id()),
        })
    }
}

/// What so many replicas' ticks took.
struct Step {
    ticks: f64,
    /// Those that came to nothing: Redis was too busy to answer, or even to say that it is there.
    failed: f64,
    lasted: f64,
    took: Histogram<u64>,
    /// Each for one tick.
    redis: f64,
    sent: f64,
    received: f64,
    replica: f64,
}

impl Step {
    async fn measure(
        redis: &Server,
        room: &Room,
        size: &Size,
        replicas: u32,
        beats: impl Fn(u32) -> Beats,
    ) -> Result<Self, Failed> {
        let mut ready = Vec::new();
        for replica in 0..replicas {
            ready.push((connect(&redis.url()).await?, beats(replica)));
        }
        let (before, begun) = (Spent::so_far(redis)?, Instant::now());
        let until = begun + Duration::from_secs_f64(size.seconds);
        let mut running = JoinSet::new();
        for (replica, (store, beats)) in (0..).zip(ready) {
            // Spread over a tick, as replicas that were started at different times are.
            running.spawn(ticks(store, room.clone(), beats, TICK * replica / replicas, until));
        }
        let (mut took, mut failed) = (histogram(), 0.0);
        while let Some(done) = running.join_next().await {
            let (times, not_answered) = done.map_err(|error| Failed(error.to_string()))??;
            took.add(times).map_err(|error| Failed(error.to_string()))?;
            failed += not_answered;
        }
        if took.is_empty() {
            return Err(Failed(format!("no tick of {replicas} replicas was answered in {} s", size.seconds)));
        }
        let (lasted, after) = (begun.elapsed().as_secs_f64(), Spent::so_far(redis)?);
        let ticks = took.len() as f64;
        Ok(Self {
            ticks,
            failed,
            lasted,
            took,
            redis: (after.cpu - before.cpu) / ticks,
            sent: (after.sent - before.sent) / ticks,
            received: (after.received - before.received) / ticks,
            replica: (after.own - before.own) / ticks,
        })
    }

    /// Whether nearly all of their ticks were made, and answered.
    fn kept_up(&self, replicas: u32) -> bool {
        self.failed == 0.0 && self.ticks / self.lasted > 0.8 * f64::from(replicas) / TICK.as_secs_f64()
    }

    fn facts(&self) -> Vec<Fact> {
        let took = Latencies::of(&self.took);
        vec![
            Fact::new("ticks", self.ticks / self.lasted, "/s"),
            Fact::new("ticks that came to nothing", self.failed / self.lasted, "/s"),
            Fact::new("CPU of Redis for a tick", self.redis * 1e3, "ms"),
            Fact::new("CPU of the replica for a tick", self.replica * 1e3, "ms"),
            Fact::new("sent by Redis for a tick", self.sent, "bytes"),
            Fact::new("sent to Redis for a tick", self.received, "bytes"),
            Fact::new("a tick until the snapshot is in its place, p50", took.p50 / 1e3, "ms"),
            Fact::new("a tick until the snapshot is in its place, p99", took.p99 / 1e3, "ms"),
        ]
    }

    /// What these ticks come to for many replicas.
    fn computed(&self) -> Vec<Fact> {
        let each = 1.0 / TICK.as_secs_f64();
        let all = each * MANY;
        vec![
            Fact::new("100 replicas: CPU of Redis", self.redis * all * 1e2, "% of a core"),
            Fact::new("100 replicas: sent by Redis", self.sent * all, "bytes/s"),
            Fact::new("100 replicas: sent to Redis", self.received * all, "bytes/s"),
            Fact::new("replicas that fill a core of Redis", (1.0 / (self.redis * each)).floor(), ""),
        ]
    }
}

/// The ticks of one replica, as the program's feed makes them; how long each took, and how many came to nothing.
async fn ticks(
    store: RedisStore,
    room: Room,
    beats: Beats,
    offset: Duration,
    until: Instant,
) -> Result<(Histogram<u64>, f64), Failed> {
    let copy = Copy::default();
    let (mut took, mut failed) = (histogram(), 0.0);
    let mut due = tokio::time::interval_at(tokio::time::Instant::now() + offset, TICK);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        if Instant::now() >= until {
            break;
        }
        stop::check()?;
        match copy.renew(&store, &room, &beats).await {
            Ok((built, swapped)) => {
                took.saturating_record(
                    u64::try_from((built + swapped).as_nanos()).unwrap_or(u64::MAX).max(1),
                );
            }
            // As in the program, the next tick tries again.
            Err(_) => failed += 1.0,
        }
    }
    store.close().await;
    Ok((took, failed))
}

/// The program itself with the long line.
fn whole_replica(stage: &mut Stage, redis: &Server, size: &Size) -> Result<Vec<Fact>, Failed> {
    place(redis, stage.cores.map(|cores| cores.load))?;
    progress("the program with the long line");
    let service = stage.anteroom(&redis.url())?;
    comes(stage, &service, "line")?;
    let line = grouped(size.line as f64);
    let of = format!("one line of {line}, nobody asks anything, the program as 1 replica");
    look(&service, redis, size, 1, &of)
}

/// The program itself with very many rooms, in all of which somebody waits.
fn many_rooms(stage: &mut Stage, redis: &Server, size: &Size) -> Result<Vec<Fact>, Failed> {
    let names: Vec<String> = (0..size.rooms).map(|room| format!("room-{room}")).collect();
    progress(&format!(
        "{} visitors take their places in each of {} rooms",
        grouped(size.each as f64),
        size.rooms
    ));
    runtime()?.block_on(async {
        let store = connect(&redis.url()).await?;
        for name in &names {
            fill(&store, &closed_room(name)?, size.each).await?;
        }
        store.close().await;
        Ok::<_, Failed>(())
    })?;
    let service = stage.anteroom(&redis.url())?;
    progress(&format!("one more comes to each of {} rooms", size.rooms));
    for name in &names {
        comes(stage, &service, name)?;
    }
    progress(&format!("the program with {} rooms", size.rooms));
    let [rooms, each] = [f64::from(size.rooms), size.each as f64].map(grouped);
    let of = format!("{rooms} rooms with {each} waiting in each, the program as 1 replica");
    look(&service, redis, size, size.rooms, &of)
}

/// A newcomer, who makes the room known to the service.
fn comes(stage: &mut Stage, service: &Service, room: &str) -> Result<(), Failed> {
    let limits = limits(room);
    let question = Question { limits: &limits, accept: Accept::Json, token: None, bearer: None };
    stage.tally.all += 1;
    match Verdict::of(&service.check(&question)?).map_err(Failed)? {
        Verdict::Denied(denied) => is_waiting(&denied).map_err(Failed),
        Verdict::Ok(_) => Err(Failed(format!("let in to room {room}, which is closed"))),
    }
}

/// What the service and Redis use for so many rooms while nobody asks anything.
fn look(service: &Service, redis: &Server, size: &Size, rooms: u32, of: &str) -> Result<Vec<Fact>, Failed> {
    stop::sleep(SETTLE)?;
    let watched = Watched { service: service.process.pid(), store: Some(redis.pid()), envoy: None };
    let (calls, sent) = (redis.script_calls(), Spent::so_far(redis)?.sent);
    let (slept, used) = Used::during(watched, || stop::sleep(Duration::from_secs_f64(size.seconds)));
    slept?;
    let calls = redis.script_calls().saturating_sub(calls) as f64 / size.seconds;
    let sent = (Spent::so_far(redis)?.sent - sent) / size.seconds;
    let busy = used.busy();
    let percent = |name, share: Option<f64>| Some(Fact::new(name, share? * 100.0, "% of a core"));
    // On a busy machine fewer are made than are due.
    let each = |share: Option<f64>| share.filter(|_| calls > 0.0).map(|share| share / calls);
    let due = f64::from(rooms) / TICK.as_secs_f64();
    let kept = redis.info("memory").get("used_memory").and_then(|bytes| bytes.parse().ok());
    let facts = [
        Some(Fact::new("calls of Redis", calls, "/s")),
        Some(Fact::new("sent by Redis", sent, "bytes/s")),
        percent("CPU of Anteroom", busy.service),
        percent("CPU of Redis", busy.store),
        Some(Fact::new("memory of Anteroom", memory(service)?, "bytes")),
        kept.map(|bytes| Fact::new("memory of Redis", bytes, "bytes")),
        each(busy.service).map(|each| Fact::new("CPU of Anteroom for a call", each * 1e6, "µs")),
        each(busy.store).map(|each| Fact::new("CPU of Redis for a call", each * 1e6, "µs")),
        percent("computed, 100 replicas: CPU of Redis", each(busy.store).map(|each| each * due * MANY)),
    ];
    Ok(facts.into_iter().flatten().map(|fact| fact.of(of)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_end_with_the_most() {
        assert_eq!(steps(1), [1]);
        assert_eq!(steps(16), [1, 4, 16]);
        assert_eq!(steps(20), [1, 4, 16, 20]);
    }

    #[test]
    fn who_is_heard_of_stands_in_the_line() {
        let some = some_of(1_000, 100.0, 3);
        assert!((80..=100).contains(&some.count()), "{}", some.count());
        assert!(!some.contains(0) && some.last() <= Some(1_000));
    }
}
