//! What was measured: as a table for people, as JSON for machines, as pictures.

pub(crate) mod svg;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Failed;
use crate::cores::Cores;
use crate::drive::Outcome;
use crate::figures::{Latencies, Point, Spread, curve};

/// How many reasons of wrong answers are told.
const REASONS: usize = 5;

/// Everything that was measured in a run. Rates are per second, latencies and CPU in microseconds, memory in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    /// What was asked, in a sentence.
    pub(crate) what: String,
    /// Of the programs that were measured.
    pub(crate) versions: BTreeMap<&'static str, String>,
    pub(crate) machine: Machine,
    pub(crate) parameters: serde_json::Value,
    pub(crate) rows: Vec<Row>,
    pub(crate) ratios: Vec<Ratio>,
    /// Single figures.
    pub(crate) facts: Vec<Fact>,
    /// What a reader should know of the figures.
    pub(crate) notes: Vec<String>,
    pub(crate) answers: Tally,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// The service's core, and that of the load; `None`: they were not kept apart.
    pub(crate) service_core: Option<usize>,
    pub(crate) load_core: Option<usize>,
}

impl Machine {
    pub(crate) fn this(cores: Option<Cores>) -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: model.map_or("not known", |(_, name)| name).trim().to_owned(),
            // All of the machine's; this thread itself is kept on one.
            cores: info.lines().filter(|line| line.starts_with("processor")).count().max(1),
            service_core: cores.map(|cores| cores.service),
            load_core: cores.map(|cores| cores.load),
        }
    }
}

/// One peer, or one kind of request.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Rounds that looked for the top rate.
    pub(crate) closed: Vec<Closed>,
    /// Rounds on a fixed schedule.
    pub(crate) open: Vec<Open>,
    /// Of all rounds on a schedule, counted from when a request was due.
    pub(crate) latencies: Option<Latencies>,
    pub(crate) curve: Vec<Point>,
    /// Resident memory of the service at the end.
    pub(crate) resident: Option<u64>,
}

impl Row {
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Takes in the latencies of all rounds on a schedule.
    pub(crate) fn tell(&mut self, all: &Histogram<u64>) {
        if !all.is_empty() {
            self.latencies = Some(Latencies::of(all));
            self.curve = curve(all);
        }
    }

    fn spread(&self, of: impl Fn(&Closed) -> Option<f64>) -> Option<Spread> {
        let values: Option<Vec<f64>> = self.closed.iter().map(of).collect();
        Spread::of(values?)
    }
}

/// A round with so many requests always in flight.
#[derive(Debug, Serialize)]
pub(crate) struct Closed {
    pub(crate) rate: f64,
    /// CPU of the service for each answer.
    pub(crate) cpu_micros: Option<f64>,
    /// The same of the Envoy in front of it.
    pub(crate) envoy_micros: Option<f64>,
    pub(crate) busy: Busy,
    pub(crate) latencies: Latencies,
}

/// A round on a fixed schedule.
#[derive(Debug, Serialize)]
pub(crate) struct Open {
    pub(crate) rate: f64,
    /// Share of requests sent more than 1 ms after they were due because the load was busy.
    pub(crate) late: f64,
    /// The same because the service left too many unanswered.
    pub(crate) held: f64,
    pub(crate) busy: Busy,
    pub(crate) latencies: Latencies,
}

/// Shares of a core that were used; `None` where the system does not tell, or there is no store apart.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Busy {
    pub(crate) service: Option<f64>,
    /// The service could have run, and others on the machine did.
    pub(crate) waited: Option<f64>,
    pub(crate) load: Option<f64>,
    pub(crate) store: Option<f64>,
    pub(crate) envoy: Option<f64>,
}

/// One row over another, taken round by round.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) of: String,
    pub(crate) to: String,
    pub(crate) what: &'static str,
    #[serde(flatten)]
    pub(crate) spread: Spread,
}

impl Ratio {
    /// Rate and CPU of each of the first `ours` rows over each of the others.
    pub(crate) fn all(rows: &[Row], ours: usize) -> Vec<Self> {
        let (ours, others) = rows.split_at(ours.min(rows.len()));
        let mut ratios = Vec::new();
        for other in others {
            for one in ours {
                let rates = |row: &Row| row.closed.iter().map(|round| round.rate).collect::<Vec<_>>();
                let cpu =
                    |row: &Row| row.closed.iter().filter_map(|round| round.cpu_micros).collect::<Vec<_>>();
                let rate = Spread::ratio(rates(one), rates(other));
                let cpu = Spread::ratio(cpu(one), cpu(other));
                for (what, spread) in [("requests/s", rate), ("CPU for each", cpu)] {
                    let Some(spread) = spread else { continue };
                    ratios.push(Self { of: one.name.clone(), to: other.name.clone(), what, spread });
                }
            }
        }
        ratios
    }
}

/// A single figure.
#[derive(Debug, Serialize)]
pub(crate) struct Fact {
    /// What it and its neighbours are figures of; empty: of the whole run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) of: String,
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

impl Fact {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { of: String::new(), name: name.into(), value, unit }
    }

    /// One of several figures of the same.
    pub(crate) fn of(self, of: impl Into<String>) -> Self {
        Self { of: of.into(), ..self }
    }
}

/// Answers of all rounds, right and wrong.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) all: u64,
    pub(crate) wrong: u64,
    /// The first reasons.
    pub(crate) reasons: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, peer: &str, outcome: &Outcome) {
        self.all += outcome.answers;
        self.wrong += outcome.wrong;
        let reasons = outcome.reasons.iter().map(|why| format!("{peer}: {why}"));
        for why in reasons {
            if self.reasons.len() < REASONS && !self.reasons.contains(&why) {
                self.reasons.push(why);
            }
        }
    }
}

impl Report {
    /// Prints the table, and writes what else is wanted.
    pub(crate) fn give(&self, json: Option<&Path>, svg: Option<&Path>) -> Result<(), Failed> {
        table::print(self, &mut std::io::stdout().lock())
            .map_err(|error| Failed(format!("the table cannot be written: {error}")))?;
        let write = |path: &Path, text: String| {
            std::fs::write(path, text).map_err(|error| Failed(format!("{}: {error}", path.display())))
        };
        if let Some(path) = json {
            let text = serde_json::to_string_pretty(self).map_err(|error| Failed(error.to_string()))?;
            write(path, text + "\n")?;
        }
        if let Some(dir) = svg {
            std::fs::create_dir_all(dir).map_err(|error| Failed(format!("{}: {error}", dir.display())))?;
            for (name, picture) in [("latency", svg::latency(self)), ("throughput", svg::throughput(self))] {
                if let Some(picture) = picture {
                    write(&dir.join(format!("{}-{name}.svg", self.scenario)), picture)?;
                }
            }
        }
        Ok(())
    }
}
