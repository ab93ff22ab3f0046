//! The figures as a table for people, or as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::percentiles::Percentiles;

/// How visitors learn where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// They ask every few seconds.
    Polling,
    /// They are told.
    Streams,
}

impl Way {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Streams => "streams",
        }
    }
}

/// What one way came to, in the time of waiting. Joining is in neither.
pub(crate) struct Figures {
    pub(crate) way: Way,
    pub(crate) visitors: u16,
    pub(crate) seconds: u64,
    /// That Envoy got.
    pub(crate) requests: u64,
    /// Positions that visitors were told, heartbeats included.
    pub(crate) words: u64,
    /// Bytes from Envoy to visitors.
    pub(crate) sent: u64,
    /// Bytes from visitors to Envoy.
    pub(crate) received: u64,
    /// Seconds of CPU.
    pub(crate) envoy_cpu: f64,
    /// Seconds of CPU.
    pub(crate) anteroom_cpu: f64,
    /// Resident, bytes, at the end.
    pub(crate) envoy_memory: u64,
    /// Resident, bytes, at the end.
    pub(crate) anteroom_memory: u64,
    pub(crate) redis_calls: u64,
    /// Called at once at the end.
    pub(crate) called: u32,
    pub(crate) told: Percentiles,
}

/// What stands in one row for one way.
type Cell = fn(&Figures) -> String;

pub(crate) fn table(polling: &Figures, streams: &Figures, every: u64) -> String {
    let mut text = String::new();
    let mut row = |what: &str, polling: &str, streams: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {what:<34} {polling:>22} {streams:>22}");
    };
    row(
        &format!("{} visitors, {} s", polling.visitors, polling.seconds),
        &format!("polling every {every} s"),
        "a stream each",
    );
    let rows: [(&str, Cell); 11] = [
        ("requests at Envoy", |figures| figures.requests.to_string()),
        ("positions told (with heartbeats)", |figures| figures.words.to_string()),
        ("sent to visitors", |figures| mib(figures.sent)),
        ("received from visitors", |figures| mib(figures.received)),
        ("CPU of Envoy", |figures| cpu(figures.envoy_cpu, figures.seconds)),
        ("CPU of Anteroom", |figures| cpu(figures.anteroom_cpu, figures.seconds)),
        ("memory of Envoy", |figures| mib(figures.envoy_memory)),
        ("memory of Anteroom", |figures| mib(figures.anteroom_memory)),
        ("Redis calls", |figures| figures.redis_calls.to_string()),
        ("called, until told: p50, p99", |figures| {
            format!("{} ms, {} ms", figures.told.p50.as_millis(), figures.told.p99.as_millis())
        }),
        ("the last of them", |figures| {
            format!("{} ms of {}", figures.told.max.as_millis(), figures.told.count)
        }),
    ];
    for (what, value) in rows {
        row(what, &value(polling), &value(streams));
    }
    let saved = 100.0 * (1.0 - streams.requests as f64 / polling.requests.max(1) as f64);
    let _ = writeln!(text, "\n  {saved:.1} % of the requests are saved");
    text
}

pub(crate) fn json(polling: &Figures, streams: &Figures) -> Value {
    let one = |figures: &Figures| {
        let Percentiles { p50, p99, max, count } = figures.told;
        json!({
            "way": figures.way.name(),
            "visitors": figures.visitors,
            "seconds": figures.seconds,
            "requests": figures.requests,
            "words": figures.words,
            "bytes": { "sent": figures.sent, "received": figures.received },
            "cpu_seconds": { "envoy": figures.envoy_cpu, "anteroom": figures.anteroom_cpu },
            "resident_bytes": { "envoy": figures.envoy_memory, "anteroom": figures.anteroom_memory },
            "redis_calls": figures.redis_calls,
            "called": {
                "at_once": figures.called, "count": count,
                "p50_ms": p50.as_secs_f64() * 1e3, "p99_ms": p99.as_secs_f64() * 1e3, "max_ms": max.as_secs_f64() * 1e3,
            },
        })
    };
    json!([one(polling), one(streams)])
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn cpu(used: f64, seconds: u64) -> String {
    format!("{used:.1} s ({:.1} %)", 100.0 * used / seconds as f64)
}
