//! The client's address, by what trusted proxies say of it.
//!
//! Each proxy adds whom it heard from at the end of `X-Forwarded-For`; everything before what the trusted ones have
//! added is the client's own word, and is not believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::telemetry::logs::OncePer;
use crate::telemetry::metrics::guard::GuardMetrics;

/// The proxies whose word on clients' addresses counts.
pub struct Proxies {
    hops: usize,
    metrics: GuardMetrics,
    told: OncePer,
}

impl Proxies {
    /// So many of them stand before the one that asks.
    pub fn new(hops: usize, metrics: GuardMetrics) -> Self {
        Self { hops, metrics, told: OncePer::new() }
    }

    /// The client's address, as [`of`] has it. Where no address stands where it should, that is counted, and logged once.
    pub fn client<'a>(
        &self,
        forwarded_for: impl Iterator<Item = &'a [u8]>,
        peer: Option<IpAddr>,
    ) -> Option<IpAddr> {
        let Client { address, unread } = of(forwarded_for, peer, self.hops);
        if unread {
            self.metrics.address_unread();
            if self.told.is_news(()) {
                tracing::warn!(
                    trusted_hops = self.hops,
                    counts = address.map(tracing::field::display),
                    "X-Forwarded-For has something else where the client's address should stand; whom the proxy that \
                     wrote it is connected from counts instead. Let the proxies before Envoy write addresses, and set \
                     --trusted-hops to how many there are; further ones are only counted"
                );
            }
        }
        address
    }
}

/// Who a client is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address; `None`: nothing is known.
    pub address: Option<IpAddr>,
    /// Where the address should stand is something else.
    pub unread: bool,
}

/// The client's address. The proxy that asks must add its peer by itself (`use_remote_address` in Envoy).
///
/// `forwarded_for`: the values of all `X-Forwarded-For` headers, in order. `peer`: who opened the connection to the
/// proxy that asks, where that is known; it counts as the last entry, where it does not stand there already. `hops`:
/// how many trusted proxies stand before the one that asks.
///
/// Where there are fewer entries than trusted proxies, somebody came around them: then it is the last entry. Where the
/// entry in the trusted place is no address, it is the next one behind it: that of whoever wrote it, or let it through.
/// Else a made-up entry would be a way around everything that goes by addresses.
pub fn of<'a>(forwarded_for: impl Iterator<Item = &'a [u8]>, peer: Option<IpAddr>, hops: usize) -> Client {
    let entries = forwarded_for.flat_map(|value| value.split(|byte| *byte == b','));
    let mut entries: Vec<&[u8]> = entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()).collect();
    let last = entries.last().and_then(|entry| read(entry));
    // For a peer on its own machine Envoy writes the machine's address in place of 127.0.0.1.
    let stands_there = |peer: &IpAddr| !entries.is_empty() && is_envoys_loopback(*peer);
    let peer = peer.map(|peer| peer.to_canonical()).filter(|peer| !stands_there(peer));
    if peer.is_some() && last == peer {
        entries.pop();
    }
    // From the nearest to the farthest.
    let mut unread = false;
    let nearest = peer.or_else(|| {
        let entry = entries.pop()?;
        let nearest = read(entry);
        unread = nearest.is_none();
        nearest
    });
    let Some(at) = entries.len().checked_sub(hops).filter(|_| hops > 0) else {
        return Client { address: nearest, unread };
    };
    let mut trusted = entries[at..].iter().map(|entry| read(entry));
    let meant = trusted.next().flatten();
    Client { address: meant.or_else(|| trusted.flatten().next()).or(nearest), unread: meant.is_none() }
}

/// What Envoy takes for loopback; not all that is.
fn is_envoys_loopback(address: IpAddr) -> bool {
    address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}

/// An address, also one with a port, as some proxies write it.
pub fn read(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let address =
        text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    address.or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn client(forwarded_for: &[&str], peer: &str, hops: usize) -> String {
        let peer = peer.parse().ok();
        let found = of(forwarded_for.iter().map(|value| value.as_bytes()), peer, hops);
        found.address.map_or("-".to_owned(), |address| address.to_string())
    }

    #[test]
    fn what_is_no_address_in_the_trusted_place_counts_as_whoever_wrote_it() {
        for made_up in ["unknown", "_hidden", "192.0.2.999", "unix:", "\u{fffd}"] {
            // Around the balancer, straight to the proxy that asks.
            assert_eq!(client(&[made_up], "192.0.2.1", 1), "192.0.2.1", "{made_up}");
            assert_eq!(client(&[made_up, "192.0.2.1"], "", 1), "192.0.2.1", "{made_up}");
            // The farthest of two balancers wrote it.
            assert_eq!(client(&["6.6.6.6", made_up, "10.0.0.2"], "10.0.0.1", 2), "10.0.0.2", "{made_up}");
            assert_eq!(client(&[made_up, made_up], "10.0.0.1", 2), "10.0.0.1", "{made_up}");
            // Nobody is known who could stand for it.
            assert_eq!(client(&[made_up], "", 0), "-", "{made_up}");
        }
    }

    #[test]
    fn what_is_no_address_where_one_should_stand_is_counted() {
        let metrics = Metrics::new(1);
        let proxies = Proxies::new(1, metrics.guard());
        let ask = |value: &str| proxies.client([value.as_bytes()].into_iter(), "10.0.0.1".parse().ok());
        let counted = || {
            let text = metrics.encode().unwrap();
            let value =
                text.lines().find_map(|line| line.strip_prefix("anteroom_client_addresses_unread_total "));
            value.unwrap().to_owned()
        };
        assert_eq!(ask("6.6.6.6, 192.0.2.1"), "192.0.2.1".parse().ok());
        assert_eq!(
            ask("x, 192.0.2.1"),
            "192.0.2.1".parse().ok(),
            "what stands before the trusted place is nobody's"
        );
        assert_eq!(ask(""), "10.0.0.1".parse().ok());
        assert_eq!(counted(), "0");
        assert_eq!(
            (ask("unknown"), ask("6.6.6.6, unknown")),
            ("10.0.0.1".parse().ok(), "10.0.0.1".parse().ok())
        );
        assert_eq!(counted(), "2");
    }

    #[test]
    fn what_trusted_proxies_have_added_counts_and_nothing_before_it() {
        // Envoy adds its peer before it asks, or does not.
        for forwarded_for in [&["6.6.6.6, 192.0.2.1"][..], &["6.6.6.6"], &["6.6.6.6", "192.0.2.1"], &[]] {
            assert_eq!(client(forwarded_for, "192.0.2.1", 0), "192.0.2.1", "{forwarded_for:?}");
        }
        // A balancer at 10.0.0.1 has told who asked it.
        for forwarded_for in [&["6.6.6.6, 192.0.2.1, 10.0.0.1"][..], &["6.6.6.6,192.0.2.1"], &["192.0.2.1"]] {
            assert_eq!(client(forwarded_for, "10.0.0.1", 1), "192.0.2.1", "{forwarded_for:?}");
        }
        assert_eq!(client(&["6.6.6.6, 192.0.2.1, 10.0.0.2"], "10.0.0.1", 2), "192.0.2.1");
    }

    #[test]
    fn without_a_peer_the_last_entry_is_the_nearest() {
        assert_eq!(client(&["6.6.6.6, 192.0.2.1"], "", 0), "192.0.2.1");
        assert_eq!(client(&["6.6.6.6, 192.0.2.1, 10.0.0.1"], "", 1), "192.0.2.1");
        assert_eq!(client(&[], "", 0), "-");
    }

    #[test]
    fn whoever_comes_around_the_trusted_proxies_is_themselves() {
        assert_eq!(client(&[], "192.0.2.1", 1), "192.0.2.1");
        assert_eq!(client(&["6.6.6.6"], "192.0.2.1", 2), "192.0.2.1");
    }

    #[test]
    fn a_client_on_envoys_own_machine_has_that_machines_address() {
        assert_eq!(client(&["6.6.6.6, 10.0.0.7"], "127.0.0.1", 0), "10.0.0.7");
        assert_eq!(client(&["10.0.0.7"], "", 0), "10.0.0.7");
        assert_eq!(client(&[], "127.0.0.1", 0), "127.0.0.1");
        assert_eq!(client(&["6.6.6.6"], "127.0.0.2", 0), "127.0.0.2");
        assert_eq!(client(&["6.6.6.6, 192.0.2.1, 10.0.0.7"], "127.0.0.1", 1), "192.0.2.1");
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (written, read) in [
            ("192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("unknown", "-"),
            ("192.0.2.1 evil", "-"),
        ] {
            assert_eq!(client(&[written], "", 0), read, "{written}");
        }
    }

    proptest! {
        #[test]
        fn a_client_can_not_make_up_its_address(
            invented in prop::collection::vec("[0-9a-f:., x]{0,20}", 0..4),
            hops in 0..3usize,
        ) {
            let added = ["192.0.2.1", "10.0.0.2", "10.0.0.1"];
            let chain = [invented, added[..hops].iter().map(ToString::to_string).collect()].concat();
            let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
            // The last proxy is the peer; with none, the client itself is.
            let peer = if hops == 0 { "192.0.2.1" } else { "10.0.0.9" };
            prop_assert_eq!(client(&chain, peer, hops), "192.0.2.1");
        }
    }
}
