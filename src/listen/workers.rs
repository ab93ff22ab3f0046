//! The threads that serve connections: one runtime each, so that what belongs to a connection stays on one core.
//!
//! A runtime of one thread needs no locks between cores for its tasks, and serves short calls at about twice the rate of
//! one with many. Whoever accepts hands each connection to the thread with the fewest of its listener. A thread that is
//! busy holds up nobody else: what is handed to it waits in its runtime, never more than there may be connections.

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

use crate::drain::Shutdown;

/// Serving threads. They go on until this and its clones are dropped. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Workers {
    runtimes: Arc<[Handle]>,
    /// Dropping them is what tells the threads to end.
    _go_on: Arc<[oneshot::Sender<()>]>,
}

/// A serving thread is gone, and its connections with it.
#[derive(Debug, thiserror::Error)]
#[error("a thread that serves connections ended; see the panic before this, and start again")]
pub struct ThreadEnded;

/// Tells when threads end.
#[derive(Debug)]
pub struct Ends(mpsc::Receiver<()>);

impl Ends {
    /// Waits for the first thread that ends before the drain comes to its closing.
    pub async fn watch(mut self, shutdown: Shutdown) -> Result<(), ThreadEnded> {
        tokio::select! {
            _ = self.0.recv() => Err(ThreadEnded),
            () = shutdown.closing() => Ok(()),
        }
    }
}

/// Says when its thread ends, however that comes about.
struct Ended(mpsc::Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // Full: another thread's end has been told, which is enough.
        let _ = self.0.try_send(());
    }
}

impl Workers {
    /// Starts this many threads. With them: what tells when one of them ends.
    pub fn start(threads: NonZero<usize>) -> io::Result<(Self, Ends)> {
        let (ended, ends) = mpsc::channel(1);
        let (mut runtimes, mut go_on) = (Vec::new(), Vec::new());
        for index in 0..threads.get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (wanted, unwanted) = oneshot::channel();
            runtimes.push(runtime.handle().clone());
            go_on.push(wanted);
            let ended = Ended(ended.clone());
            thread::Builder::new().name(format!("serve-{index}")).spawn(move || {
                let _ended = ended;
                // Nothing is ever sent: it ends with the sender.
                let _ = runtime.block_on(unwanted);
            })?;
        }
        Ok((Self { runtimes: runtimes.into(), _go_on: go_on.into() }, Ends(ends)))
    }

    /// No threads of its own: connections are served by the runtime that this is called in. Panics outside of one.
    pub fn here() -> Self {
        Self { runtimes: Arc::new([Handle::current()]), _go_on: Arc::new([]) }
    }

    /// The way one listener shares its connections out.
    pub(super) fn shares(&self) -> Shares {
        let each = self.runtimes.iter().map(|runtime| (runtime.clone(), Arc::default()));
        Shares { each: each.collect(), turn: 0 }
    }
}

/// How many connections of one listener each thread has.
#[derive(Debug)]
pub(super) struct Shares {
    each: Vec<(Handle, Arc<()>)>,
    turn: usize,
}

/// Counts as one connection until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _connection: Arc<()>,
}

impl Shares {
    /// The thread with the fewest connections, among equals in turn. Envoy opens one for each of its own threads, so that
    /// one too many here is a core with nothing to do there.
    pub(super) fn next(&mut self) -> (&Handle, Share) {
        let count = self.each.len();
        let in_turn = (0..count).map(|step| (self.turn + step) % count);
        let chosen = in_turn.min_by_key(|at| Arc::strong_count(&self.each[*at].1)).unwrap_or_default();
        self.turn = chosen + 1;
        let (runtime, connections) = &self.each[chosen];
        (runtime, Share { _connection: connections.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Tasks;

    fn threads(count: usize) -> NonZero<usize> {
        NonZero::new(count).unwrap()
    }

    #[tokio::test]
    async fn connections_go_where_the_fewest_are_and_in_turn() {
        let (workers, _ends) = Workers::start(threads(3)).unwrap();
        let mut shares = workers.shares();
        let mut next = async || {
            let (runtime, share) = shares.next();
            let name = runtime.spawn(async { thread::current().name().map(str::to_owned) });
            (name.await.unwrap().unwrap(), share)
        };
        let mut held = Vec::new();
        for expected in ["serve-0", "serve-1", "serve-2", "serve-0"] {
            let (name, share) = next().await;
            assert_eq!(name, expected);
            held.push(share);
        }
        held.remove(2);
        assert_eq!(next().await.0, "serve-2", "which has none");
    }

    #[tokio::test]
    async fn a_thread_that_ends_is_noticed_and_the_others_too_when_they_are_not_wanted() {
        let tasks = Tasks::new();
        let (workers, mut ends) = Workers::start(threads(2)).unwrap();
        assert!(ends.0.try_recv().is_err(), "they go on");
        drop(workers);
        assert!(ends.watch(tasks.shutdown()).await.is_err());
    }
}
