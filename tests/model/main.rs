//! The model tests: the same operations on the rules (`room::State`, `room::gcra`) and on the scripts in a real Redis, every answer compared.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A failed unwrap is a failed test, in its subroutines too.

mod kept;
mod limits;
mod plain;
mod random;
#[path = "../support/redis.rs"]
mod redis_server;
mod remains;
mod twins;
mod users;
