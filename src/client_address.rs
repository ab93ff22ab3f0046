//! The client's address, by what trusted proxies say of it.
//!
//! Each proxy adds whom it heard from at the end of `X-Forwarded-For`; everything before what the trusted ones have
//! added is the client's own word, and is not believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The client's address. The proxy that asks must add its peer by itself (`use_remote_address` in Envoy).
///
/// `forwarded_for`: the values of all `X-Forwarded-For` headers, in order. `peer`: who opened the connection to the
/// proxy that asks, where that is known; it counts as the last entry, where it does not stand there already. `hops`:
/// how many trusted proxies stand before the one that asks.
///
/// Where there are fewer entries than trusted proxies, somebody came around them: then it is the last entry. `None`:
/// nothing is known, or what should be an address is none.
pub fn of<'a>(
    forwarded_for: impl Iterator<Item = &'a [u8]>,
    peer: Option<IpAddr>,
    hops: usize,
) -> Option<IpAddr> {
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
    let nearest = peer.or_else(|| entries.pop().and_then(read));
    match hops {
        0 => nearest,
        _ if entries.len() < hops => nearest,
        _ => read(entries[entries.len() - hops]),
    }
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

    fn client(forwarded_for: &[&str], peer: &str, hops: usize) -> String {
        let peer = peer.parse().ok();
        let found = of(forwarded_for.iter().map(|value| value.as_bytes()), peer, hops);
        found.map_or("-".to_owned(), |address| address.to_string())
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
