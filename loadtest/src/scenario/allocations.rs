//! `allocations`: how often memory is asked for on the pass path, next to the no-op service.

use serde_json::json;

use super::pass::is_admitted;
use super::{Stage, question_with_pass};
use crate::peers::Peer;
use crate::progress::progress;
use crate::report::{Fact, Report};
use crate::{Failed, bench};

/// How often each is asked before it counts, and then.
const BEFORE: u64 = 10_000;
const TIMES: u64 = 100_000;

pub(super) fn run(mut stage: Stage) -> Result<Report, Failed> {
    if crate::allocations::count().is_none() {
        return Err(Failed(
            "this build does not count allocations: build it with --features count-allocations".into(),
        ));
    }
    let service = stage.anteroom("memory")?;
    let question = question_with_pass(&service)?;
    let noop = Peer::yes("no-op", question.clone(), stage.cores, stage.files.path())?;
    let mut peers = [Peer::anteroom("anteroom", service, question, is_admitted()), noop];
    let mut each = Vec::new();
    for peer in &mut peers {
        progress(&format!("counting: {}", peer.name));
        peer.try_it()?;
        bench::ask_times(peer, BEFORE, &mut stage.tally)?;
        let before = peer.server.process().allocations()?;
        bench::ask_times(peer, TIMES, &mut stage.tally)?;
        let count = peer.server.process().allocations()?.saturating_sub(before);
        each.push(count as f64 / TIMES as f64);
    }
    let mut facts: Vec<Fact> = peers
        .iter()
        .zip(&each)
        .map(|(peer, each)| Fact::new(format!("{}: allocations for a Check", peer.name), *each, "each"))
        .collect();
    facts.push(Fact::new("anteroom : no-op", each[0] / each[1], "times"));
    let what = format!("allocations for a Check with a valid pass, mean of {TIMES}, connections included");
    Ok(Report { facts, ..stage.report("allocations", what, json!({"times": TIMES}), Vec::new()) })
}
