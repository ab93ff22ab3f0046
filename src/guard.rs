//! What stands before the rooms: who is refused, whatever the line says.

pub mod deny;
