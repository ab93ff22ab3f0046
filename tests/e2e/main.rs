//! The whole of it, through the real Envoy: service, backend, Envoy and visitors, each test with its own.
//!
//! `make test` and `make e2e` run these; `harness` says what they need.

// What fails here fails a test; the lint's own exception knows only functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod browser;
mod checkin;
mod client;
mod cors;
mod cross_origin;
mod decisions;
mod deny;
mod doors;
mod entering;
mod floods;
mod grpc;
mod grpc_web;
mod harness;
mod identity;
#[path = "../support/jwks_server.rs"]
mod jwks_server;
mod limits;
mod methods;
mod operators;
mod order;
mod out_of_reach;
mod outages;
mod protocols;
#[path = "../support/issuer.rs"]
mod signer;
mod stolen;
mod streams;
mod stuffing;
mod tabs;
mod tracer;
mod traces;
mod transcoder;
mod trespass;
mod users;
