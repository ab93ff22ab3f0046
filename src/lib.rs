//! Anteroom: a virtual waiting room for Envoy. This file is the map of the house; it holds no code.
//!
//! Imports only run downward: `main → app → config → {authz, position, admin} → rooms → store → room`.
//! `tests/tidy.rs` holds that order.

pub mod config;
pub mod listen;
pub mod pb;
pub mod room;
pub mod routes;
