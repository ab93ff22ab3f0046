//! Policies and calls for the tests, written as operators write them.

use std::sync::Arc;

use anteroom::room::name::RoomName;
use anteroom::room::policy::Policy;
use anteroom::room::state::{Call, Hints};

/// Reads a policy for the room `shop` from words like `capacity=2 rate=5/s`; a `room=…` among them wins.
pub(crate) fn policy(words: &str) -> Arc<Policy> {
    let mut pairs: Vec<_> = words.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    if !pairs.iter().any(|(key, _)| *key == "room") {
        pairs.push(("room", "shop"));
    }
    Arc::new(Policy::parse(pairs).expect("the test's policy is right"))
}

/// A call that states these limits.
pub(crate) fn under(words: &str) -> Call {
    Call { policy: Some(policy(words)), hints: Hints::default() }
}

/// A room's name.
pub(crate) fn name(name: &str) -> RoomName {
    RoomName::parse(name).expect("the test's room name is right")
}
