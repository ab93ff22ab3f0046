//! What stands beside a room's limits for a route: the gates that a request goes through before and after admission.
//!
//! Unlike limits they belong to the route, and may differ between two routes of one room; the store never hears of
//! them. A route may have gates and no room.

use std::sync::{Arc, LazyLock};

use super::gcra::Quota;
use super::policy::{self, Mistake, Policy, Source, quoted, unknown_key};

/// The gates of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gates {
    /// Whether the deny list counts (it does).
    pub deny: bool,
    /// What each client address may ask; none: as much as it likes.
    pub limit_ip: Option<Quota>,
    /// What each user may.
    pub limit_user: Option<Quota>,
    /// What each address may with one and the same user agent.
    pub limit_client: Option<Quota>,
    /// Whether idempotency keys count.
    pub idempotency: Idempotency,
    /// What becomes of requests that name no user.
    pub anonymous: Anonymous,
}

/// Whether the idempotency keys of writing requests count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idempotency {
    /// They are passed on, and no more.
    #[default]
    Off,
    /// A request with one passes once.
    Accept,
    /// So does every other, as there must be one.
    Require,
}

/// What becomes of requests that name no user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// They go on (default).
    #[default]
    Allow,
    /// 401, unless the path is public.
    Refuse,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            deny: true,
            anonymous: Anonymous::Allow,
            limit_ip: None,
            limit_user: None,
            limit_client: None,
            idempotency: Idempotency::Off,
        }
    }
}

/// Every key of [`Gates`], in the order of the documentation.
pub const KEYS: [&str; 6] = ["deny", "limit_ip", "limit_user", "limit_client", "anonymous", "idempotency"];

/// Every key that may be stated for a route: those of a policy, then those of its gates.
pub static ALL_KEYS: LazyLock<Vec<&str>> = LazyLock::new(|| [&policy::KEYS[..], &KEYS[..]].concat());

impl Gates {
    /// These gates with what `pairs` state in place of it; keys of others are passed over. Reports every mistake.
    pub fn with<'a>(
        &self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<Mistake>> {
        let (mut gates, mut mistakes) = (self.clone(), Vec::new());
        for (key, value) in pairs {
            let value = value.trim();
            let Err(remedy) = gates.state(key, value) else { continue };
            let problem = format!("{} cannot be understood", quoted(value));
            mistakes.push(Mistake { key: key.into(), problem, remedy: remedy.into() });
        }
        if mistakes.is_empty() { Ok(gates) } else { Err(mistakes) }
    }

    /// Whether a request must be counted together with those of other replicas, or may have to be.
    pub fn count(&self) -> bool {
        let limits = [self.limit_ip, self.limit_user, self.limit_client];
        limits.iter().any(Option::is_some) || self.idempotency != Idempotency::Off
    }

    /// States one key; keys of others are passed over. The error says what may be written.
    fn state(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match (key, value) {
            ("deny", "on" | "off") => self.deny = value == "on",
            ("deny", _) => return Err("write on or off"),
            ("anonymous", "allow") => self.anonymous = Anonymous::Allow,
            ("anonymous", "refuse") => self.anonymous = Anonymous::Refuse,
            ("anonymous", _) => return Err("write allow or refuse"),
            ("limit_ip", _) => self.limit_ip = Some(quota(value)?),
            ("limit_user", _) => self.limit_user = Some(quota(value)?),
            ("limit_client", _) => self.limit_client = Some(quota(value)?),
            ("idempotency", "off") => self.idempotency = Idempotency::Off,
            ("idempotency", "accept") => self.idempotency = Idempotency::Accept,
            ("idempotency", "require") => self.idempotency = Idempotency::Require,
            ("idempotency", _) => return Err("write off, accept or require"),
            _ => {}
        }
        Ok(())
    }
}

fn quota(text: &str) -> Result<Quota, &'static str> {
    text.parse().map_err(|()| Quota::RULE)
}

/// What is stated for a request. The default has no room, and the gates' defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// The limits of the room it belongs to, and what states them; `None`: it belongs to none.
    pub room: Option<(Arc<Policy>, Source)>,
    /// What it goes through beside admission.
    pub gates: Arc<Gates>,
}

impl Stated {
    /// Reads keys and values that `source` states; reports every mistake. Without any key of a policy there is no room.
    pub fn parse(pairs: &[(&str, &str)], source: Source) -> Result<Self, Vec<Mistake>> {
        let (of_gates, others): (Vec<_>, Vec<_>) =
            pairs.iter().copied().partition(|(key, _)| KEYS.contains(key));
        let (known, unknown): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(key, _)| policy::KEYS.contains(key));
        let mut mistakes: Vec<_> = unknown.iter().map(|(key, _)| unknown_key(key, &ALL_KEYS)).collect();
        let gates = Gates::default().with(of_gates);
        // A key that is a slip may have been meant for a room.
        let no_room = known.is_empty() && unknown.is_empty();
        let policy = if no_room { Ok(None) } else { Policy::parse(known).map(Some) };
        match (gates, policy) {
            (Ok(gates), Ok(policy)) if mistakes.is_empty() => {
                let room = policy.map(|policy| (Arc::new(policy), source));
                Ok(Self { room, gates: Arc::new(gates) })
            }
            (gates, policy) => {
                mistakes.extend(gates.err().into_iter().flatten());
                mistakes.extend(policy.err().into_iter().flatten());
                mistakes.sort();
                Err(mistakes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Stated, Vec<String>> {
        let parsed = Stated::parse(pairs, Source::ContextExtensions);
        parsed.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_route_may_have_gates_a_room_or_both() {
        let stated = parse(&[("deny", "off")]).unwrap();
        assert!(stated.room.is_none() && !stated.gates.deny);
        let stated = parse(&[("room", "shop"), ("capacity", "1")]).unwrap();
        assert!(stated.room.is_some() && stated.gates.deny);
        let stated = parse(&[("room", "shop"), ("capacity", "1"), ("deny", " off ")]).unwrap();
        assert!(stated.room.is_some() && !stated.gates.deny);
    }

    #[test]
    fn limits_and_idempotency_are_read() {
        let pairs = [("limit_ip", "20/s burst 40"), ("limit_user", "50/s"), ("idempotency", "require")];
        let gates = parse(&pairs).unwrap().gates;
        assert_eq!((gates.limit_ip, gates.limit_client), ("20/s burst 40".parse().ok(), None));
        assert!(gates.idempotency == Idempotency::Require && gates.count() && !Gates::default().count());
        let found = parse(&[("limit_ip", "twenty"), ("idempotency", "on")]).unwrap_err();
        assert_eq!(found[0], "idempotency: \"on\" cannot be understood; write off, accept or require");
        assert!(found[1].starts_with("limit_ip: \"twenty\" cannot be understood; write a rate"), "{found:?}");
    }

    #[test]
    fn every_mistake_is_reported() {
        let found = parse(&[("denny", "on"), ("deny", "maybe"), ("capacity", "many")]).unwrap_err();
        let expected = [
            "capacity: \"many\" cannot be understood; write a whole number from 0 to 1000000000",
            "denny: is not a known key; did you mean deny?",
            "deny: \"maybe\" cannot be understood; write on or off",
            "room: is missing; name the room these limits belong to",
        ];
        assert_eq!(found, expected);
        assert_eq!(
            parse(&[("rooom", "shop")]).unwrap_err().len(),
            2,
            "the slip, and the room that is missing"
        );
    }
}
