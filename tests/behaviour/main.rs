//! What the parts below the interfaces do: one suite of behaviours for every store, and the seams above it, each
//! driven directly.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A failed unwrap is a failed test, in its subroutines too.

mod api;
mod audit;
mod away;
mod checkin;
mod checkpoint;
mod clocks;
mod contract;
mod cors;
mod crowd;
mod denying;
mod entrance;
mod estimates;
mod forward;
mod gate;
mod grpc;
mod http;
mod identified;
mod identity;
#[path = "../support/jwks_server.rs"]
mod jwks_server;
mod leave;
mod memory;
mod nginx;
mod once;
mod operators;
mod outage;
mod over_redis;
mod policies;
mod private_ca;
mod probe;
#[path = "../support/redis.rs"]
mod redis_server;
mod remote;
#[path = "../support/issuer.rs"]
mod signer;
mod sources;
mod store;
mod streams;
mod stuffing;
mod tracer;
mod visits;
mod world;
