//! `arrive`: what a newcomer costs: a number, a ticket and the whole answer.

use std::collections::HashSet;

use super::{LINE, Stage};
use crate::Failed;
use crate::cli::Plan;
use crate::peers::{Judge, Peer};
use crate::question::{Accept, Question, Told, Verdict, is_waiting};
use crate::report::{Fact, Report};

pub(super) fn run(mut stage: Stage, rounds: &Plan, accept: Accept) -> Result<Report, Failed> {
    let redis = stage.redis()?;
    let embedded = stage.anteroom("memory")?;
    let shared = stage.anteroom(&redis.url())?;
    let question = Question { limits: &LINE, accept, token: None, bearer: None }.framed();
    let (others, notes) = stage.others(&question, rounds)?;
    let what = format!(
        "a Check of a newcomer, 18 headers, {} bytes; the answer is {}",
        question.len(),
        if accept == Accept::Json { "JSON" } else { "the waiting page" }
    );
    let mut peers = vec![
        Peer::anteroom("anteroom", embedded, question.clone(), is_new(accept)),
        Peer::anteroom("anteroom, Redis", shared, question, is_new(accept)),
    ];
    peers[1].store = Some(redis.pid());
    peers.extend(others);
    let mut report = stage.measure("arrive", what, (peers, notes), 2, rounds)?;
    let arrivals = report.rows[1].closed.iter();
    let each: Vec<(f64, f64)> = arrivals.filter_map(|round| Some((round.busy.store?, round.rate))).collect();
    if let Some(spread) = crate::figures::Spread::of(each.iter().map(|(busy, _)| busy * 100.0)) {
        report.facts.push(Fact::new("CPU of Redis at the top rate, of one core", spread.median, "%"));
    }
    if let Some(spread) = crate::figures::Spread::of(each.iter().map(|(busy, rate)| busy * 1e6 / rate)) {
        report.facts.push(Fact::new("CPU of Redis for each arrival", spread.median, "µs"));
    }
    Ok(report)
}

/// Everybody waits, and nobody is given a number that another has.
pub(super) fn is_new(accept: Accept) -> Judge {
    let mut given = Numbers::default();
    let mut last = HashSet::new();
    Box::new(move |answer| {
        let Verdict::Denied(denied) = Verdict::of(answer)? else {
            return Err("let in to a room that is closed".to_owned());
        };
        is_waiting(&denied)?;
        if accept == Accept::Html {
            // The page does not tell the number in one place; its ticket is another one for each.
            let ticket = denied.headers.iter().find_map(|option| {
                option.header.as_ref().filter(|header| header.key == "set-cookie").map(|header| &header.value)
            });
            if last.len() > 10_000 {
                last.clear();
            }
            return if last.insert(ticket.cloned()) {
                Ok(())
            } else {
                Err("the same ticket twice".to_owned())
            };
        }
        let told = Told::of(denied.body.as_bytes())?;
        if told.status != "waiting" || told.ticket.is_none() {
            return Err(format!("it should wait and have a ticket: {}", denied.body));
        }
        if given.insert(told.number) {
            Ok(())
        } else {
            Err(format!("number {} was given twice", told.number))
        }
    })
}

/// Numbers that were given: a bit each.
#[derive(Default)]
struct Numbers {
    words: Vec<u64>,
}

impl Numbers {
    /// Whether it was not among them before.
    fn insert(&mut self, number: u64) -> bool {
        let at = usize::try_from(number / 64).unwrap_or(usize::MAX);
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        let bit = 1 << (number % 64);
        let is_new = self.words[at] & bit == 0;
        self.words[at] |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_given_is_known() {
        let mut numbers = Numbers::default();
        assert!(numbers.insert(1) && numbers.insert(64) && numbers.insert(0));
        assert!(!numbers.insert(64) && numbers.insert(65));
    }
}
