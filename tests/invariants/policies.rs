//! Policies for the tests: what a room's limits may be, written as operators write them.

use std::sync::Arc;

use anteroom::room::policy::Policy;

/// Reads a policy for the room `r` from words like `capacity=2 rate=5/s`.
pub(crate) fn policy(words: &str) -> Arc<Policy> {
    let pairs = words.split_whitespace().filter_map(|word| word.split_once('='));
    Arc::new(Policy::parse(pairs.chain([("room", "r")])).expect("the test's policy is right"))
}

/// Policies that random histories begin with and change to: each limit alone, both, and closed rooms.
pub(crate) const CHOICES: [&str; 12] = [
    "capacity=2 claim_ttl=10s session_ttl=30s patience=20s",
    "capacity=3 rate=1/s burst=2 claim_ttl=5s session_ttl=12s patience=9s",
    "rate=1/s burst=1 claim_ttl=10s session_ttl=30s patience=20s",
    "rate=10/m burst=5 claim_ttl=8s session_ttl=15s patience=30s",
    "capacity=1 claim_ttl=3s session_ttl=7s patience=5s",
    "capacity=10 rate=100/s burst=3 claim_ttl=10s session_ttl=60s patience=7s",
    "capacity=0 claim_ttl=10s session_ttl=30s patience=20s",
    "rate=0/s burst=3 claim_ttl=10s session_ttl=30s patience=20s",
    "capacity=5 claim_ttl=10s session_ttl=30s patience=3001ms",
    "capacity=100 rate=7/m burst=1 claim_ttl=60s session_ttl=240s patience=180s",
    "rate=100/h burst=2 claim_ttl=2s session_ttl=3s patience=4s",
    "capacity=4 rate=3600/h burst=4 claim_ttl=20s session_ttl=10s patience=6s",
];
