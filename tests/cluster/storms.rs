//! Streams under bad luck: clients that never read, that hang up at once, that come all together, and processes that
//! go away under them. Whatever they do, those who listen go on hearing, and memory and slots come back.

// Counts that metrics tell as floats, all of them small and whole.
#![allow(clippy::float_cmp, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod beat;
mod dropping;
mod frames;
mod listeners;
mod moving;
mod rush;
mod silent;
mod watcher;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::fleet::{Fleet, Replica};
use crate::redis::until;
use listeners::Listeners;

/// A room in which everybody waits, so that all that is said is said at the cadence.
const ROOMS: &str = "rooms:\n  shop:\n    capacity: 0\n";
/// Those who listen to the end.
const HONEST: usize = 50;
/// How much more memory than before may be resident when a storm is over: what the allocator keeps for the next, and
/// what the lists of a connection that lives on had grown to.
const KEPT: f64 = 16.0 * 1024.0 * 1024.0;
/// How long memory may take to come back: the allocator gives back what was not used for ten seconds.
const GIVEN_BACK: Duration = Duration::from_secs(40);
/// The cadence of these tests, and how long who does not read is put up with.
const PACE: [&str; 10] = [
    "--stream-interval",
    "1s",
    "--stream-near",
    "1s",
    "--stream-stall",
    "2s",
    "--drain",
    "1s",
    // Why a connection ended.
    "--log",
    "info,anteroom::listen=debug",
];

/// One process in which a storm comes up, and those who listen meanwhile.
struct Ground {
    fleet: Fleet,
    honest: Listeners,
    memory: f64,
}

impl Ground {
    async fn new(test: &str, flags: &[&str]) -> Self {
        let flags: Vec<_> = PACE.iter().chain(flags).copied().collect();
        let mut fleet = Fleet::new(test, "memory", ROOMS).with(&flags);
        fleet.add("serve");
        fleet.replicas()[0].until_ready().await;
        let honest = Listeners::listen(fleet.replicas()[0].http, HONEST).await;
        honest.until_all_heard(2).await;
        let memory = fleet.replicas()[0].metric("process_resident_memory_bytes").await;
        Self { fleet, honest, memory }
    }

    fn service(&self) -> &Replica {
        &self.fleet.replicas()[0]
    }

    async fn open(&self) -> f64 {
        self.service().metric("anteroom_streams_open").await
    }

    /// Waits until that many streams are open.
    async fn until_open(&self, what: &str, within: Duration, is_so: impl Fn(f64) -> bool) {
        until(what, within, || async { is_so(self.open().await).then_some(()) }).await;
    }

    /// After the storm: nothing is left of it, and nobody who listens has missed a word. How much memory is kept,
    /// in bytes.
    async fn is_calm(&self, others: usize, most: f64) -> f64 {
        let calm = HONEST + others;
        self.until_open("the storm's streams are gone", GIVEN_BACK, |open| open == calm as f64).await;
        let deadline = Instant::now() + GIVEN_BACK;
        let kept = loop {
            let more = self.service().metric("process_resident_memory_bytes").await - self.memory;
            if more <= most {
                break more;
            }
            assert!(Instant::now() < deadline, "{more} bytes more than before after {GIVEN_BACK:?}");
            sleep(Duration::from_millis(200)).await;
        };
        self.honest.until_all_heard(2).await;
        self.honest.kept_their_cadence();
        self.service().must_run();
        kept
    }
}
