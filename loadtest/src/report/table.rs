//! The figures as tables for people.

use std::io::{self, Write};

use super::{Fact, Ratio, Report, Row};
use crate::figures::Spread;

/// Prints everything but the curves.
pub(super) fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let machine = &report.machine;
    writeln!(out, "{}: {}\n{}, {} cores", report.scenario, report.what, machine.processor, machine.cores)?;
    let versions: Vec<String> = report.versions.iter().map(|(name, told)| format!("{name} {told}")).collect();
    writeln!(out, "{}", versions.join(", "))?;
    match (machine.service_core, machine.load_core) {
        (Some(service), Some(load)) if service != load => {
            writeln!(out, "the service on core {service}, the load on core {load}\n")?;
        }
        _ => writeln!(out, "the service and the load share cores: the figures say little\n")?,
    }
    let ran = |of: fn(&Row) -> bool| report.rows.iter().any(of);
    if ran(|row| !row.closed.is_empty()) {
        closed(&report.rows, out)?;
    }
    if ran(|row| row.latencies.is_some()) {
        open(&report.rows, out)?;
    }
    for Ratio { of, to, what, spread: Spread { low, median, high } } in &report.ratios {
        writeln!(out, "{of} : {to} in {what} = {median:.2} (by round {low:.2} … {high:.2})")?;
    }
    facts(&report.facts, out)?;
    for note in &report.notes {
        writeln!(out, "{note}")?;
    }
    let answers = &report.answers;
    if answers.wrong == 0 {
        return writeln!(out, "\nAll {} answers were right.", grouped(answers.all as f64));
    }
    writeln!(
        out,
        "\n{} of {} answers were wrong:",
        grouped(answers.wrong as f64),
        grouped(answers.all as f64)
    )?;
    answers.reasons.iter().try_for_each(|why| writeln!(out, "  {why}"))
}

/// Figures of the same stand together under its name.
fn facts(facts: &[Fact], out: &mut impl Write) -> io::Result<()> {
    let mut heading = "";
    for Fact { of, name, value, unit } in facts {
        if of != heading {
            heading = of;
            writeln!(out, "{of}")?;
        }
        let (value, unit) = readable(*value, unit);
        let told = if value.fract() == 0.0 || value.abs() >= 1_000.0 {
            grouped(value)
        } else {
            format!("{value:.2}")
        };
        let indent = if of.is_empty() { 0 } else { 2 };
        writeln!(out, "{:indent$}{name:<width$} {told:>12} {unit}", "", width = 64 - indent)?;
    }
    Ok(())
}

/// Bytes are for machines.
fn readable(value: f64, unit: &'static str) -> (f64, &'static str) {
    const MIB: f64 = (1 << 20) as f64;
    match unit {
        "bytes" if value < MIB / 10.0 => (value / 1_024.0, "KiB"),
        "bytes" => (value / MIB, "MiB"),
        "bytes/s" if value < MIB / 10.0 => (value / 1_024.0, "KiB/s"),
        "bytes/s" => (value / MIB, "MiB/s"),
        _ => (value, unit),
    }
}

fn closed(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let line = |out: &mut dyn Write, [name, rate, spread, cpu, busy]: [&str; 5]| {
        writeln!(out, "{name:<16} {rate:>10} {spread:>20} {cpu:>9}   {busy}")
    };
    line(out, ["top rate", "requests/s", "lowest … highest", "CPU each", "share of a core used"])?;
    for row in rows {
        let Some(rates) = row.spread(|round| Some(round.rate)) else { continue };
        let cpu = row.spread(|round| round.cpu_micros);
        let busy = [
            ("service", row.spread(|round| round.busy.service)),
            ("Envoy", row.spread(|round| round.busy.envoy)),
            ("load", row.spread(|round| round.busy.load)),
            ("Redis", row.spread(|round| round.busy.store)),
        ];
        let told =
            |(who, share): &(&str, Option<Spread>)| Some(format!("{who} {:.2}", share.as_ref()?.median));
        let busy: Vec<String> = busy.iter().filter_map(told).collect();
        let cells = [
            &row.name,
            &grouped(rates.median),
            &format!("{} … {}", grouped(rates.low), grouped(rates.high)),
            &cpu.map_or("not known".to_owned(), |cpu| format!("{:.1} µs", cpu.median)),
            &busy.join(", "),
        ];
        line(out, cells.map(|cell: &String| cell.as_str()))?;
        if row.spread(|round| round.busy.load).is_some_and(|load| load.median > 0.95) {
            writeln!(out, "{:<16} the load's core was full: {} can do more than this", "", row.name)?;
        }
        if let Some(waited) = row.spread(|round| round.busy.waited).filter(|waited| waited.median > 0.05) {
            writeln!(out, "{:<16} others had its core for {:.0} % of the time", "", waited.median * 100.0)?;
        }
    }
    writeln!(out)
}

fn open(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<16} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}   sent > 1 ms late",
        "latency", "requests/s", "p50", "p90", "p99", "p99.9", "max"
    )?;
    for row in rows {
        let (Some(told), Some(rate)) = (&row.latencies, Spread::of(row.open.iter().map(|round| round.rate)))
        else {
            continue;
        };
        let mean = |of: fn(&super::Open) -> f64| {
            100.0 * row.open.iter().map(of).sum::<f64>() / row.open.len() as f64
        };
        let (late, held) = (mean(|round| round.late), mean(|round| round.held));
        let times = [told.p50, told.p90, told.p99, told.p999, told.max].map(time);
        write!(out, "{:<16} {:>10}", row.name, grouped(rate.median))?;
        times.iter().try_for_each(|time| write!(out, " {time:>9}"))?;
        write!(out, "   {late:.2} % by the load")?;
        if held > 0.0 { writeln!(out, ", {held:.2} % held up by the service")? } else { writeln!(out)? }
    }
    writeln!(out)
}

/// A duration in microseconds, as people read it.
pub(super) fn time(micros: f64) -> String {
    if micros < 1_000.0 {
        format!("{micros:.0} µs")
    } else if micros < 1e6 {
        format!("{:.1} ms", micros / 1e3)
    } else {
        format!("{:.1} s", micros / 1e6)
    }
}

/// A whole number with commas between thousands.
pub(crate) fn grouped(value: f64) -> String {
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
    fn figures_are_easy_to_read() {
        assert_eq!([0.0, 999.6, 1_234_567.0].map(grouped), ["0", "1,000", "1,234,567"]);
        assert_eq!(readable(3.0 * 1_048_576.0, "bytes/s"), (3.0, "MiB/s"));
        assert_eq!((readable(2_048.0, "bytes"), readable(2_048.0, "ms")), ((2.0, "KiB"), (2_048.0, "ms")));
        assert_eq!([75.4, 3_440.0, 2_100_000.0].map(time), ["75 µs", "3.4 ms", "2.1 s"]);
    }
}
