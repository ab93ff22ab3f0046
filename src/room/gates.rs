//! What stands beside a room's limits for a route: the gates that a request goes through before and after admission.
//!
//! Unlike limits they belong to the route, and may differ between two routes of one room; the store never hears of
//! them. A route may have gates and no room.

use std::sync::{Arc, LazyLock};

use super::policy::{self, Mistake, Policy, Source, quoted, unknown_key};

/// The gates of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gates {
    /// Whether the deny list counts (it does).
    pub deny: bool,
    /// What becomes of requests that name no user.
    pub anonymous: Anonymous,
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
        Self { deny: true, anonymous: Anonymous::Allow }
    }
}

/// Every key of [`Gates`], in the order of the documentation.
pub const KEYS: [&str; 2] = ["anonymous", "deny"];

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
            let remedy = match (key, value) {
                ("anonymous", "allow" | "refuse") => {
                    gates.anonymous = if value == "refuse" { Anonymous::Refuse } else { Anonymous::Allow };
                    continue;
                }
                ("anonymous", _) => "write allow or refuse",
                ("deny", "on" | "off") => {
                    gates.deny = value == "on";
                    continue;
                }
                ("deny", _) => "write on or off",
                _ => continue,
            };
            let problem = format!("{} cannot be understood", quoted(value));
            mistakes.push(Mistake { key: key.into(), problem, remedy: remedy.into() });
        }
        if mistakes.is_empty() { Ok(gates) } else { Err(mistakes) }
    }
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
    fn every_mistake_is_reported() {
        let found = parse(&[("denny", "on"), ("deny", "maybe"), ("capacity", "many")]).unwrap_err();
        let expected = [
            "capacity: \"many\" cannot be understood; write a whole number from 0 to 1000000000",
            "deny: \"maybe\" cannot be understood; write on or off",
            "denny: is not a known key; did you mean deny?",
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
