//! The rules: what a room is and does. No async, no I/O, no clock: time comes in as an argument.

pub mod admission;
pub mod away;
pub mod binding;
pub mod bits;
pub mod checkin;
pub mod decision;
pub mod deny;
pub mod digest;
pub mod eta;
pub mod forecast;
pub mod gates;
pub mod gcra;
pub mod line;
pub mod name;
pub mod origins;
pub mod pass;
pub mod policy;
pub mod rank;
pub mod rate;
pub mod sessions;
pub mod snapshot;
pub mod standing;
pub mod state;
pub mod ticket;
pub mod token;
pub mod verified;
