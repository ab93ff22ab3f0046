//! `envoy`: a request with a valid pass through a real Envoy, next to the same Envoy that asks the no-op service.

use std::path::Path;

use super::pass::is_admitted;
use super::{PASS, SHOP, Stage, pass_of, version};
use crate::Failed;
use crate::cli::Plan;
use crate::envoy;
use crate::figures::Spread;
use crate::peers::Peer;
use crate::question::{Accept, Question};
use crate::report::{Fact, Ratio, Report, Row};

pub(super) fn run(mut stage: Stage, rounds: &Plan, program: Option<&Path>) -> Result<Report, Failed> {
    if rounds.limitador.is_some() {
        return Err(Failed(
            "--limitador: it is no ext_authz service; Envoy asks it through another filter".into(),
        ));
    }
    let program = envoy::program(program)?;
    stage.versions.insert("Envoy", envoy::version(&version(program)?).to_owned());
    let service = stage.anteroom("memory")?;
    let pass = pass_of(&service)?;
    let question = Question { limits: &SHOP, accept: Accept::Html, token: Some((PASS, &pass)), bearer: None };
    let (body, page) = (question.framed(), question.page());
    let (cores, files) = (stage.cores, stage.files.path());
    let ours = Peer::anteroom("anteroom", service, body.clone(), is_admitted());
    let noop = Peer::yes("no-op", body, cores, files)?;
    let peers =
        vec![ours.behind(program, page.clone(), cores, files)?, noop.behind(program, page, cores, files)?];
    let what =
        "a browser's GET with a valid pass over HTTP/2, through Envoy (one worker), which answers it itself";
    let notes = vec!["Envoy shares the load's core; `CPU each` is that of the service it asks".to_owned()];
    let mut report = stage.measure("envoy", what.to_owned(), (peers, notes), 1, rounds)?;
    let each = |row: &Row| row.closed.iter().filter_map(|round| round.envoy_micros).collect::<Vec<_>>();
    let [ours, noop] = [&report.rows[0], &report.rows[1]].map(each);
    for (row, each) in report.rows.iter().zip([&ours, &noop]) {
        let Some(spread) = Spread::of(each.iter().copied()) else { continue };
        let name = format!("CPU of Envoy for each request, asking {}", row.name);
        report.facts.push(Fact::new(name, spread.median, "µs"));
    }
    let (of, to) = (report.rows[0].name.clone(), report.rows[1].name.clone());
    let spread = Spread::ratio(ours, noop);
    report.ratios.extend(spread.map(|spread| Ratio { of, to, what: "CPU of Envoy for each", spread }));
    Ok(report)
}
