//! Tries to break the rules: random histories of a room, watched by an auditor that sees only calls and answers.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A failed unwrap is a failed test, in its subroutines too.

mod auditor;
mod away;
mod bounded;
mod clocks;
mod controls;
mod edges;
mod fairness;
mod history;
mod passes;
mod policies;
mod random;
mod regressions;
mod visitor;
