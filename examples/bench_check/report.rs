//! The figures, as a table for people and as JSON for machines.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{Latencies, Load, Round};

/// What was measured of one server.
pub(crate) struct Figures {
    pub(crate) name: &'static str,
    /// Under full load.
    pub(crate) rounds: Vec<Round>,
    /// One request at a time.
    pub(crate) alone: Round,
}

/// Everything measured. The first figures are the Check's, the second the no-op's.
pub(crate) struct Report {
    pub(crate) figures: Vec<Figures>,
    pub(crate) load: Load,
    pub(crate) server_threads: u16,
}

/// The middle of some values, and the ends.
#[derive(Clone, Copy)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = values.len().saturating_sub(1);
        Self { low: at(0), median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), high: at(last) }
    }

    fn json(self) -> Value {
        json!({"low": self.low, "median": self.median, "high": self.high})
    }
}

impl Figures {
    fn rates(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|round| round.rate).collect())
    }

    /// Microseconds of the servers' CPU for a request; `None` where the system does not tell.
    fn cpu(&self) -> Option<Spread> {
        let micros = self.rounds.iter().map(|round| Some(round.cpu?.as_secs_f64() * 1e6));
        micros.collect::<Option<Vec<_>>>().map(Spread::of)
    }

    fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        self.rounds.iter().for_each(|round| all.add(&round.latencies));
        all
    }
}

impl Report {
    /// Check over no-op, round by round: what slows the machine for a while slows both.
    fn ratio(&self, of: impl Fn(&Round) -> Option<f64>) -> Option<Spread> {
        let [check, noop, ..] = &self.figures[..] else { return None };
        let pairs = check.rounds.iter().zip(&noop.rounds);
        let ratios: Option<Vec<f64>> = pairs.map(|(check, noop)| Some(of(check)? / of(noop)?)).collect();
        ratios.map(Spread::of)
    }

    fn rate_ratio(&self) -> Option<Spread> {
        self.ratio(|round| Some(round.rate))
    }

    fn cpu_ratio(&self) -> Option<Spread> {
        self.ratio(|round| round.cpu.map(|cpu| cpu.as_secs_f64()))
    }

    fn answers(&self) -> u64 {
        self.figures.iter().map(|figures| figures.latencies().count() + figures.alone.latencies.count()).sum()
    }

    /// For machines: rates in requests per second, latencies in microseconds.
    pub(crate) fn json(&self) -> Value {
        let servers = self.figures.iter().map(|figures| {
            json!({
                "name": figures.name,
                "requests_per_second": figures.rates().json(),
                "server_cpu_us": figures.cpu().map(Spread::json),
                "latency_us": quantiles(&figures.latencies()),
                "one_at_a_time_us": quantiles(&figures.alone.latencies),
            })
        });
        json!({
            "servers": servers.collect::<Vec<_>>(),
            "check_to_noop_requests": self.rate_ratio().map(Spread::json),
            "check_to_noop_cpu": self.cpu_ratio().map(Spread::json),
            "answers": self.answers(),
            "connections": self.load.connections,
            "in_flight_per_connection": self.load.streams,
            "server_threads": self.server_threads,
            "rounds": self.figures.first().map_or(0, |figures| figures.rounds.len()),
            "seconds_per_round": self.load.length.as_secs(),
        })
    }

    /// For people.
    pub(crate) fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let Load { connections, streams, length, .. } = self.load;
        let rounds = self.figures.first().map_or(0, |figures| figures.rounds.len());
        let (seconds, threads) = (length.as_secs(), self.server_threads);
        writeln!(
            out,
            "{rounds} rounds of {seconds} s for each, in turn; {connections} connections × {streams} requests in flight;"
        )?;
        writeln!(out, "{threads} server thread{}, 1 client thread\n", if threads == 1 { "" } else { "s" })?;
        row(
            out,
            ["", "requests/s", "lowest … highest", "CPU each", "full load p50 / p99", "alone p50 / p99"],
        )?;
        for figures in &self.figures {
            let rates = figures.rates();
            let cells = [
                figures.name,
                &grouped(rates.median),
                &format!("{} … {}", grouped(rates.low), grouped(rates.high)),
                &figures.cpu().map_or("not known".to_owned(), |cpu| format!("{:.1} µs", cpu.median)),
                &p50_p99(&figures.latencies()),
                &p50_p99(&figures.alone.latencies),
            ];
            row(out, cells)?;
        }
        writeln!(out)?;
        for (what, ratio) in [("requests/s", self.rate_ratio()), ("the server's CPU", self.cpu_ratio())] {
            if let Some(Spread { low, median, high }) = ratio {
                writeln!(out, "Check : no-op in {what} = {median:.2} (by round {low:.2} … {high:.2})")?;
            }
        }
        let answers = grouped(self.answers() as f64);
        writeln!(
            out,
            "\nAll {answers} answers were right. No pass or fail here: the figures are this machine's, now."
        )
    }
}

fn row(out: &mut impl Write, [name, rate, spread, cpu, full, alone]: [&str; 6]) -> io::Result<()> {
    writeln!(out, "{name:<21} {rate:>10} {spread:>20} {cpu:>9} {full:>20} {alone:>18}")
}

fn quantiles(latencies: &Latencies) -> Value {
    let micros = |part| latencies.quantile(part).as_secs_f64() * 1e6;
    json!({"p50": micros(0.5), "p99": micros(0.99)})
}

fn p50_p99(latencies: &Latencies) -> String {
    format!("{} / {}", told(latencies.quantile(0.5)), told(latencies.quantile(0.99)))
}

fn told(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1_000.0 { format!("{micros:.0} µs") } else { format!("{:.1} ms", micros / 1_000.0) }
}

/// A whole number with commas between thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between() {
        let spread = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert!((spread.median - 2.5).abs() < 1e-9 && spread.low < 1.1 && spread.high > 3.9);
    }

    #[test]
    fn figures_are_easy_to_read() {
        assert_eq!(
            (grouped(0.0), grouped(999.6), grouped(1_234_567.0)),
            ("0".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!(told(Duration::from_nanos(75_400)), "75 µs");
        assert_eq!(told(Duration::from_micros(3_440)), "3.4 ms");
    }
}
