//! `poll`: what it costs to ask where one stands in a long line.

use super::{LINE, Stage};
use crate::cli::Plan;
use crate::drive::Ask;
use crate::h2::Answer;
use crate::h2::head::Head;
use crate::peers::{Peer, Server, same};
use crate::progress::progress;
use crate::question::{Accept, Question, Told, Verdict};
use crate::report::Report;
use crate::service::{Service, once};
use crate::{Failed, bench, stop};

/// Where a visitor of the line asks.
const POSITION: &str = "/anteroom/v1/rooms/line/position";
/// The cookie of a ticket for it.
const TICKET: &str = "anteroom_ticket_line";

pub(super) fn run(mut stage: Stage, rounds: &Plan, waiting: u64) -> Result<Report, Failed> {
    progress(&format!("{waiting} visitors take their places"));
    let service = stage.anteroom("memory")?;
    let arriving = Question { limits: &LINE, accept: Accept::Json, token: None, bearer: None };
    let question = arriving.framed();
    let mut line = Peer::anteroom("anteroom", service, question.clone(), super::arrive::is_new(Accept::Json));
    // One in the middle is asked about.
    let before = waiting / 2;
    bench::ask_times(&mut line, before, &mut stage.tally)?;
    let Server::Anteroom(service) = &line.server else {
        return Err(Failed("the line is Anteroom's".to_owned()));
    };
    let ticket = ticket(service, &arriving)?;
    bench::ask_times(&mut line, waiting - before - 1, &mut stage.tally)?;
    let Server::Anteroom(service) = line.server else {
        return Err(Failed("the line is Anteroom's".to_owned()));
    };

    let head = Head::get(POSITION);
    let cookie = format!("{TICKET}={ticket}").into_bytes();
    until_all_wait(&service, &head, &cookie, before + 1, waiting)?;
    let (others, notes) = stage.others(&question, rounds)?;
    let poll = Peer {
        name: "anteroom",
        address: service.http,
        server: Server::Anteroom(service),
        head,
        ask: Ask { cookie, ..Ask::default() },
        judge: same(move |answer| stands_at(answer, before + 1, waiting)),
        store: None,
        envoy: None,
    };
    let mut peers = vec![poll];
    peers.extend(others);
    let what =
        format!("GET …/position over HTTP/2, in the middle of a line of {waiting}; the others: a Check");
    stage.measure("poll", what, (peers, notes), 1, rounds)
}

fn ticket(service: &Service, question: &Question<'_>) -> Result<String, Failed> {
    let Verdict::Denied(denied) = Verdict::of(&service.check(question)?).map_err(Failed)? else {
        return Err(Failed("let in to a room that is closed".to_owned()));
    };
    let told = Told::of(denied.body.as_bytes()).map_err(Failed)?;
    told.ticket.map(str::to_owned).ok_or_else(|| Failed("a newcomer should be given a ticket".to_owned()))
}

/// Waits until the copy of the line that polls are answered from has everybody in it: a tick or two.
fn until_all_wait(
    service: &Service,
    head: &Head,
    cookie: &[u8],
    position: u64,
    waiting: u64,
) -> Result<(), Failed> {
    let mut why = String::new();
    for _ in 0..200 {
        let ask = Ask { cookie: cookie.to_vec(), ..Ask::default() };
        match stands_at(&once(service.http, head.clone(), ask)?, position, waiting) {
            Ok(()) => return Ok(()),
            Err(wrong) => why = wrong,
        }
        stop::sleep(std::time::Duration::from_millis(50))?;
    }
    Err(Failed(format!("the line does not become {waiting} long within 10 s: {why}")))
}

fn stands_at(answer: &Answer, position: u64, waiting: u64) -> Result<(), String> {
    let told = Told::of(&answer.body)?;
    if answer.status == 200
        && told.status == "waiting"
        && (told.position, told.waiting) == (position, waiting)
    {
        Ok(())
    } else {
        Err(format!("HTTP {}, {told:?}: it should be position {position} of {waiting}", answer.status))
    }
}
