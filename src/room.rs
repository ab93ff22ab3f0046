//! The rules: what a room is and does. No async, no I/O, no clock: time comes in as an argument.

pub mod decision;
pub mod name;
pub mod policy;
pub mod standing;
