//! The deny list: who is refused before anything else is looked at. By network, browser or user, for a time or for good.

pub mod written;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use aho_corasick::AhoCorasick;
use ipnet::IpNet;

use super::policy::Millis;

/// The most entries of a list.
pub const MAX_ENTRIES: usize = 100_000;
/// The most entries of a list that name a `User-Agent`: each is looked for in every one that comes.
pub const MAX_USER_AGENTS: usize = 1_000;
/// The longest text of an entry, in bytes.
pub const MAX_TEXT: usize = 512;

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Whom {
    /// Clients with an address in this network; its host bits are zero.
    Network(IpNet),
    /// Clients whose `User-Agent` has this in it, in any case.
    UserAgent(String),
    /// The verified user of this name.
    Subject {
        /// Whose name it is; `None`: any issuer's.
        issuer: Option<String>,
        /// The `sub`.
        name: String,
    },
}

impl Whom {
    /// Whether both mean the same clients: a `User-Agent` is found in any case.
    pub fn means(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::UserAgent(one), Self::UserAgent(other)) => one.eq_ignore_ascii_case(other),
            _ => self == other,
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "ip {network}"),
            Self::UserAgent(text) => write!(f, "user_agent {text:?}"),
            Self::Subject { issuer: None, name } => write!(f, "subject {name:?}"),
            Self::Subject { issuer: Some(issuer), name } => write!(f, "subject {name:?} of {issuer:?}"),
        }
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who is refused.
    pub whom: Whom,
    /// Until when, milliseconds since the epoch; `None`: for good.
    pub until: Option<Millis>,
    /// Why, for operators.
    pub note: Option<String>,
}

impl Entry {
    /// Whether its time is over.
    pub fn is_over(&self, now: Millis) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// Who asks, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker<'a> {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The `User-Agent`, as sent.
    pub user_agent: Option<&'a [u8]>,
    /// The verified user: issuer and name.
    pub subject: Option<(&'a str, &'a str)>,
}

/// Why no list can be made of entries.
#[derive(Debug, thiserror::Error)]
pub enum DenyError {
    /// More than [`MAX_ENTRIES`], or [`MAX_USER_AGENTS`] of that kind.
    #[error("there are {count} {what}; keep at most {most}")]
    TooMany {
        /// How many.
        count: usize,
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// The texts to look for come to too much.
    #[error("the user agents cannot be looked for: {0}")]
    UserAgents(#[from] aho_corasick::BuildError),
}

/// A list, ready to be looked up: a few hash look-ups for an address (one for each length of prefix that occurs), one
/// pass over the `User-Agent`.
#[derive(Debug, Default)]
pub struct DenyList {
    entries: Vec<Entry>,
    networks: HashMap<IpNet, usize>,
    /// The lengths of prefixes that occur, longest first.
    lengths: [Vec<u8>; 2],
    user_agents: Option<AhoCorasick>,
    /// The entry of each text.
    of_user_agent: Vec<usize>,
    subjects: HashMap<String, Vec<usize>>,
}

impl DenyList {
    /// Makes a list. Of two entries for the same, the one that lasts longer counts.
    pub fn new(entries: Vec<Entry>) -> Result<Self, DenyError> {
        let too_many = |count, what, most| Err(DenyError::TooMany { count, what, most });
        if entries.len() > MAX_ENTRIES {
            return too_many(entries.len(), "entries", MAX_ENTRIES);
        }
        let (mut list, mut texts) = (Self::default(), Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            match &entry.whom {
                Whom::Network(network) => {
                    let network = network.trunc();
                    let lengths = &mut list.lengths[usize::from(network.addr().is_ipv6())];
                    if !lengths.contains(&network.prefix_len()) {
                        lengths.push(network.prefix_len());
                    }
                    let known = list.networks.entry(network).or_insert(at);
                    let lasts = |at: usize| entries[at].until.unwrap_or(Millis::MAX);
                    if lasts(at) > lasts(*known) {
                        *known = at;
                    }
                }
                Whom::UserAgent(text) => {
                    texts.push(text.as_str());
                    list.of_user_agent.push(at);
                }
                Whom::Subject { name, .. } => list.subjects.entry(name.clone()).or_default().push(at),
            }
        }
        if texts.len() > MAX_USER_AGENTS {
            return too_many(texts.len(), "user agents", MAX_USER_AGENTS);
        }
        if !texts.is_empty() {
            list.user_agents = Some(AhoCorasick::builder().ascii_case_insensitive(true).build(&texts)?);
        }
        list.lengths.iter_mut().for_each(|lengths| lengths.sort_unstable_by(|one, other| other.cmp(one)));
        list.entries = entries;
        Ok(list)
    }

    /// The entries, in the order given.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The same, where the list is not needed any more.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Whether nobody is on it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry, by its place in [`DenyList::entries`], that means whoever asks and is not over yet.
    pub fn find(&self, asker: &Asker<'_>, now: Millis) -> Option<usize> {
        let counts = |at: &usize| !self.entries[*at].is_over(now);
        let by_network = || {
            let address = asker.address?.to_canonical();
            let lengths = self.lengths[usize::from(address.is_ipv6())].iter();
            let networks = lengths.filter_map(|length| Some(IpNet::new(address, *length).ok()?.trunc()));
            networks.filter_map(|network| self.networks.get(&network).copied()).find(counts)
        };
        let by_user_agent = || {
            let found = self.user_agents.as_ref()?.find_overlapping_iter(asker.user_agent?);
            found.map(|found| self.of_user_agent[found.pattern().as_usize()]).find(counts)
        };
        by_network().or_else(by_user_agent).or_else(|| self.find_subject(asker, now))
    }

    fn find_subject(&self, asker: &Asker<'_>, now: Millis) -> Option<usize> {
        let (issuer, name) = asker.subject?;
        let of_name = self.subjects.get(name)?.iter().copied();
        let mut meant = of_name.filter(|at| match &self.entries[*at].whom {
            Whom::Subject { issuer: Some(of), .. } => of == issuer,
            _ => true,
        });
        meant.find(|at| !self.entries[*at].is_over(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(whom: Whom, until: Option<Millis>) -> Entry {
        Entry { whom, until, note: None }
    }

    fn network(text: &str) -> Whom {
        Whom::Network(text.parse().unwrap())
    }

    fn list(whoms: Vec<Whom>) -> DenyList {
        DenyList::new(whoms.into_iter().map(|whom| entry(whom, None)).collect()).unwrap()
    }

    fn at(address: &str) -> Asker<'static> {
        Asker { address: Some(address.parse().unwrap()), ..Asker::default() }
    }

    #[test]
    fn networks_mean_the_addresses_in_them() {
        let list = list(vec![
            network("192.0.2.0/24"),
            network("198.51.100.7/32"),
            network("2001:db8::/32"),
            network("10.1.2.3/8"),
        ]);
        for (address, found) in [
            ("192.0.2.255", Some(0)),
            ("192.0.3.0", None),
            ("198.51.100.7", Some(1)),
            ("198.51.100.8", None),
            ("2001:db8:ffff::1", Some(2)),
            ("2001:db9::1", None),
            ("::ffff:192.0.2.1", Some(0)),
            ("10.255.0.1", Some(3)),
        ] {
            assert_eq!(list.find(&at(address), 0), found, "{address}");
        }
    }

    #[test]
    fn user_agents_are_found_in_any_case_and_users_by_issuer() {
        let subject = |issuer: Option<&str>, name: &str| Whom::Subject {
            issuer: issuer.map(str::to_owned),
            name: name.to_owned(),
        };
        let list = list(vec![
            Whom::UserAgent("Scraper/".into()),
            Whom::UserAgent("raper/2".into()),
            subject(Some("https://id.example"), "mallory"),
            subject(None, "eve"),
        ]);
        let with =
            |user_agent: &'static str| Asker { user_agent: Some(user_agent.as_bytes()), ..Asker::default() };
        assert_eq!(list.find(&with("Mozilla/5.0 (compatible; SCRAPER/2.1)"), 0), Some(0));
        assert_eq!(list.find(&with("Mozilla/5.0"), 0), None);
        let odd = Asker { user_agent: Some(b"\xffscraper/1"), ..Asker::default() };
        assert_eq!(list.find(&odd, 0), Some(0), "whatever stands beside it");
        let user = |issuer, name| Asker { subject: Some((issuer, name)), ..Asker::default() };
        assert_eq!(list.find(&user("https://id.example", "mallory"), 0), Some(2));
        assert_eq!(list.find(&user("https://other.example", "mallory"), 0), None);
        assert_eq!(list.find(&user("https://other.example", "eve"), 0), Some(3));
        assert_eq!(list.find(&user("", "Eve"), 0), None);
        assert_eq!(list.find(&Asker::default(), 0), None);
    }

    #[test]
    fn what_is_over_means_nobody() {
        let whom = || network("192.0.2.0/24");
        let agent = || Whom::UserAgent("bot".into());
        let entries = vec![
            entry(whom(), Some(100)),
            entry(whom(), Some(300)),
            entry(whom(), Some(200)),
            entry(network("192.0.0.0/16"), None),
            entry(agent(), Some(100)),
            entry(agent(), Some(200)),
        ];
        let list = DenyList::new(entries).unwrap();
        assert_eq!(list.find(&at("192.0.2.1"), 299), Some(1));
        assert_eq!(list.find(&at("192.0.2.1"), 300), Some(3), "the wider network");
        let bot = Asker { user_agent: Some(b"bot"), ..Asker::default() };
        assert_eq!((list.find(&bot, 150), list.find(&bot, 200)), (Some(5), None));
    }

    #[test]
    fn lists_are_bounded() {
        let many = |count, whom: Whom| DenyList::new(vec![entry(whom, None); count]);
        assert!(many(MAX_ENTRIES, network("192.0.2.0/24")).is_ok());
        assert!(many(MAX_ENTRIES + 1, network("192.0.2.0/24")).is_err());
        assert!(many(MAX_USER_AGENTS, Whom::UserAgent("x".repeat(MAX_TEXT))).is_ok());
        assert!(many(MAX_USER_AGENTS + 1, Whom::UserAgent("x".into())).is_err());
    }

    proptest! {
        #[test]
        fn the_index_finds_what_the_networks_say(
            networks in prop::collection::vec((any::<u32>(), 0u8..=32), 0..12),
            address in any::<u32>(),
            inside in any::<prop::sample::Index>(),
        ) {
            let read = |(bits, length): &(u32, u8)| IpNet::new(IpAddr::V4((*bits).into()), *length).unwrap();
            let networks: Vec<IpNet> = networks.iter().map(read).collect();
            // Often an address of one of them: a random one is in none.
            let address = match networks.len() {
                0 => IpAddr::V4(address.into()),
                len if address % 2 == 0 => networks[inside.index(len)].addr(),
                _ => IpAddr::V4(address.into()),
            };
            let list = list(networks.iter().copied().map(Whom::Network).collect());
            let expected = networks.iter().any(|network| network.contains(&address));
            prop_assert_eq!(list.find(&Asker { address: Some(address), ..Asker::default() }, 0).is_some(), expected);
        }
    }
}
