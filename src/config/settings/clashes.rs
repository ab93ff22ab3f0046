//! Listeners that want the same address.

use super::reader::wrong;
use super::{Role, Settings};
use crate::config::Mistake;
use crate::listen::Listen;

/// Two listeners of the role at one address.
pub(super) fn clashes(settings: &Settings, mistakes: &mut Vec<Mistake>) {
    let (authz, grpc, http, admin) = (
        ("authz-listen", &settings.authz_listen),
        ("grpc-listen", &settings.grpc_listen),
        ("http-listen", &settings.http_listen),
        ("admin-listen", &settings.admin_listen),
    );
    let listeners = match settings.role {
        Role::Serve => vec![authz, grpc, http, admin],
        Role::Authz => vec![authz, admin],
        Role::Stream => vec![grpc, http, admin],
    };
    for (at, (flag, listen)) in listeners.iter().enumerate() {
        if let Some((other, _)) = listeners[..at].iter().find(|(_, other)| same_place(listen, other)) {
            let problem = format!("{listen} is taken by --{other}");
            mistakes.push(wrong(flag, problem, "give every listener an address of its own"));
        }
    }
}

fn same_place(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        // An empty path is the stand-in for an address that was a mistake already.
        (Listen::Unix(one), Listen::Unix(other)) => one == other && !one.as_os_str().is_empty(),
        (Listen::Tcp(one), Listen::Tcp(other)) => {
            let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
            // [::] takes IPv4 along, 0.0.0.0 does not take IPv6.
            let covers = |all: std::net::IpAddr, ip: std::net::IpAddr| {
                all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4())
            };
            one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
        }
        _ => false,
    }
}
