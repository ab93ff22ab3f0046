//! Where a Redis store is: an address as the operator writes it, checked, and shown without its password.

use std::fmt;

use percent_encoding::percent_decode_str;

/// The most hosts that may be named: seeds, not an inventory.
const MAX_HOSTS: usize = 64;
/// The port of a Redis server where none is named.
const REDIS_PORT: u16 = 6379;
/// The port of a sentinel where none is named.
const SENTINEL_PORT: u16 = 26379;

const FORMS: &str = "redis://[user:password@]host[:port][/db], \
     redis-cluster://[user:password@]host:port,host:port,… or \
     redis-sentinel://[user:password@]host:port,…[/db]?sentinelServiceName=name, each also with rediss for TLS";

/// The servers of a Redis store and how to reach them.
///
/// `Display` and `Debug` say nothing of the credentials but that there are some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What the hosts are.
    pub kind: TargetKind,
    /// Whether connections are encrypted, with the system's root certificates.
    pub tls: bool,
    /// The server, or those that know the others; never empty.
    pub hosts: Vec<Address>,
    /// Whom to log in as.
    pub credentials: Option<Credentials>,
    /// The database; always 0 in a cluster.
    pub db: u8,
}

/// What the hosts of a [`Target`] are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// One server.
    Single,
    /// Some nodes of a cluster.
    Cluster,
    /// Sentinels that know the master of this service.
    Sentinel {
        /// The name that the sentinels watch the master under.
        service: String,
    },
}

/// A host and a port.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// A login.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The ACL user; `None` is the server's default user.
    pub username: Option<String>,
    /// The password.
    pub password: String,
}

impl Target {
    /// Reads an address. The error says what is wrong and what would be right, never the password.
    pub fn parse(text: &str) -> Result<Self, String> {
        // What follows may be a password wherever a part is missing, so that errors quote only what is known
        // not to be one.
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| format!("this is no Redis address; write {FORMS}"))?;
        let (plain, tls) = match scheme.strip_prefix("rediss") {
            Some(rest) => (rest, true),
            None => (scheme.strip_prefix("redis").unwrap_or("?"), false),
        };
        if !["", "-cluster", "-sentinel"].contains(&plain) {
            return Err(format!("the scheme is not one that is known; write {FORMS}"));
        }
        // The last @: whoever forgot to write %40 in a password is understood all the same.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, rest),
        };
        let credentials = login.map(credentials).transpose()?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, db) = rest.split_once('/').unwrap_or((rest, ""));
        let query = Query::parse(query)?;
        let default_port = if plain == "-sentinel" { SENTINEL_PORT } else { REDIS_PORT };
        let hosts = addresses(hosts, &query.nodes, default_port)?;
        let db = match db {
            "" => 0,
            digits => digits
                .parse::<u8>()
                .map_err(|_| "the database after the / must be a number from 0 to 255".to_owned())?,
        };
        let kind = match (plain, query.service) {
            ("-sentinel", Some(service)) => TargetKind::Sentinel { service },
            ("-sentinel", None) => {
                return Err(
                    "the sentinels need the name of the service; add ?sentinelServiceName=name".into()
                );
            }
            (_, Some(_)) => return Err("sentinelServiceName is for redis-sentinel:// only".into()),
            ("-cluster", None) => TargetKind::Cluster,
            _ => TargetKind::Single,
        };
        if kind == TargetKind::Cluster && db != 0 {
            return Err(format!("a cluster has database 0 only; remove /{db}"));
        }
        if kind == TargetKind::Single && hosts.len() > 1 {
            return Err("redis:// takes one host; for a cluster write redis-cluster://".into());
        }
        Ok(Self { kind, tls, hosts, credentials, db })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secure = if self.tls { "s" } else { "" };
        let kind = match self.kind {
            TargetKind::Single => "",
            TargetKind::Cluster => "-cluster",
            TargetKind::Sentinel { .. } => "-sentinel",
        };
        write!(f, "redis{secure}{kind}://")?;
        if self.credentials.is_some() {
            f.write_str("***@")?;
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{host}")?;
        }
        if self.db != 0 {
            write!(f, "/{}", self.db)?;
        }
        match &self.kind {
            TargetKind::Sentinel { service } => write!(f, "?sentinelServiceName={service}"),
            _ => Ok(()),
        }
    }
}

impl Address {
    /// An address from its parts.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host:port`, `host`, `[v6]:port` or `[v6]`.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or("an IPv6 address lacks its closing ]")?;
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or("a : and a port must follow the ]")?),
                };
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err("in [ ] must stand an IPv6 address".into());
                }
                (host, port)
            }
            None => match text.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("a host has more than one :; write [::1]:6379 for IPv6, and user:password@ \
                                before the host"
                        .into());
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let of_name = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() {
            return Err("a host is missing".into());
        }
        if host.len() > 253 || !host.chars().all(of_name) {
            return Err("a host is a name or an IP address: letters, digits, '.', '-' and '_'".into());
        }
        let port = match port {
            None => default_port,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port != 0 => port,
                _ => return Err(format!("the port of {host} must be a number from 1 to 65535")),
            },
        };
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The hosts of the list and of the query, each once.
fn addresses(list: &str, nodes: &[&str], default_port: u16) -> Result<Vec<Address>, String> {
    let mut hosts: Vec<Address> = Vec::new();
    for text in list.split(',').chain(nodes.iter().copied()) {
        let host = Address::parse(text, default_port)?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
        if hosts.len() > MAX_HOSTS {
            return Err(format!("more than {MAX_HOSTS} hosts; a few of them are enough to find the others"));
        }
    }
    Ok(hosts)
}

fn credentials(login: &str) -> Result<Credentials, String> {
    let (user, password) = login
        .split_once(':')
        .ok_or("before the @ stands user:password, or :password for the default user")?;
    let decoded = |text: &str, what: &str| {
        let bytes = text.as_bytes();
        let escaped =
            |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        if (0..bytes.len()).any(|at| bytes[at] == b'%' && !escaped(at)) {
            return Err(format!("the {what} has a % without two hex digits after it; write %25 for a %"));
        }
        match percent_decode_str(text).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(format!("the {what} is no UTF-8 once its %XX are decoded")),
        }
    };
    let username = Some(decoded(user, "user name")?).filter(|user| !user.is_empty());
    let password = decoded(password, "password")?;
    if password.is_empty() {
        return Err(
            "the password before the @ is empty; without one, leave out everything up to the @".into()
        );
    }
    Ok(Credentials { username, password })
}

#[derive(Default)]
struct Query<'a> {
    nodes: Vec<&'a str>,
    service: Option<String>,
}

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("node", node)) => query.nodes.push(node),
                Some(("sentinelServiceName", name)) => {
                    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                    if name.is_empty() || !name.chars().all(fits) {
                        return Err("sentinelServiceName is made of letters, digits, '.', '-' and '_'".into());
                    }
                    query.service = Some(name.to_owned());
                }
                _ => {
                    return Err(
                        "after the ? may stand node=host:port and sentinelServiceName=name only".into()
                    );
                }
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests;
