//! The figures as pictures: SVG written by hand, as no plotting library lets a picture follow the reader's light or dark
//! theme, and because these two need no more than lines, dots and text.

use std::fmt::Write as _;

use super::table::{grouped, time};
use super::{Report, Row};
use crate::figures::{Point, Spread};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = 46.0;
/// Colours of peers, of about the same weight on white and on black.
const COLOURS: [&str; 6] = ["#2b7de9", "#e0662f", "#3d9a50", "#a05ad6", "#c2405f", "#8a7a2a"];

/// A picture in the making.
struct Picture {
    text: String,
}

impl Picture {
    fn new(title: &str, subtitle: &str) -> Self {
        let mut picture = Self { text: String::new() };
        let _ = write!(
            picture.text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
             <title>{}</title>\n<style>\n.back {{ fill: #ffffff }} .ink {{ fill: #24292f }} .soft {{ fill: #57606a }} \
             .grid {{ stroke: #d0d7de }}\n@media (prefers-color-scheme: dark) {{ .back {{ fill: #0d1117 }} \
             .ink {{ fill: #e6edf3 }} .soft {{ fill: #9198a1 }} .grid {{ stroke: #3d444d }} }}\n</style>\n\
             <rect class=\"back\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n",
            escaped(title)
        );
        picture.write("ink", LEFT, 22.0, "start", title);
        picture.write("soft", LEFT, 40.0, "start", subtitle);
        picture
    }

    fn write(&mut self, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escaped(text);
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            self.text,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn grid(&mut self, [x1, y1, x2, y2]: [f64; 4]) {
        let _ = writeln!(
            self.text,
            "<line class=\"grid\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    fn line(&mut self, colour: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.text,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.join(" ")
        );
    }

    fn dot(&mut self, colour: &str, (x, y): (f64, f64), told: &str) {
        let told = escaped(told);
        let _ = writeln!(
            self.text,
            "<circle fill=\"{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{told}</title></circle>"
        );
    }

    fn legend(&mut self, names: impl Iterator<Item = String>) {
        let mut x = LEFT;
        for (name, colour) in names.zip(COLOURS.iter().cycle()) {
            let y = HEIGHT - 10.0;
            let _ = writeln!(
                self.text,
                "<rect fill=\"{colour}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\"/>",
                y - 9.0
            );
            self.write("ink", x + 15.0, y, "start", &name);
            x += 40.0 + 6.6 * name.chars().count() as f64;
        }
    }

    fn done(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// Latency by percentile; `None` where none was measured.
pub(crate) fn latency(report: &Report) -> Option<String> {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| !row.curve.is_empty()).collect();
    let points = || rows.iter().flat_map(|row| &row.curve);
    // The axis of percentiles has a step for each nine; the axis of times is logarithmic too.
    let nines = |share: f64| -(1.0 - share).log10();
    let most = points().map(|point| nines(point.share)).fold(2.0, f64::max);
    let low = points().map(|point| point.micros.max(1.0).log10()).reduce(f64::min)?.floor();
    let high = points().map(|point| point.micros.max(1.0).log10()).reduce(f64::max)?.ceil().max(low + 1.0);
    let x = |share: f64| LEFT + (WIDTH - LEFT - RIGHT) * nines(share) / most;
    let y = |log: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (log - low) / (high - low);

    let subtitle = "latency by percentile, on a fixed schedule, counted from when each request was due";
    let mut picture = Picture::new(&title(report), subtitle);
    let mut log = low;
    while log <= high {
        picture.grid([LEFT, y(log), WIDTH - RIGHT, y(log)]);
        picture.write("soft", LEFT - 8.0, y(log) + 4.0, "end", &time(10_f64.powf(log)));
        log += 1.0;
    }
    let marks = [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
    ];
    for (share, name) in marks.into_iter().filter(|(share, _)| nines(*share) <= most) {
        picture.grid([x(share), TOP, x(share), HEIGHT - BOTTOM]);
        picture.write("soft", x(share), HEIGHT - BOTTOM + 16.0, "middle", name);
    }
    for (row, colour) in rows.iter().zip(COLOURS.iter().cycle()) {
        let at = |point: &Point| (x(point.share), y(point.micros.max(1.0).log10()));
        picture.line(colour, row.curve.iter().map(at));
    }
    picture.legend(rows.iter().map(|row| {
        let rate = Spread::of(row.open.iter().map(|round| round.rate)).map_or(0.0, |rate| rate.median);
        format!("{}, {}/s", row.name, grouped(rate))
    }));
    Some(picture.done())
}

/// Requests per second of each peer, a dot for each round; `None` where they were not measured.
pub(crate) fn throughput(report: &Report) -> Option<String> {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| !row.closed.is_empty()).collect();
    let highest = rows.iter().flat_map(|row| &row.closed).map(|round| round.rate).reduce(f64::max)?.max(1.0);
    let step = step_of(highest);
    let top = (highest / step).ceil() * step;
    let rounds = rows.iter().map(|row| row.closed.len()).max()?;
    let x = |round: usize| LEFT + (WIDTH - LEFT - RIGHT) * (round as f64 + 0.5) / rounds as f64;
    let y = |rate: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / top;

    let subtitle = "requests per second by round: one core for the service, all asked in turn";
    let mut picture = Picture::new(&title(report), subtitle);
    let mut rate = 0.0;
    while rate <= top {
        picture.grid([LEFT, y(rate), WIDTH - RIGHT, y(rate)]);
        picture.write("soft", LEFT - 8.0, y(rate) + 4.0, "end", &grouped(rate));
        rate += step;
    }
    for round in 0..rounds {
        picture.write("soft", x(round), HEIGHT - BOTTOM + 16.0, "middle", &(round + 1).to_string());
    }
    for (row, colour) in rows.iter().zip(COLOURS.iter().cycle()) {
        let at = |(round, closed): (usize, &super::Closed)| (x(round), y(closed.rate));
        picture.line(colour, row.closed.iter().enumerate().map(at));
        for (round, closed) in row.closed.iter().enumerate() {
            picture.dot(colour, at((round, closed)), &format!("{}: {}/s", row.name, grouped(closed.rate)));
        }
    }
    picture.legend(rows.iter().map(|row| row.name.clone()));
    Some(picture.done())
}

fn title(report: &Report) -> String {
    format!("{}: {}", report.scenario, report.what)
}

/// A round number, of which four to ten make up the highest.
fn step_of(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 4.0).log10().floor());
    [5.0, 2.0, 1.0]
        .into_iter()
        .map(|times| times * power)
        .find(|step| *step <= highest / 4.0)
        .unwrap_or(power)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::drive::histogram;
    use crate::figures::Latencies;
    use crate::report::{Busy, Closed, Machine, Open, Tally};

    fn report() -> Report {
        let mut all = histogram();
        (1..=50_000).for_each(|micros| all.record(micros * 100).unwrap());
        let mut row = Row::named("a <b> & \"c\"");
        row.tell(&all);
        let latencies = Latencies::of(&all);
        row.open.push(Open {
            rate: 1e4,
            late: 0.0,
            held: 0.0,
            busy: Busy::default(),
            latencies: latencies.clone(),
        });
        for rate in [99_000.0, 101_000.0] {
            row.closed.push(Closed {
                rate,
                cpu_micros: None,
                envoy_micros: None,
                busy: Busy::default(),
                latencies: latencies.clone(),
            });
        }
        Report {
            scenario: "pass",
            what: String::new(),
            versions: std::collections::BTreeMap::new(),
            machine: Machine::this(None),
            parameters: json!({}),
            rows: vec![row],
            ratios: Vec::new(),
            facts: Vec::new(),
            notes: Vec::new(),
            answers: Tally::default(),
        }
    }

    /// Every element opened is closed in order, attributes are quoted, and nothing else has angle brackets.
    fn must_be_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').expect("every < has its >");
            assert!(!text.contains('>'), "{part}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else {
                assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
                let name = tag.split_whitespace().next().unwrap();
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
        }
        assert!(open.is_empty(), "not closed: {open:?}");
        for part in svg.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|name| part.starts_with(name)), "&{part}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn pictures_are_well_formed_and_show_every_peer() {
        let report = report();
        for picture in [latency(&report).unwrap(), throughput(&report).unwrap()] {
            must_be_well_formed(&picture);
            assert!(picture.contains("a &lt;b&gt; &amp; &quot;c&quot;"));
            assert!(picture.contains("prefers-color-scheme: dark"));
        }
        assert_eq!(throughput(&report).unwrap().matches("<circle").count(), 2);
        let empty = Report { rows: vec![Row::named("nothing")], ..report };
        assert_eq!((latency(&empty), throughput(&empty)), (None, None));
    }

    #[test]
    fn axes_have_round_steps() {
        for (highest, step) in [(110_000.0, 20_000.0), (9.0, 2.0), (260_000.0, 50_000.0), (45.0, 10.0)] {
            assert!((step_of(highest) - step).abs() < 1e-6, "{highest}: {}", step_of(highest));
        }
    }
}
