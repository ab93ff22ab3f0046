//! A room's policy: the limits as Envoy or the rooms file states them, parsed once and checked whole.
//!
//! A key or value that cannot be understood is a [`Mistake`], never a silent default.

use std::fmt;

use super::binding::Bind;
use super::checkin::Checkin;
use super::name::RoomName;
use super::origins::Origins;
use super::rate::Rate;

/// Milliseconds: the unit of time in the rules.
pub type Millis = u64;

/// The longest duration a policy may state: 31 days.
pub const MAX_DURATION_MS: Millis = 31 * 24 * 3_600_000;
/// The shortest patience a policy may state: polls come once a second at most, and a tick may take as long.
pub const MIN_PATIENCE_MS: Millis = 3_000;
/// The largest capacity, burst or number of admissions per unit of rate a policy may state.
pub const MAX_COUNT: u32 = 1_000_000_000;

/// What happens to somebody who joins again while holding a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rejoin {
    /// The place held is kept (default).
    Keep,
    /// The old place is given up and a new one taken at the back.
    Back,
}

/// What newcomers get while the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOutage {
    /// A waiting page without a number, and a retry (default).
    Hold,
    /// Everybody is let through.
    Open,
    /// Everybody is refused with 503.
    Closed,
}

/// Whether the room is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Limits are applied (default).
    Enforce,
    /// Every request passes untouched, and all who wait are called: the line ends.
    Off,
}

/// What a place belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// Whoever holds the ticket (default).
    Ticket,
    /// The verified user (`sub` of Envoy's `jwt_authn` metadata): one place each.
    Subject,
}

/// What states a room's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The route's `context_extensions` in Envoy.
    ContextExtensions,
    /// The route's metadata in Envoy.
    RouteMetadata,
    /// The rooms file of this process.
    RoomsFile,
}

/// The limits of a room.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Policy {
    /// Which room.
    pub room: RoomName,
    /// How many may be inside at once; 0: none may enter, everybody waits. `None`: no such limit.
    pub capacity: Option<u32>,
    /// How many may be called per unit of time; 0: nobody is called. `None`: no such limit.
    pub rate: Option<Rate>,
    /// How many may be called at one instant when nobody came for a while, at least 1.
    /// Default: one second's worth of `rate`. Without `rate` it has no effect.
    pub burst: u32,
    /// How long a session lives after its last request (240 s): at least three quarters of it, as a session is
    /// prolonged once a quarter is over.
    pub session_ttl: Millis,
    /// How long a called number may enter (60 s).
    pub claim_ttl: Millis,
    /// How long a waiting visitor may be silent (180 s). Silence is noticed between one and one and a half
    /// `patience`.
    pub patience: Millis,
    /// Joining again while holding a place.
    pub rejoin: Rejoin,
    /// Newcomers while the store is out.
    pub on_outage: OnOutage,
    /// HTTP status of a waiting answer, 200 to 599 but for those without a body (429).
    pub waiting_status: u16,
    /// In force or off.
    pub mode: Mode,
    /// What a place belongs to.
    pub identity: Identity,
    /// The web origins whose scripts may read answers (none). Not written where there is none: older versions wrote
    /// policies without it, and the two must be the same text.
    #[serde(default, skip_serializing_if = "Origins::is_empty")]
    pub allow_origins: Origins,
    /// What tickets and passes are bound to. Not written where there is nothing, for the same reason.
    #[serde(default, skip_serializing_if = "Bind::is_none")]
    pub bind: Bind,
    /// What a called visitor shows to come in. Not written where it is the ticket, for the same reason.
    #[serde(default, skip_serializing_if = "Checkin::is_by_ticket")]
    pub checkin: Checkin,
}

/// One thing wrong with a policy or setting: where, what, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The key, as written.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.problem, self.remedy)
    }
}

/// Every key of a policy, in the order of the documentation.
pub const KEYS: [&str; 15] = [
    "room",
    "capacity",
    "rate",
    "burst",
    "session_ttl",
    "claim_ttl",
    "patience",
    "rejoin",
    "on_outage",
    "waiting_status",
    "mode",
    "identity",
    "allow_origins",
    "bind",
    "checkin",
];

impl Policy {
    /// A policy with the defaults of every key; limits are still missing.
    pub fn defaults(room: RoomName) -> Self {
        Self {
            room,
            capacity: None,
            rate: None,
            burst: 1,
            session_ttl: 240_000,
            claim_ttl: 60_000,
            patience: 180_000,
            rejoin: Rejoin::Keep,
            on_outage: OnOutage::Hold,
            waiting_status: 429,
            mode: Mode::Enforce,
            identity: Identity::Ticket,
            allow_origins: Origins::default(),
            bind: Bind::None,
            checkin: Checkin::Ticket,
        }
    }

    /// Reads a policy from its keys and values; reports every mistake, not just the first.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader {
            room: None,
            policy: Self::defaults(RoomName::unnamed()),
            burst: None,
            bind: None,
            mistakes: Vec::new(),
        };
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        // Sorted, so that reports do not depend on the order of a map.
        pairs.sort_unstable();
        for (key, value) in pairs {
            reader.read(key, value.trim());
        }
        reader.finish()
    }

    /// The most that can be admitted per second, as far as the policy itself tells; `None`: it does not.
    ///
    /// `rate` bounds it; `capacity` alone gives an estimate (`capacity / session_ttl`), as sessions may end early.
    pub fn own_rate(&self) -> Option<f64> {
        let by_rate = self.rate.map(Rate::per_second);
        let by_capacity =
            self.capacity.map(|capacity| f64::from(capacity) * 1_000.0 / self.session_ttl as f64);
        match (by_rate, by_capacity) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }
}

struct Reader {
    room: Option<RoomName>,
    policy: Policy,
    burst: Option<u32>,
    bind: Option<Bind>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn read(&mut self, key: &str, value: &str) {
        if key != "room" {
            self.read_limit(key, value);
            return;
        }
        self.room = RoomName::parse(value);
        if self.room.is_none() {
            self.wrong(key, value, &format!("a room name is {}", RoomName::RULE));
        }
    }

    fn read_limit(&mut self, key: &str, value: &str) {
        const COUNT: &str = "write a whole number from 0 to 1000000000";
        const DURATION: &str = "write a duration from 1s to 31d, like 90s, 4m or 1h";
        let policy = &mut self.policy;
        let (understood, remedy) = match key {
            "capacity" => (set(&mut policy.capacity, parse_count(value).map(Some)), COUNT),
            "rate" => (
                set(&mut policy.rate, value.parse().ok().map(Some)),
                "write admissions per second, minute or hour, like 10/s, 600/m or 36000/h",
            ),
            "burst" => (
                set(&mut self.burst, parse_count(value).filter(|n| *n >= 1).map(Some)),
                "write a whole number from 1 to 1000000000",
            ),
            "session_ttl" => (set(&mut policy.session_ttl, parse_ttl(value)), DURATION),
            "claim_ttl" => (set(&mut policy.claim_ttl, parse_ttl(value)), DURATION),
            "patience" => {
                let patience = parse_ttl(value).filter(|patience| *patience >= MIN_PATIENCE_MS);
                (set(&mut policy.patience, patience), "write a duration from 3s to 31d, like 90s, 4m or 1h")
            }
            "rejoin" => {
                let choices = [("keep", Rejoin::Keep), ("back", Rejoin::Back)];
                (set(&mut policy.rejoin, choice(value, &choices)), "write keep or back")
            }
            "on_outage" => {
                let choices =
                    [("hold", OnOutage::Hold), ("open", OnOutage::Open), ("closed", OnOutage::Closed)];
                (set(&mut policy.on_outage, choice(value, &choices)), "write hold, open or closed")
            }
            "waiting_status" => {
                let status = parse_count(value).and_then(|n| u16::try_from(n).ok());
                let status = status
                    .filter(|status| (200..=599).contains(status) && !matches!(status, 204 | 205 | 304));
                (
                    set(&mut policy.waiting_status, status),
                    "write an HTTP status from 200 to 599 that has a body",
                )
            }
            "mode" => {
                let choices = [("enforce", Mode::Enforce), ("off", Mode::Off)];
                (set(&mut policy.mode, choice(value, &choices)), "write enforce or off")
            }
            "identity" => {
                let choices = [("ticket", Identity::Ticket), ("subject", Identity::Subject)];
                (set(&mut policy.identity, choice(value, &choices)), "write ticket or subject")
            }
            "allow_origins" => (
                set(&mut policy.allow_origins, Origins::parse(value)),
                "write at most 16 origins like https://app.example.com, http://localhost:3000 or \
                 https://*.example.com, separated by commas, or *",
            ),
            "bind" => {
                let choices = [
                    ("none", Bind::None),
                    ("subject", Bind::Subject),
                    ("ip", Bind::Ip),
                    ("user_agent", Bind::UserAgent),
                ];
                (
                    set(&mut self.bind, choice(value, &choices).map(Some)),
                    "write none, subject, ip or user_agent",
                )
            }
            "checkin" => {
                let choices = [("ticket", Checkin::Ticket), ("nonce", Checkin::Nonce)];
                (set(&mut policy.checkin, choice(value, &choices)), "write ticket or nonce")
            }
            _ => return self.mistakes.push(unknown_key(key, &KEYS)),
        };
        if !understood {
            self.wrong(key, value, remedy);
        }
    }

    fn wrong(&mut self, key: &str, value: &str, remedy: &str) {
        let problem = format!("{} cannot be understood", quoted(value));
        self.mistakes.push(Mistake { key: key.into(), problem, remedy: remedy.into() });
    }

    fn finish(mut self) -> Result<Policy, Vec<Mistake>> {
        let room_was_wrong = self.mistakes.iter().any(|mistake| mistake.key == "room");
        match self.room {
            Some(room) => self.policy.room = room,
            None if room_was_wrong => {}
            None => self.mistakes.push(Mistake {
                key: "room".into(),
                problem: "is missing".into(),
                remedy: "name the room these limits belong to".into(),
            }),
        }
        if !self.mistakes.is_empty() {
            return Err(self.mistakes);
        }
        let mut policy = self.policy;
        if policy.capacity.is_none() && policy.rate.is_none() && policy.mode == Mode::Enforce {
            return Err(vec![Mistake {
                key: "capacity".into(),
                problem: format!("room {} states neither capacity nor rate", policy.room),
                remedy: "state at least one of capacity and rate".into(),
            }]);
        }
        // A user's place is the user's, also where others sign in with the same browser.
        let owner = if policy.identity == Identity::Subject { Bind::Subject } else { Bind::None };
        policy.bind = self.bind.unwrap_or(owner);
        policy.burst = self.burst.unwrap_or_else(|| policy.rate.map_or(1, Rate::default_burst));
        Ok(policy)
    }
}

/// A [`Mistake`] for a key that is not among `known`, naming the nearest one where it is a likely slip.
pub fn unknown_key(key: &str, known: &[&str]) -> Mistake {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&key.to_lowercase(), candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
        .min();
    let remedy = match nearest {
        Some((_, candidate)) => format!("did you mean {candidate}?"),
        None => format!("known keys are {}", known.join(", ")),
    };
    let shown: String = key.chars().take(64).collect();
    Mistake { key: shown, problem: "is not a known key".into(), remedy }
}

/// A value as it is shown in messages: quoted, escaped, at most 40 characters of it.
pub fn quoted(value: &str) -> String {
    if value.chars().count() > 40 {
        let head: String = value.chars().take(40).collect();
        format!("{head:?}…")
    } else {
        format!("{value:?}")
    }
}

/// Puts a parsed value in its place; `false` if there was none.
fn set<T>(place: &mut T, parsed: Option<T>) -> bool {
    parsed.map(|parsed| *place = parsed).is_some()
}

pub(super) fn parse_count(text: &str) -> Option<u32> {
    // Digits only: `parse` alone would also take "+5".
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|n| *n <= MAX_COUNT)
}

fn parse_ttl(text: &str) -> Option<Millis> {
    let millis = Millis::try_from(humantime::parse_duration(text).ok()?.as_millis()).ok()?;
    (1_000..=MAX_DURATION_MS).contains(&millis).then_some(millis)
}

fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Option<T> {
    choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice)
}

#[cfg(test)]
mod tests;
