//! The scenarios: who is asked what.

mod allocations;
mod arrive;
mod envoy;
mod identity;
mod line;
mod memory;
mod mixed;
mod pass;
mod poll;
mod scale;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use serde_json::{Value, json};

use crate::cli::{Command, Plan, With};
use crate::cores::{self, Cores};
use crate::peers::Peer;
use crate::process::resident;
use crate::question::{Accept, Question, Verdict, admitted};
use crate::redis::server::Server;
use crate::report::{Fact, Machine, Ratio, Report, Row, Tally};
use crate::service::{Binary, Service};
use crate::{Failed, bench, flame};

/// The room of those who are inside. Sessions outlast any run, so that the pass is always in the first quarter of its
/// life, where no store call is made: the way of nearly all requests.
pub(crate) const SHOP: [(&str, &str); 6] = [
    ("room", "shop"),
    ("capacity", "500"),
    ("rate", "50/s"),
    ("burst", "100"),
    ("session_ttl", "31d"),
    ("claim_ttl", "60s"),
];
/// The room of those who wait: nobody is let in, and nobody is forgotten.
const LINE: [(&str, &str); 3] = [("room", "line"), ("capacity", "0"), ("patience", "31d")];
/// The cookies' names.
const PASS: &str = "anteroom_pass_shop";

/// What every scenario needs.
struct Stage {
    cores: Option<Cores>,
    binary: Binary,
    files: tempfile::TempDir,
    tally: Tally,
    versions: BTreeMap<&'static str, String>,
}

/// Runs a scenario and gives its report; whether all answers were right.
pub(crate) fn run(command: Command) -> Result<bool, Failed> {
    let mut with = match &command {
        Command::Pass(rounds)
        | Command::Identity(rounds)
        | Command::Arrive { rounds, .. }
        | Command::Poll { rounds, .. }
        | Command::Envoy { rounds, .. } => &rounds.with,
        Command::Mixed { with, .. }
        | Command::Memory { with, .. }
        | Command::Scale { with, .. }
        | Command::Allocations { with } => with,
        Command::Serve(_) => return Err(Failed("serve is no scenario".to_owned())),
    }
    .clone();
    if matches!(command, Command::Allocations { .. }) {
        // The program does not count.
        with.anteroom = Some("built-in".into());
    }
    let stage = Stage::new(&with)?;
    let report = match command {
        Command::Pass(rounds) => pass::run(stage, &rounds),
        Command::Identity(rounds) => identity::run(stage, &rounds),
        Command::Arrive { rounds, accept } => arrive::run(stage, &rounds, accept),
        Command::Poll { rounds, waiting } => poll::run(stage, &rounds, waiting),
        Command::Envoy { rounds, envoy } => envoy::run(stage, &rounds, envoy.as_deref()),
        Command::Mixed { scale, seconds, store, .. } => mixed::run(stage, scale, seconds, store),
        Command::Memory { visitors, line, .. } => memory::run(stage, visitors, line),
        Command::Scale { size, .. } => scale::run(stage, &size),
        Command::Allocations { .. } => allocations::run(stage),
        Command::Serve(_) => return Ok(false),
    }?;
    crate::progress::progress("");
    report.give(with.json.as_deref(), with.svg.as_deref())?;
    Ok(report.answers.wrong == 0)
}

impl Stage {
    fn new(with: &With) -> Result<Self, Failed> {
        let binary = binary(with)?;
        let cores = Cores::choose();
        if let Some(cores) = cores {
            // What is started from here without a core of its own (Redis) stays on the load's.
            cores::pin(cores.load).map_err(|error| Failed(format!("core {}: {error}", cores.load)))?;
        }
        let files = tempfile::tempdir().map_err(|error| Failed(format!("a directory for logs: {error}")))?;
        let anteroom = match &binary {
            Binary::At(path) => version(path)?,
            Binary::BuiltIn => format!("{}, built into the harness", env!("CARGO_PKG_VERSION")),
        };
        let versions = BTreeMap::from([("anteroom", anteroom)]);
        Ok(Self { cores, binary, files, tally: Tally::default(), versions })
    }

    fn anteroom(&self, store: &str) -> Result<Service, Failed> {
        self.anteroom_with(store, &[])
    }

    /// The same with more flags.
    fn anteroom_with(&self, store: &str, more: &[OsString]) -> Result<Service, Failed> {
        Service::start(&self.binary, self.cores, store, self.files.path(), more)
    }

    /// The others that answer the same question, or nearly so; how it is told who is missing.
    fn others(&self, question: &[u8], rounds: &Plan) -> Result<(Vec<Peer>, Vec<String>), Failed> {
        let yes = |peer| Peer::yes(peer, question.to_vec(), self.cores, self.files.path());
        let mut peers = vec![yes("no-op")?, yes("floor")?];
        let mut notes = Vec::new();
        match &rounds.limitador {
            Some(path) => peers.push(Peer::limitador(path, self.cores, self.files.path())?),
            None => notes.push("limitador: not measured (--limitador PATH names its server)".to_owned()),
        }
        Ok((peers, notes))
    }

    /// Measures the peers, of which the first `ours` are set against the others.
    fn measure(
        mut self,
        scenario: &'static str,
        what: String,
        (mut peers, notes): (Vec<Peer>, Vec<String>),
        ours: usize,
        rounds: &Plan,
    ) -> Result<Report, Failed> {
        let rows = bench::run(&mut peers, rounds, &mut self.tally)?;
        if let Some(picture) = &rounds.flame {
            flame::draw(&mut peers[ours - 1], rounds, picture, &mut self.tally)?;
        }
        let resident =
            |row: &Row| Some(Fact::new(format!("memory of {}", row.name), row.resident? as f64, "bytes"));
        let facts = rows.iter().filter_map(resident).collect();
        let ratios = Ratio::all(&rows, ours);
        let parameters = json!({
            "seconds": rounds.seconds, "rounds": rounds.rounds,
            "connections": rounds.connections, "streams": rounds.streams, "rate": rounds.rate.to_string(),
        });
        Ok(Report { ratios, facts, notes, ..self.report(scenario, what, parameters, rows) })
    }

    fn report(self, scenario: &'static str, what: String, parameters: Value, rows: Vec<Row>) -> Report {
        Report {
            scenario,
            what,
            versions: self.versions,
            machine: Machine::this(self.cores),
            parameters,
            rows,
            ratios: Vec::new(),
            facts: Vec::new(),
            notes: Vec::new(),
            answers: self.tally,
        }
    }

    /// A Redis for the rooms.
    fn redis(&mut self) -> Result<Server, Failed> {
        // First, so that a missing program comes to light as what it is.
        self.versions.insert("redis", version(Path::new("redis-server"))?);
        Ok(runtime()?.block_on(Server::start()))
    }
}

/// One for this thread alone.
fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failed(error.to_string()))
}

/// What a program says of its version: the first word with a digit in it, its own path aside.
fn version(program: &Path) -> Result<String, Failed> {
    let done = process::Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let said =
        done.map_err(|error| Failed(format!("{} --version: {error}; is it installed?", program.display())))?;
    Ok(version_in(&String::from_utf8_lossy(&said.stdout), program).to_owned())
}

fn version_in<'a>(said: &'a str, program: &Path) -> &'a str {
    let said = said.trim_start();
    let said = program.to_str().and_then(|path| said.strip_prefix(path)).unwrap_or(said);
    let word = said.split_whitespace().find(|word| word.contains(|c: char| c.is_ascii_digit()));
    word.unwrap_or("not known").trim_start_matches("v=")
}

fn binary(with: &With) -> Result<Binary, Failed> {
    if with.anteroom.as_ref().is_some_and(|path| path.as_os_str() == "built-in") {
        return Ok(Binary::BuiltIn);
    }
    let own = std::env::current_exe().map_err(|error| Failed(error.to_string()))?;
    let path: PathBuf = with.anteroom.clone().unwrap_or_else(|| own.with_file_name("anteroom"));
    if path.is_file() {
        Ok(Binary::At(path))
    } else {
        let path = path.display();
        Err(Failed(format!(
            "there is no program at {path}: build anteroom with the same profile, or use --anteroom"
        )))
    }
}

/// The question of a visitor with a valid pass, to a service that has just given it.
fn question_with_pass(service: &Service) -> Result<Vec<u8>, Failed> {
    let pass = pass_of(service)?;
    Ok(Question { limits: &SHOP, accept: Accept::Html, token: Some((PASS, &pass)), bearer: None }.framed())
}

/// The pass of the first visitor of a service's shop.
fn pass_of(service: &Service) -> Result<String, Failed> {
    let newcomer = Question { limits: &SHOP, accept: Accept::Html, token: None, bearer: None };
    let verdict = Verdict::of(&service.check(&newcomer)?).map_err(Failed)?;
    let Verdict::Ok(ok) = verdict else {
        return Err(Failed(
            "the first visitor of an empty room has to wait; they should be let in".to_owned(),
        ));
    };
    admitted(&ok, "shop").map(str::to_owned).map_err(Failed)
}

/// The resident memory of a service.
fn memory(service: &Service) -> Result<f64, Failed> {
    let bytes = resident(service.process.pid());
    bytes
        .map(|bytes| bytes as f64)
        .ok_or_else(|| Failed("this system does not tell a process' memory".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_wherever_the_program_is() {
        let envoy = Path::new("/tools/envoy-1.40.0/bin/envoy");
        let said = "\n/tools/envoy-1.40.0/bin/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n";
        assert_eq!(version_in(said, envoy), "9e55/1.40.0/Clean/RELEASE/BoringSSL");
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64\n";
        assert_eq!(version_in(redis, Path::new("redis-server")), "7.0.15");
    }
}
