//! What operators are told of a room, as JSON with stable names: docs/operators.md lists them.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::room::policy::{KEYS, Millis, Policy};
use crate::room::rate::Rate;
use crate::room::snapshot::Snapshot;
use crate::room::state::Limits;
use crate::rooms::control::Known;

/// A page of rooms, in order of their names.
#[derive(Debug, Serialize, Deserialize)]
pub struct List {
    /// At most as many as were asked for.
    pub rooms: Vec<Overview>,
    /// What to ask for with `after=` next; `None`: these were the last.
    pub next: Option<String>,
    /// How many rooms this process knows.
    pub known: usize,
}

/// A room.
#[derive(Debug, Serialize, Deserialize)]
pub struct Overview {
    /// Its name.
    pub room: String,
    /// Grows with each reset and after a total loss; milliseconds since the epoch.
    pub generation: u64,
    /// An operator has paused it: nobody is called.
    pub paused: bool,
    /// How many are where.
    pub counts: Counts,
    /// The first in line; `None`: nobody waits.
    pub oldest_waiting: Option<Oldest>,
    /// How fast.
    pub rates: Rates,
    /// The limits.
    pub policy: Limiting,
    /// The last time that part of its past was found lost; `None`: not since it was reset.
    pub last_loss: Option<Loss>,
    /// Who states other limits.
    pub divergence: Divergence,
    /// What all of this was read from.
    pub snapshot: Freshness,
}

/// How many are where.
#[derive(Debug, Serialize, Deserialize)]
pub struct Counts {
    /// In line.
    pub waiting: u64,
    /// Called, and not in yet.
    pub called: u64,
    /// Inside; `None`: nobody counts them, as there is no capacity.
    pub inside: Option<u64>,
    /// Numbers given in this generation; after a loss those that were left out count too.
    pub given: u64,
}

/// The first in line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Oldest {
    /// How long they have waited.
    pub seconds: f64,
    /// They came before this process looked, so it may be longer.
    pub at_least: bool,
}

/// How fast numbers are given and called, by all processes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rates {
    /// The limit in force; `None`: none.
    pub limit_per_second: Option<f64>,
    /// Numbers given, over the last minute; `None`: not known yet.
    pub given_per_second: Option<f64>,
    /// Calls out of the line over the last minute, per second in which somebody waited; `None`: nobody did.
    pub called_per_second: Option<f64>,
    /// What visitors' waiting times are told by.
    pub expected_per_second: f64,
    /// How far to trust that: 0.2 to 1.
    pub confidence: f64,
}

/// The limits of a room.
#[derive(Debug, Serialize, Deserialize)]
pub struct Limiting {
    /// What counts: an operator's limits above those stated.
    pub in_force: Map<String, Value>,
    /// As last stated to the store, without an operator's limits.
    pub stated: Map<String, Value>,
    /// What states them here: `context_extensions`, `route_metadata`, `rooms_file`; `store`: another process, or nobody now.
    pub source: String,
    /// An operator's limits; `None`: none.
    pub operator: Option<Limits>,
}

/// A loss.
#[derive(Debug, Serialize, Deserialize)]
pub struct Loss {
    /// When it was noticed (RFC 3339).
    pub at: String,
    /// How long ago.
    pub seconds_ago: f64,
    /// The room was made then: it is new, or all of it was lost.
    pub made_from_nothing: bool,
    /// Tickets from before are still honoured.
    pub healing: bool,
}

/// Who states other limits.
#[derive(Debug, Serialize, Deserialize)]
pub struct Divergence {
    /// Limits that take turns with those stated to this process.
    pub here: Vec<Map<String, Value>>,
    /// Limits that another process has stated against ours within the last minute.
    pub elsewhere: Option<Map<String, Value>>,
}

/// How new all of this is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Freshness {
    /// When it was taken (RFC 3339), by the store's clock.
    pub at: String,
    /// How old it is, by this process's clock.
    pub age_seconds: f64,
    /// The room's store calls all fail, and are refused at once.
    pub cut_off: bool,
}

impl Overview {
    /// What is known of a room.
    pub fn of(known: &Known) -> Self {
        let snapshot = &*known.snapshot;
        let in_force = &*snapshot.policy;
        let stated_here = known.stated.as_ref().filter(|(policy, _)| *policy == snapshot.stated);
        Self {
            room: in_force.room.to_string(),
            generation: snapshot.generation(),
            paused: snapshot.paused,
            counts: Counts {
                waiting: snapshot.waiting,
                called: snapshot.called,
                inside: in_force.capacity.map(|_| snapshot.sessions),
                given: snapshot.lines.last().map_or(0, |line| line.next.saturating_sub(1)),
            },
            oldest_waiting: known.oldest.map(|waited| Oldest {
                seconds: seconds(waited.ms.saturating_add(known.age)),
                at_least: waited.at_least,
            }),
            rates: Rates {
                limit_per_second: in_force.rate.map(|rate| rounded(Rate::per_second(rate))),
                given_per_second: known.given.and_then(|(count, over)| {
                    (over >= 1_000).then(|| rounded(count as f64 * 1_000.0 / over as f64))
                }),
                called_per_second: snapshot.minute.per_second().map(rounded),
                expected_per_second: rounded(snapshot.speed.per_second),
                confidence: snapshot.speed.confidence,
            },
            policy: Limiting {
                in_force: written(in_force),
                stated: written(&snapshot.stated),
                source: stated_here.map_or_else(
                    || "store".to_owned(),
                    |(_, source)| text_of(&serde_json::to_value(source).unwrap_or_default()),
                ),
                operator: Some(snapshot.limits.clone()).filter(|limits| *limits != Limits::default()),
            },
            last_loss: loss(snapshot),
            divergence: Divergence {
                here: known.conflicting.iter().map(|policy| written(policy)).collect(),
                elsewhere: known.elsewhere.as_ref().map(|(policy, _)| written(policy)),
            },
            snapshot: Freshness {
                at: rfc3339(snapshot.at),
                age_seconds: seconds(known.age),
                cut_off: known.cut_off,
            },
        }
    }
}

/// The limits of a snapshot in few words, for an audit line.
pub(super) fn brief(snapshot: &Snapshot) -> String {
    let Policy { capacity, rate, burst, .. } = &*snapshot.policy;
    let own = &snapshot.limits;
    let none = || "none".to_owned();
    let or_none = |limit: Option<u32>| limit.map_or_else(none, |limit| limit.to_string());
    let whose = |is_own: bool| if is_own { " (operator)" } else { "" };
    format!(
        "capacity {}{}, rate {}{}, burst {burst}{}, {}, generation {}",
        or_none(*capacity),
        whose(own.capacity.is_some()),
        rate.map_or_else(none, |rate| rate.to_string()),
        whose(own.rate.is_some()),
        whose(own.burst.is_some()),
        if snapshot.paused { "paused" } else { "running" },
        snapshot.generation(),
    )
}

fn loss(snapshot: &Snapshot) -> Option<Loss> {
    let at = snapshot.last_loss;
    // A reset has made a new beginning since.
    (at >= snapshot.floor).then(|| Loss {
        at: rfc3339(at),
        seconds_ago: seconds(snapshot.at.saturating_sub(at)),
        made_from_nothing: snapshot.generation() == at,
        healing: snapshot.lost_at.is_some(),
    })
}

/// A policy under its keys, as operators write it.
fn written(policy: &Policy) -> Map<String, Value> {
    let mut written = match serde_json::to_value(policy) {
        Ok(Value::Object(keys)) => keys,
        // Plain data with string keys always has a JSON form.
        _ => Map::new(),
    };
    for (key, ms) in
        [("session_ttl", policy.session_ttl), ("claim_ttl", policy.claim_ttl), ("patience", policy.patience)]
    {
        let text = humantime::format_duration(Duration::from_millis(ms)).to_string();
        written.insert(key.to_owned(), Value::String(text));
    }
    // What is not set stands there as well, whether or not a store writes it.
    for (key, value) in
        [("bind", serde_json::to_value(policy.bind)), ("checkin", serde_json::to_value(policy.checkin))]
    {
        if let Ok(value) = value {
            written.insert(key.to_owned(), value);
        }
    }
    for key in KEYS {
        written.entry(key).or_insert(Value::Null);
    }
    written.remove("room");
    written
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn seconds(ms: Millis) -> f64 {
    ms as f64 / 1_000.0
}

/// To thousandths: more would only look exact.
fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

fn rfc3339(ms: Millis) -> String {
    // As far as a signed clock goes; a store's time is checked nowhere.
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms.min(MAX_TIME_MS)));
    humantime::format_rfc3339_millis(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

/// The end of the year 9999: RFC 3339 has no words for later times.
const MAX_TIME_MS: Millis = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_told_as_it_is_written() {
        let pairs = [
            ("room", "shop"),
            ("capacity", "5"),
            ("rate", "600/m"),
            ("session_ttl", "4m"),
            ("patience", "1h 30m"),
            ("allow_origins", "https://a.example, https://b.example"),
        ];
        let policy = Policy::parse(pairs).unwrap();
        let told = written(&policy);
        let mut keys: Vec<_> = told.keys().map(String::as_str).collect();
        let mut all: Vec<_> = KEYS.into_iter().filter(|key| *key != "room").collect();
        keys.sort_unstable();
        all.sort_unstable();
        assert_eq!(keys, all);
        let texts: Vec<(String, String)> = told
            .iter()
            .map(|(key, value)| {
                (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            })
            .collect();
        let pairs = texts.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        assert_eq!(Policy::parse(pairs.chain([("room", "shop")])).unwrap(), policy, "{told:?}");
        let plain = written(&Policy::parse([("room", "shop"), ("rate", "5/s")]).unwrap());
        assert!(plain.keys().eq(told.keys()), "the same keys, set or not: {plain:?}");
        assert_eq!((&plain["capacity"], &plain["allow_origins"]), (&Value::Null, &Value::Null));
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
