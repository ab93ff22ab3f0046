//! The figures as a table for people, or as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::crowd::Kind;
use crate::percentiles::Percentiles;

/// What one kind of stream came to. Memory in bytes, beyond that of the empty process where not said otherwise.
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    pub(crate) streams: u32,
    /// Of the process before anybody came.
    pub(crate) empty: u64,
    /// Everybody has a place and nobody a stream.
    pub(crate) with_places: u64,
    pub(crate) with_streams: u64,
    /// After all streams are gone.
    pub(crate) left: u64,
    pub(crate) opened_in: Duration,
    /// Cores in use while nothing happened.
    pub(crate) cpu: f64,
    /// Told per second while nothing happened.
    pub(crate) words: f64,
    /// Per second, while nothing happened.
    pub(crate) redis_calls: f64,
    /// Called at once in each round.
    pub(crate) called: u32,
    pub(crate) told: Percentiles,
}

impl Figures {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Sse => "SSE over HTTP/2",
            Kind::Grpc => "gRPC",
        }
    }

    fn each(&self) -> f64 {
        self.with_streams as f64 / f64::from(self.streams)
    }
}

pub(crate) fn table(all: &[Figures]) -> String {
    let mut text = String::new();
    for figures in all {
        let mut line = |what: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {what:<58} {value}");
        };
        line(&format!("{} streams, {}", figures.streams, figures.name()), String::new());
        line("memory for each, beyond the empty process", format!("{:.0} bytes", figures.each()));
        line("  the empty process", mib(figures.empty));
        line("  everybody in line, no streams", format!("+ {}", mib(figures.with_places)));
        line("  all streams open", format!("+ {}", mib(figures.with_streams)));
        line("  all streams gone", format!("+ {}", mib(figures.left)));
        let rate = f64::from(figures.streams) / figures.opened_in.as_secs_f64();
        line(
            "opened, until each had its first word",
            format!("{:.1} s ({rate:.0}/s)", figures.opened_in.as_secs_f64()),
        );
        line("while nothing happens: CPU", format!("{:.1} % of a core", figures.cpu * 100.0));
        line("while nothing happens: words", format!("{:.0}/s", figures.words));
        line("while nothing happens: Redis calls", format!("{:.1}/s", figures.redis_calls));
        let told = &figures.told;
        line(
            &format!("{} called at once, until told ({} in all)", figures.called, told.count),
            told.to_string(),
        );
        text.push('\n');
    }
    text
}

pub(crate) fn json(all: &[Figures]) -> Value {
    let one = |figures: &Figures| {
        json!({
            "kind": figures.name(),
            "streams": figures.streams,
            "bytes_each": figures.each(),
            "bytes": {
                "empty": figures.empty, "with_places": figures.with_places,
                "with_streams": figures.with_streams, "left": figures.left,
            },
            "opened_in_seconds": figures.opened_in.as_secs_f64(),
            "idle": { "cores": figures.cpu, "words_per_second": figures.words, "redis_calls_per_second": figures.redis_calls },
            "called": {
                "at_once": figures.called, "count": figures.told.count,
                "p50_ms": figures.told.p50.as_secs_f64() * 1e3,
                "p99_ms": figures.told.p99.as_secs_f64() * 1e3,
                "max_ms": figures.told.max.as_secs_f64() * 1e3,
            },
        })
    };
    all.iter().map(one).collect()
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
