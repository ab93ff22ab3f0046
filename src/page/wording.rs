//! What the page says: the words of `web/strings.json` for what a visitor's standing comes to.
//!
//! The page's script says the same as standings come in (`web/waiting.js`); `tests/page_in_browser.rs` holds the
//! two together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Lang, View};
use crate::room::standing::{Eta, Standing, Status};

/// Below this confidence an estimate is called rough.
const ROUGH_BELOW: f64 = 0.5;
/// From here on an estimate in hours would pretend to know too much: two days, in seconds.
const DAYS_FROM: u64 = 2 * 86_400;
/// The upper end of a range is told up to here: 99 hours, in seconds.
const MAX_HIGH: u64 = 99 * 3_600;

/// The words of one language.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strings {
    /// Fixed texts, for `{{text.KEY}}`.
    labels: BTreeMap<String, String>,
    /// Texts that only the server says.
    once: Once,
    /// Texts that change with the standing: the page's script says them too.
    live: Live,
}

/// Texts that only the server says; `{name}` is filled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Once {
    title_hold: String,
    headline_hold: String,
    lead_hold: String,
    refreshes: String,
}

/// Texts that change with the standing; `{name}` is filled in.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Live {
    title_waiting: String,
    title_called: String,
    title_gone: String,
    headline_waiting: String,
    headline_next: String,
    headline_called: String,
    headline_gone: String,
    lead_waiting: String,
    lead_called: String,
    lead_gone: String,
    position_called: String,
    ahead_none: String,
    people_one: String,
    people_many: String,
    number: String,
    eta_seconds: String,
    eta_minute: String,
    eta_minutes: String,
    eta_hour: String,
    eta_hours: String,
    range_seconds: String,
    range_minutes: String,
    range_hours: String,
    eta_days: String,
    eta_none: String,
    note_none: String,
    note_rough: String,
    progress: String,
    announce: String,
    connecting: String,
    streaming: String,
    polling: String,
    lost: String,
    no_cookies: String,
}

/// What the page says of a view, ready to be escaped.
#[derive(Debug, PartialEq)]
pub(super) struct Saying<'a> {
    pub(super) title: String,
    pub(super) headline: &'a str,
    pub(super) lead: &'a str,
    pub(super) position: String,
    pub(super) ahead: String,
    pub(super) waiting: String,
    pub(super) number: String,
    pub(super) eta: String,
    pub(super) eta_note: &'a str,
    pub(super) connection: String,
}

/// The words of one language, and how they are put together.
#[derive(Clone, Debug)]
pub(super) struct Wording {
    strings: Strings,
    live_json: String,
}

impl Wording {
    #[expect(clippy::expect_used, reason = "the strings are part of the program; a test reads them")]
    pub(super) fn of(lang: Lang) -> Self {
        // All three hold for the file compiled in: a test reads it in every language.
        let mut all: BTreeMap<String, Strings> =
            serde_json::from_str(include_str!("../../web/strings.json")).expect("strings.json is sound");
        let strings = all.remove(lang.as_str()).expect("strings.json has every language");
        // Plain strings are always JSON.
        let live_json = serde_json::to_string(&strings.live).expect("strings can be written as JSON");
        Self { strings, live_json }
    }

    /// The keys of the labels.
    pub(super) fn labels(&self) -> impl Iterator<Item = &String> {
        self.strings.labels.keys()
    }

    /// A label; its key where there is none, which the template's check rules out.
    pub(super) fn label<'a>(&'a self, key: &'a str) -> &'a str {
        self.strings.labels.get(key).map_or(key, String::as_str)
    }

    /// The texts that change, for the page's script.
    pub(super) fn live_json(&self) -> &str {
        &self.live_json
    }

    /// What the page says of a view.
    pub(super) fn says(&self, view: &View<'_>) -> Saying<'_> {
        let Strings { once, live, .. } = &self.strings;
        let room = view.room().as_str();
        let (title, headline, lead, position) = match view {
            View::Hold { .. } => (&once.title_hold, &once.headline_hold, &once.lead_hold, "…".into()),
            View::Standing(standing) => match standing.status {
                Status::Waiting if standing.position == 1 => {
                    (&live.title_waiting, &live.headline_next, &live.lead_waiting, "1".into())
                }
                Status::Waiting => {
                    let position = grouped(standing.position);
                    (&live.title_waiting, &live.headline_waiting, &live.lead_waiting, position)
                }
                Status::Called | Status::Admitted => {
                    let position = live.position_called.clone();
                    (&live.title_called, &live.headline_called, &live.lead_called, position)
                }
                Status::Gone => (&live.title_gone, &live.headline_gone, &live.lead_gone, "–".into()),
            },
        };
        let refresh = view.refresh_seconds().to_string();
        let mut saying = Saying {
            title: fill(title, &[("position", &position), ("room", room)]),
            headline,
            lead,
            position,
            ahead: String::new(),
            waiting: String::new(),
            number: String::new(),
            eta: String::new(),
            eta_note: "",
            connection: fill(&once.refreshes, &[("seconds", &refresh)]),
        };
        if let View::Standing(standing) = view
            && standing.status == Status::Waiting
        {
            self.say_line(&mut saying, standing);
        }
        saying
    }

    fn say_line<'a>(&'a self, saying: &mut Saying<'a>, standing: &Standing) {
        let live = &self.strings.live;
        saying.ahead = match standing.position {
            0 | 1 => live.ahead_none.clone(),
            position => self.people(position - 1),
        };
        saying.waiting = self.people(standing.waiting);
        saying.number = fill(&live.number, &[("n", &grouped(standing.number))]);
        saying.eta = self.estimate(standing.eta);
        saying.eta_note = match standing.eta {
            None => &live.note_none,
            Some(eta) if eta.confidence < ROUGH_BELOW => &live.note_rough,
            Some(_) => "",
        };
    }

    fn people(&self, n: u64) -> String {
        let live = &self.strings.live;
        if n == 1 { live.people_one.clone() } else { fill(&live.people_many, &[("n", &grouped(n))]) }
    }

    /// An estimate in words, with its range: "about 3 minutes (2 to 5)".
    ///
    /// The range's upper end picks the unit, so that both ends are told in the same one: steps of 5 s up to 90 s,
    /// minutes up to 90 minutes, then half hours.
    fn estimate(&self, eta: Option<Eta>) -> String {
        let live = &self.strings.live;
        let Some(eta) = eta else { return live.eta_none.clone() };
        if eta.seconds >= DAYS_FROM {
            return live.eta_days.clone();
        }
        let high = eta.high.max(eta.seconds).min(MAX_HIGH);
        let (one, many, range, unit, step) = match high {
            0..=90 => (&live.eta_seconds, &live.eta_seconds, &live.range_seconds, 1, 5),
            91..=5_400 => (&live.eta_minute, &live.eta_minutes, &live.range_minutes, 60, 60),
            _ => (&live.eta_hour, &live.eta_hours, &live.range_hours, 3_600, 1_800),
        };
        let amount = |seconds: u64| in_units((seconds.saturating_add(step / 2) / step).max(1) * step, unit);
        let (n, low, high) = (amount(eta.seconds), amount(eta.low), amount(high));
        let range = if low == high { String::new() } else { fill(range, &[("low", &low), ("high", &high)]) };
        let pattern = if n == "1" { one } else { many };
        fill(pattern, &[("n", &n), ("range", &range)])
    }
}

/// Seconds in units of `unit` seconds, with halves: `1`, `1.5`.
fn in_units(seconds: u64, unit: u64) -> String {
    let whole = seconds / unit;
    if seconds.is_multiple_of(unit) { whole.to_string() } else { format!("{whole}.5") }
}

/// A count with commas between thousands, as both languages write it.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A pattern with its `{name}`s filled in.
fn fill(pattern: &str, values: &[(&str, &str)]) -> String {
    let filled = values
        .iter()
        .fold(pattern.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
    debug_assert!(!filled.contains('{'), "a value is missing in {filled:?}");
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn eta(seconds: u64, low: u64, high: u64) -> Eta {
        Eta { seconds, low, high, confidence: 0.8 }
    }

    #[test]
    fn estimates_are_told_with_their_uncertainty() {
        let (korean, english) = (Wording::of(Lang::Ko), Wording::of(Lang::En));
        let cases = [
            (eta(0, 0, 0), "about 5 seconds", "약 5초"),
            (eta(12, 9, 18), "about 10 seconds (10 to 20)", "약 10초 (10~20초)"),
            (eta(60, 40, 90), "about 60 seconds (40 to 90)", "약 60초 (40~90초)"),
            (eta(60, 40, 100), "about 1 minute (1 to 2)", "약 1분 (1~2분)"),
            (eta(180, 120, 300), "about 3 minutes (2 to 5)", "약 3분 (2~5분)"),
            (eta(180, 170, 190), "about 3 minutes", "약 3분"),
            (eta(3_600, 3_600, 3_600), "about 60 minutes", "약 60분"),
            (eta(3_600, 2_400, 7_200), "about 1 hour (0.5 to 2)", "약 1시간 (0.5~2시간)"),
            (eta(5_400, 3_600, 9_000), "about 1.5 hours (1 to 2.5)", "약 1.5시간 (1~2.5시간)"),
            (eta(7_200, 7_200, u64::MAX), "about 2 hours (2 to 99)", "약 2시간 (2~99시간)"),
            (eta(172_800, 1, 2), "more than two days", "이틀 넘게 걸려요"),
            (eta(u64::MAX, u64::MAX, u64::MAX), "more than two days", "이틀 넘게 걸려요"),
        ];
        for (eta, en, ko) in cases {
            assert_eq!(english.estimate(Some(eta)), en, "{eta:?}");
            assert_eq!(korean.estimate(Some(eta)), ko, "{eta:?}");
        }
    }

    #[test]
    fn counts_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), text);
        }
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn both_languages_have_the_same_labels_and_no_empty_text() {
        let (korean, english) = (Wording::of(Lang::Ko), Wording::of(Lang::En));
        assert!(korean.labels().eq(english.labels()));
        for wording in [korean, english] {
            let live: BTreeMap<String, String> = serde_json::from_str(&wording.live_json).unwrap();
            for (key, text) in wording.strings.labels.iter().chain(&live) {
                assert!(!text.trim().is_empty(), "{key}");
                // A text is filled in as it is; markup in it would only show as such.
                assert!(!text.contains(['<', '>']), "{key}");
            }
        }
    }

    #[test]
    fn both_languages_fill_in_the_same_values() {
        let names = |text: &str| -> Vec<String> {
            let mut names: Vec<_> =
                text.split('{').skip(1).map(|part| part.split('}').next().unwrap().to_owned()).collect();
            names.sort();
            names
        };
        let read = |lang| -> BTreeMap<String, String> {
            serde_json::from_str(&Wording::of(lang).live_json).unwrap()
        };
        for ((key, ko), (_, en)) in read(Lang::Ko).into_iter().zip(read(Lang::En)) {
            assert_eq!(names(&ko), names(&en), "{key}");
        }
    }
}
