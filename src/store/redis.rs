//! The store over Redis: the rules as Lua scripts, one call per room and operation in flight.

pub mod script;
pub mod shards;
