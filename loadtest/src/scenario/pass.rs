//! `pass`: what nearly every request of a visitor who is inside costs.

use super::{Stage, question_with_pass};
use crate::Failed;
use crate::cli::Plan;
use crate::peers::{Judge, Peer, same};
use crate::question::{Verdict, admitted};
use crate::report::Report;

pub(super) fn run(stage: Stage, rounds: &Plan) -> Result<Report, Failed> {
    let service = stage.anteroom("memory")?;
    let question = question_with_pass(&service)?;
    let (others, notes) = stage.others(&question, rounds)?;
    let what = format!("a Check with a valid pass, 18 headers, {} bytes", question.len());
    let mut peers = vec![Peer::anteroom("anteroom", service, question, is_admitted())];
    peers.extend(others);
    stage.measure("pass", what, (peers, notes), 1, rounds)
}

pub(super) fn is_admitted() -> Judge {
    same(|answer| match Verdict::of(answer)? {
        Verdict::Ok(ok) => admitted(&ok, "shop").map(|_| ()),
        Verdict::Denied(denied) => Err(format!("turned away with a valid pass: {}", denied.body)),
    })
}
