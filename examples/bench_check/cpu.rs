//! How much CPU the servers' threads have used: what a request costs, whatever the client or the neighbours do.

use std::fs;
use std::time::Duration;

/// The name of the servers' threads, by which they are found.
pub(crate) const SERVER_THREAD: &str = "server";

/// The CPU time of all servers' threads so far; `None` where the system does not tell (it is Linux that does).
pub(crate) fn used() -> Option<Duration> {
    let mut sum = None;
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
        if read("comm").is_none_or(|name| name.trim_end() != SERVER_THREAD) {
            continue;
        }
        let nanos: u64 = read("schedstat")?.split_whitespace().next()?.parse().ok()?;
        sum = Some(sum.unwrap_or(Duration::ZERO) + Duration::from_nanos(nanos));
    }
    sum
}
