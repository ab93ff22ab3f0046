//! The service over Redis: what holds while nodes, networks and replicas fail.
//!
//! Long scenarios are ignored by `cargo test`; `make chaos` runs them and keeps their figures in `docs/chaos.md`.

// What fails here fails a test; the lint's own exception knows only functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod absent;
mod arrivals;
mod closing;
mod crowd;
mod deny;
mod door;
mod envoy;
mod figures;
mod fleet;
mod ledger;
mod losses;
mod operators;
mod profile;
mod quiet;
#[path = "../support/redis.rs"]
mod redis;
mod replicas;
mod rolling;
mod state_dir;
mod storms;
mod strangers;
mod support;
mod terminal;
#[allow(dead_code)]
#[path = "../e2e/harness/tokens.rs"]
mod tokens;
mod trespass;
