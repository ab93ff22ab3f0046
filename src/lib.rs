//! Anteroom: a virtual waiting room for Envoy. This file is the map of the house; it holds no code.
//!
//! Imports only run downward: `main → app → config → {authz, position, admin} →
//! {rooms, guard, identity} → store → room`.
//! `tests/tidy.rs` holds that order.

pub mod admin;
pub mod app;
pub mod authz;
pub mod client_address;
pub mod clock;
pub mod config;
pub mod cookie;
pub mod cors;
pub mod drain;
pub mod guard;
pub mod identity;
pub mod listen;
pub mod page;
pub mod pb;
pub mod position;
pub mod room;
pub mod rooms;
pub mod routes;
pub mod store;
pub mod telemetry;
