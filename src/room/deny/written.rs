//! An entry of the deny list as people write it, in a file or a call, and what is wrong with it.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Entry, MAX_TEXT, Whom};
use crate::room::policy::{Millis, Mistake, quoted};

/// The shortest text that is looked for in a `User-Agent`, in bytes: a slip should not refuse everybody.
const MIN_USER_AGENT: usize = 3;

/// The shortest prefix of a network: /8 is the largest that was ever given to one owner. Anything wider is a slip, and would
/// refuse a good part of all visitors.
const MIN_PREFIX_V4: u8 = 8;
/// The same of IPv6, where registries give /19 to the largest owners.
const MIN_PREFIX_V6: u8 = 16;

/// An entry as it is written: exactly one of `ip`, `user_agent` and `subject`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// An address, or a network like `192.0.2.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// A text that the `User-Agent` has in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// A verified user's `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whose `sub` it is; beside `subject` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Until when, in RFC 3339 like `2026-12-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why, for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Its keys, in the order of the documentation.
pub const KEYS: [&str; 6] = ["ip", "user_agent", "subject", "issuer", "until", "note"];

impl Written {
    /// The field of this name.
    pub fn field(&mut self, key: &str) -> Option<&mut Option<String>> {
        Some(match key {
            "ip" => &mut self.ip,
            "user_agent" => &mut self.user_agent,
            "subject" => &mut self.subject,
            "issuer" => &mut self.issuer,
            "until" => &mut self.until,
            "note" => &mut self.note,
            _ => return None,
        })
    }

    /// What it means, or what is wrong with it: the first thing.
    pub fn entry(self) -> Result<Entry, Mistake> {
        let Self { ip, user_agent, subject, issuer, until, note } = self;
        for (key, text) in
            [("user_agent", &user_agent), ("subject", &subject), ("issuer", &issuer), ("note", &note)]
        {
            let Some(text) = text else { continue };
            let problem = match text.len() {
                0 => "is empty".to_owned(),
                1..=MAX_TEXT if text.trim().is_empty() => "has only blanks in it".to_owned(),
                1..=MAX_TEXT => continue,
                long => format!("is {long} bytes long"),
            };
            return Err(wrong(key, problem, &format!("write 1 to {MAX_TEXT} bytes that can be seen")));
        }
        if issuer.is_some() && subject.is_none() {
            return Err(wrong(
                "issuer",
                "stands without a subject".into(),
                "name the issuer's user in subject",
            ));
        }
        let whom = match (ip, user_agent, subject) {
            (Some(ip), None, None) => Whom::Network(network(&ip)?),
            (None, Some(text), None) if text.len() < MIN_USER_AGENT => {
                let remedy = format!("write at least {MIN_USER_AGENT} bytes of it");
                return Err(wrong("user_agent", format!("{} is in too many", quoted(&text)), &remedy));
            }
            (None, Some(text), None) => Whom::UserAgent(text),
            (None, None, Some(name)) => Whom::Subject { issuer, name },
            _ => {
                let problem = "is to mean one of ip, user_agent and subject".to_owned();
                return Err(wrong("deny", problem, "write exactly one of them in each entry"));
            }
        };
        Ok(Entry { whom, until: until.as_deref().map(time).transpose()?, note })
    }
}

impl From<&Entry> for Written {
    fn from(entry: &Entry) -> Self {
        let mut written = Self { note: entry.note.clone(), ..Self::default() };
        match &entry.whom {
            Whom::Network(network) => written.ip = Some(network.to_string()),
            Whom::UserAgent(text) => written.user_agent = Some(text.clone()),
            Whom::Subject { issuer, name } => {
                written.subject = Some(name.clone());
                written.issuer.clone_from(issuer);
            }
        }
        written.until = entry.until.map(|until| {
            let time = UNIX_EPOCH + std::time::Duration::from_millis(until);
            humantime::format_rfc3339_millis(time).to_string()
        });
        written
    }
}

/// A network, or one address. Host bits that are set are a likely slip.
fn network(text: &str) -> Result<IpNet, Mistake> {
    const REMEDY: &str = "write an address or a network, like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32";
    let text = text.trim();
    let read = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network = read.ok_or_else(|| wrong("ip", format!("{} is no network", quoted(text)), REMEDY))?;
    let network = unmapped(network);
    if network.trunc() != network {
        let problem = format!("{} names an address within a network", quoted(text));
        return Err(wrong("ip", problem, &format!("write {} or the address alone", network.trunc())));
    }
    let least = if network.addr().is_ipv4() { MIN_PREFIX_V4 } else { MIN_PREFIX_V6 };
    if network.prefix_len() < least {
        let remedy = format!(
            "write networks of /{MIN_PREFIX_V4} (IPv4) or /{MIN_PREFIX_V6} (IPv6) at most; to let nobody in, set the \
             room's capacity to 0"
        );
        return Err(wrong("ip", format!("{} is a large part of everybody", quoted(text)), &remedy));
    }
    Ok(network)
}

/// A network of IPv4 that is written as one of IPv6 (`::ffff:192.0.2.0/120`): clients' addresses are never looked at so.
fn unmapped(network: IpNet) -> IpNet {
    let plain = || {
        let IpNet::V6(mapped) = network else { return None };
        let length = mapped.prefix_len().checked_sub(96)?;
        Ipv4Net::new(mapped.addr().to_ipv4_mapped()?, length).ok()
    };
    plain().map_or(network, IpNet::V4)
}

fn time(text: &str) -> Result<Millis, Mistake> {
    let time = OffsetDateTime::parse(text.trim(), &Rfc3339).ok();
    // Up: an entry lasts no shorter than it says.
    let since = time.map(|time| (time.unix_timestamp_nanos() + 999_999).div_euclid(1_000_000));
    since.and_then(|millis| Millis::try_from(millis).ok()).ok_or_else(|| {
        let problem = format!("{} is no time", quoted(text));
        wrong("until", problem, "write it like 2026-12-01T00:00:00Z or 2026-12-01T09:00:00+09:00")
    })
}

fn wrong(key: &str, problem: String, remedy: &str) -> Mistake {
    Mistake { key: key.to_owned(), problem, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pairs: &[(&str, &str)]) -> Written {
        let mut written = Written::default();
        for (key, value) in pairs {
            *written.field(key).unwrap() = Some((*value).to_owned());
        }
        written
    }

    #[test]
    fn what_is_written_is_read_and_written_again() {
        for pairs in [
            &[("ip", "192.0.2.0/24"), ("until", "2026-12-01T00:00:00.000Z"), ("note", "a scraper")][..],
            &[("ip", "2001:db8::1/128")],
            &[("user_agent", "Scraper/1")],
            &[("subject", "mallory"), ("issuer", "https://id.example")],
            &[("subject", "mallory")],
        ] {
            let written = written(pairs);
            let entry = written.clone().entry().unwrap();
            assert_eq!(Written::from(&entry), written, "{pairs:?}");
        }
        let alone = written(&[("ip", " 192.0.2.7 ")]).entry().unwrap();
        assert_eq!(alone.whom.to_string(), "ip 192.0.2.7/32");
        let mapped = written(&[("ip", "::ffff:192.0.2.0/120")]).entry().unwrap();
        assert_eq!(mapped.whom.to_string(), "ip 192.0.2.0/24");
    }

    #[test]
    fn times_may_have_any_offset_and_networks_any_prefix_that_is_no_slip() {
        let until = |text: &str| written(&[("subject", "eve"), ("until", text)]).entry().unwrap().until;
        let midnight = Some(1_796_083_200_000);
        for same in [
            "2026-12-01T00:00:00Z",
            "2026-12-01t00:00:00z",
            " 2026-12-01T09:00:00+09:00 ",
            "2026-11-30T19:00:00.000-05:00",
        ] {
            assert_eq!(until(same), midnight, "{same}");
        }
        assert_eq!(until("2026-12-01T00:00:00.0001Z"), midnight.map(|time| time + 1));
        for network in ["10.0.0.0/8", "2001::/16", "::ffff:10.0.0.0/104"] {
            assert!(written(&[("ip", network)]).entry().is_ok(), "{network}");
        }
    }

    #[test]
    fn slips_are_named() {
        let long = "x".repeat(MAX_TEXT + 1);
        for (pairs, key) in [
            (&[][..], "deny"),
            (&[("ip", "192.0.2.1"), ("subject", "eve")], "deny"),
            (&[("issuer", "https://id.example"), ("ip", "192.0.2.1")], "issuer"),
            (&[("ip", "192.0.2.256")], "ip"),
            (&[("ip", "192.0.2.7/24")], "ip"),
            (&[("ip", "0.0.0.0/0")], "ip"),
            (&[("ip", "0.0.0.0/1")], "ip"),
            (&[("ip", "128.0.0.0/7")], "ip"),
            (&[("ip", "::/0")], "ip"),
            (&[("ip", "::/1")], "ip"),
            (&[("ip", "2000::/15")], "ip"),
            (&[("ip", "::ffff:0.0.0.0/96")], "ip"),
            (&[("user_agent", " ")], "user_agent"),
            (&[("user_agent", "M")], "user_agent"),
            (&[("subject", &long)], "subject"),
            (&[("subject", "eve"), ("until", "tomorrow")], "until"),
            (&[("subject", "eve"), ("until", "2026-12-01T00:00:00")], "until"),
            (&[("subject", "eve"), ("until", "1969-12-31T23:59:59Z")], "until"),
        ] {
            assert_eq!(written(pairs).entry().unwrap_err().key, key, "{pairs:?}");
        }
    }
}
