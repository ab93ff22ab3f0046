//! The connections to Redis against real servers: what one server suffers, the others' rooms must not feel.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A failed unwrap is a failed test, in its subroutines too.

mod counting;
mod losses;
mod moving;
#[path = "../support/redis.rs"]
mod redis;
mod refusals;
mod restarts;
mod traffic;
