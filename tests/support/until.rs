//! Waiting for a condition under a deadline.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::time::{Duration, Instant};

/// How long anything may take that should take a moment, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Asks again until there is an answer; panics with `what` when `within` has passed.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "still not so after {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As [`until`], for a condition.
pub(crate) async fn until_true(what: &str, within: Duration, mut ask: impl FnMut() -> bool) {
    until(what, within, || std::future::ready(ask().then_some(()))).await;
}
