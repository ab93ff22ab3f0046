//! `memory`: what very many waiting visitors take, and how long a snapshot of a very long line takes.

use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::room::state::Beats;
use anteroom::store::Store;
use anteroom::store::memory::MemoryStore;
use serde_json::json;

use super::arrive::is_new;
use super::line::{Copy, closed_room, connect, fill};
use super::{LINE, Stage, memory, runtime};
use crate::figures::Spread;
use crate::peers::{Peer, Server};
use crate::progress::progress;
use crate::question::{Accept, Question};
use crate::report::table::grouped;
use crate::report::{Fact, Report};
use crate::{Failed, bench, process, stop};

/// How often a snapshot is built.
const TIMES: u32 = 31;
/// Until allocators and Redis have given back what the arrivals needed.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) fn run(mut stage: Stage, visitors: u64, line: u64) -> Result<Report, Failed> {
    let redis = stage.redis()?;
    let used = || redis.info("memory").get("used_memory").and_then(|bytes| bytes.parse::<f64>().ok());
    let count = grouped(visitors as f64);
    let mut facts = Vec::new();
    for (name, store) in [("embedded store", "memory".to_owned()), ("Redis", redis.url())] {
        let service = stage.anteroom(&store)?;
        let of = format!("memory, {name}");
        facts.push(Fact::new("Anteroom, empty", memory(&service)?, "bytes").of(&of));
        let empty = used();
        progress(&format!("{count} visitors take their places: {name}"));
        let question = Question { limits: &LINE, accept: Accept::Json, token: None, bearer: None }.framed();
        let mut line = Peer::anteroom("anteroom", service, question, is_new(Accept::Json));
        bench::ask_times(&mut line, visitors, &mut stage.tally)?;
        stop::sleep(SETTLE)?;
        let Server::Anteroom(service) = &line.server else {
            return Err(Failed("the line is Anteroom's".into()));
        };
        facts.push(Fact::new(format!("Anteroom, {count} waiting"), memory(service)?, "bytes").of(&of));
        if let (Some(empty), Some(full)) = (empty.filter(|_| store != "memory"), used()) {
            facts.push(Fact::new("Redis, empty", empty, "bytes").of(&of));
            facts.push(Fact::new(format!("Redis, {count} waiting"), full, "bytes").of(&of));
        }
    }
    let (embedded, shared) = runtime()?.block_on(async {
        let embedded = snapshots("embedded store", &MemoryStore::new(Clock::system(), 1), line).await?;
        let store = connect(&redis.url()).await?;
        // Redis' reply is on its way, read and decoded in a tick as well.
        let shared = snapshots("Redis", &store, line).await;
        store.close().await;
        Ok::<_, Failed>((embedded, shared?))
    })?;
    facts.extend(embedded.into_iter().chain(shared));
    let what =
        format!("{count} visitors wait, without streams; snapshots of a line of {}", grouped(line as f64));
    Ok(Report {
        facts,
        ..stage.report("memory", what, json!({"visitors": visitors, "line": line}), Vec::new())
    })
}

/// What a tick of a store takes, and putting the snapshot in the place of the one before.
async fn snapshots(name: &str, store: &dyn Store, line: u64) -> Result<Vec<Fact>, Failed> {
    progress(&format!("snapshots of a line of {}: {name}", grouped(line as f64)));
    let room = closed_room("snapshots")?;
    fill(store, &room, line).await?;
    let copy = Copy::default();
    let nobody = Beats::new();
    let (mut builds, mut swaps, mut both) = (Vec::new(), Vec::new(), Vec::new());
    let before = own_time();
    for _ in 0..TIMES {
        stop::check()?;
        let (build, swap) = copy.renew(store, &room, &nobody).await?;
        builds.push(build);
        swaps.push(swap);
        both.push(build + swap);
    }
    let used = own_time().zip(before).map(|(after, before)| after.saturating_sub(before) / TIMES);
    if copy.waiting() != line {
        return Err(Failed(format!("{} wait in the snapshot; it should be {line}", copy.waiting())));
    }
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let mut facts = Vec::new();
    for (what, times) in [("a tick until it is built", builds), ("swap", swaps), ("both", both)] {
        let Some(spread) = Spread::of(times.into_iter().map(millis)) else { continue };
        facts.push(Fact::new(format!("{what}, median"), spread.median, "ms"));
        facts.push(Fact::new(format!("{what}, longest"), spread.high, "ms"));
    }
    facts.extend(used.map(|used| Fact::new("CPU of the replica for both, mean", millis(used), "ms")));
    let of = format!("snapshot of {}, {name}", grouped(line as f64));
    Ok(facts.into_iter().map(|fact| fact.of(&of)).collect())
}

fn own_time() -> Option<Duration> {
    process::time(std::process::id()).map(|time| time.cpu)
}
