//! Ports for servers: below those that systems hand out to outgoing connections, of which visitors make thousands (a
//! port that was free a moment ago would else be taken by one of them), with room for a Redis Cluster's bus.

// Each test binary uses a part of it.
#![allow(dead_code)]
// What fails here fails a test.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 12_000;
const COUNT: u16 = 10_000;
/// What Redis adds to a port for its cluster bus.
pub(crate) const BUS: u16 = 10_000;
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port on which nobody listens, nor on the bus port that belongs to it. No two calls in this process give the
/// same, and two processes begin at different ones.
pub(crate) fn free() -> u16 {
    // Multiplied, so that processes started one after the other do not follow each other's steps.
    let start = u16::try_from(std::process::id().wrapping_mul(7_919) % u32::from(COUNT)).unwrap();
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        if is_free(port) && is_free(port + BUS) {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
