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
#[path = "free_port.rs"]
pub(crate) mod ports;
#[path = "redis/proxy.rs"]
pub(crate) mod proxy;
#[path = "redis/resp.rs"]
pub(crate) mod resp;
#[path = "redis/server.rs"]
pub(crate) mod server;
#[path = "redis/start.rs"]
pub(crate) mod start;

#[path = "until.rs"]
pub(crate) mod until;

// As of the rest, each binary uses a part.
#[allow(unused_imports)]
pub(crate) use until::{SOON, until, until_true};
