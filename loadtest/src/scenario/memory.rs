//! `memory`: what very many waiting visitors take, and how long a snapshot of a very long line takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::clock::Clock;
use anteroom::room::name::RoomName;
use anteroom::room::policy::Policy;
use anteroom::room::snapshot::Snapshot;
use anteroom::room::state::{Beats, Call, Newcomer};
use anteroom::store::Store as _;
use anteroom::store::memory::MemoryStore;
use arc_swap::ArcSwapOption;
use serde_json::json;

use super::arrive::is_new;
use super::{LINE, Stage, memory};
use crate::figures::{Spread, micros};
use crate::peers::{Peer, Server};
use crate::progress::progress;
use crate::question::{Accept, Question};
use crate::report::{Fact, Report};
use crate::{Failed, bench};

/// How often a snapshot is built.
const TIMES: usize = 31;
/// How many arrive at once where it is the store alone that is asked.
const BATCH: usize = 100_000;
/// Until allocators and Redis have given back what the arrivals needed.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) fn run(mut stage: Stage, visitors: u64, line: u64) -> Result<Report, Failed> {
    let redis = stage.redis()?;
    let used = || redis.info("memory").get("used_memory").and_then(|bytes| bytes.parse::<f64>().ok());
    let mut facts = Vec::new();
    for (name, store) in [("embedded store", "memory".to_owned()), ("Redis", redis.url())] {
        let service = stage.anteroom(&store)?;
        facts.push(Fact::new(format!("{name}: memory of Anteroom, empty"), memory(&service)?, "bytes"));
        let empty = used();
        progress(&format!("{visitors} visitors take their places: {name}"));
        let question = Question { limits: &LINE, accept: Accept::Json, token: None }.framed();
        let mut line = Peer::anteroom("anteroom", service, question, is_new(Accept::Json));
        bench::ask_times(&mut line, visitors, &mut stage.tally)?;
        std::thread::sleep(SETTLE);
        let Server::Anteroom(service) = &line.server else {
            return Err(Failed("the line is Anteroom's".into()));
        };
        facts.push(Fact::new(
            format!("{name}: memory of Anteroom, {visitors} waiting"),
            memory(service)?,
            "bytes",
        ));
        if let (Some(empty), Some(full)) = (empty.filter(|_| store != "memory"), used()) {
            facts.push(Fact::new("memory of Redis, empty", empty, "bytes"));
            facts.push(Fact::new(format!("memory of Redis, {visitors} waiting"), full, "bytes"));
        }
    }
    progress(&format!("snapshots of a line of {line}"));
    facts.extend(snapshots(line)?);
    let what = format!("{visitors} visitors wait, without streams; snapshots of a line of {line}");
    Ok(Report {
        facts,
        ..stage.report("memory", what, json!({"visitors": visitors, "line": line}), Vec::new())
    })
}

/// Ticks of the embedded store: the snapshot is built, and put in the place of the one before as `rooms` does it.
fn snapshots(line: u64) -> Result<Vec<Fact>, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failed(error.to_string()))?;
    let limits = Policy::parse(LINE).map_err(|mistakes| Failed(format!("{mistakes:?}")))?;
    let room =
        RoomName::parse("line").ok_or_else(|| Failed("`line` should be the name of a room".to_owned()))?;
    let call = Call { policy: Some(Arc::new(limits)), ..Call::default() };
    let failed = |error: anteroom::store::StoreError| Failed(error.to_string());
    let (mut builds, mut swaps) = (Vec::new(), Vec::new());
    let waiting = runtime.block_on(async {
        let store = MemoryStore::new(Clock::system(), 1);
        let mut left = usize::try_from(line).unwrap_or(usize::MAX);
        while left > 0 {
            let some = left.min(BATCH);
            store.arrive(&room, &call, &vec![Newcomer::default(); some]).await.map_err(failed)?;
            left -= some;
        }
        let held: ArcSwapOption<Snapshot> = ArcSwapOption::empty();
        for _ in 0..TIMES {
            let begun = Instant::now();
            let snapshot = store.observe(&room, &call, &Beats::new(), None).await.map_err(failed)?;
            let built = Instant::now();
            // The one before is let go here, which is the longer part of it.
            drop(held.swap(Some(Arc::new(snapshot))));
            builds.push(nanos(built - begun));
            swaps.push(nanos(built.elapsed()));
        }
        Ok::<_, Failed>(held.load().as_ref().map_or(0, |snapshot| snapshot.waiting))
    })?;
    if waiting != line {
        return Err(Failed(format!("{waiting} wait in the snapshot; it should be {line}")));
    }
    let mut facts = Vec::new();
    for (what, times) in [("build (a tick of the embedded store)", builds), ("swap", swaps)] {
        let millis = times.into_iter().map(|time| micros(time) / 1e3);
        let Some(spread) = Spread::of(millis) else { continue };
        facts.push(Fact::new(format!("snapshot of {line}: {what}, median"), spread.median, "ms"));
        facts.push(Fact::new(format!("snapshot of {line}: {what}, longest"), spread.high, "ms"));
    }
    Ok(facts)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
