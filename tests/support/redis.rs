//! Redis for tests: servers and clusters of our own, with the means to hurt them, and a proxy to cut them off.
//!
//! A test binary takes this in with `#[path = "../support/redis.rs"] mod redis;`. Every server is on a port of its
//! own, keeps nothing on disk, and ends with the value that stands for it, or with the test process.

// Each test binary uses a part of it.
#![allow(dead_code)]
// What fails here fails a test; the lint's own exception knows only functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "redis/cluster.rs"]
pub(crate) mod cluster;
#[path = "redis/ports.rs"]
pub(crate) mod ports;
#[path = "redis/proxy.rs"]
pub(crate) mod proxy;
#[path = "redis/resp.rs"]
pub(crate) mod resp;
#[path = "redis/server.rs"]
pub(crate) mod server;
#[path = "redis/start.rs"]
pub(crate) mod start;

use std::time::{Duration, Instant};

/// How long anything may take that should take a moment, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Asks again until there is an answer; panics with `what` when `within` has passed.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "still not so after {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As [`until`], for a condition.
pub(crate) async fn until_true(what: &str, within: Duration, mut ask: impl FnMut() -> bool) {
    until(what, within, || std::future::ready(ask().then_some(()))).await;
}
