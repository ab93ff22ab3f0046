//! A lane: one call of an operation under way for a room or a bucket of the ledger, and everything that comes meanwhile
//! gathered into the next.
//!
//! Alone, a visitor waits one round trip; in a rush a call carries hundreds.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::room::state::Call;
use crate::store::StoreError;
use crate::telemetry::metrics::shards::ShardMetrics;

/// The most visitors in one call: a script that handles 1,000 takes a shard a few milliseconds.
pub(super) const MAX_BATCH: usize = 1_000;
/// The most visitors who wait for a call; whoever comes on top is refused at once.
const MAX_QUEUE: usize = 65_536;

/// Something that is done for several visitors at once; each has an answer of their own.
pub(super) trait Gathered: Send + Sync + 'static {
    /// What is said once for all of them.
    type Call: Joined;
    /// What is asked for one visitor.
    type Item: Clone + Send + Sync + 'static;
    /// What came of it.
    type Answer: Send + 'static;
}

/// What is said once for all visitors of a call, from what each of them came with.
pub(super) trait Joined: Clone + Default + Send + Sync + 'static {
    /// Of this and what came later.
    fn join(&mut self, later: Self);
}

impl Joined for Call {
    fn join(&mut self, later: Self) {
        self.policy = later.policy.or(self.policy.take());
        self.hints = self.hints.max(later.hints);
    }
}

impl Joined for () {
    fn join(&mut self, (): Self) {}
}

/// What runs a batch: the store.
#[async_trait::async_trait]
pub(super) trait Runner<O: Gathered>: Send + Sync + 'static {
    /// One call for all of these visitors.
    async fn run(&self, call: O::Call, items: Vec<O::Item>) -> Result<Vec<O::Answer>, StoreError>;
}

/// The visitors who wait for one operation.
pub(super) struct Lane<O: Gathered> {
    queue: Mutex<Queue<O>>,
    metrics: ShardMetrics,
}

struct Queue<O: Gathered> {
    parties: VecDeque<Party<O>>,
    /// Visitors in all parties.
    count: usize,
    running: bool,
}

/// Visitors that came with one call.
struct Party<O: Gathered> {
    call: O::Call,
    items: Vec<O::Item>,
    reply: oneshot::Sender<Result<Vec<O::Answer>, StoreError>>,
}

impl<O: Gathered> Lane<O> {
    /// An empty lane.
    pub(super) fn new(metrics: ShardMetrics) -> Self {
        let queue = Queue { parties: VecDeque::new(), count: 0, running: false };
        Self { queue: Mutex::new(queue), metrics }
    }

    /// Waits in the lane for an answer. `runner` makes the calls, in a task of `tasks`.
    pub(super) async fn pass(
        self: &Arc<Self>,
        runner: &Arc<impl Runner<O>>,
        tasks: &TaskTracker,
        call: &O::Call,
        items: &[O::Item],
    ) -> Result<Vec<O::Answer>, StoreError> {
        let ended = || StoreError::Unavailable("the store is being closed".to_owned());
        if tasks.is_closed() {
            return Err(ended());
        }
        let (reply, answer) = oneshot::channel();
        let starts = {
            let mut queue = self.queue.lock();
            if queue.count + items.len() > MAX_QUEUE {
                self.metrics.turned_away(items.len());
                let message = format!("{} visitors wait for a call already", queue.count);
                return Err(StoreError::Unavailable(message));
            }
            queue.count += items.len();
            self.metrics.queued(items.len());
            queue.parties.push_back(Party { call: call.clone(), items: items.to_vec(), reply });
            !std::mem::replace(&mut queue.running, true)
        };
        if starts {
            let (lane, runner) = (self.clone(), runner.clone());
            tasks.spawn(async move { lane.run(&*runner).await });
        }
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    async fn run(&self, runner: &impl Runner<O>) {
        // Should a call panic, the lane must not stand still for ever. Where it stops by itself, somebody may have
        // started it again already: then this is not to be run.
        let stop = Stop(self);
        while let Some((call, items, replies)) = self.next() {
            self.metrics.gathered(items.len());
            let result = runner.run(call, items).await;
            answer::<O>(result, replies);
        }
        std::mem::forget(stop);
    }

    /// The next batch; `None`: nobody waits, and the lane has stopped.
    #[allow(clippy::type_complexity)] // three lists that belong together only here
    fn next(&self) -> Option<(O::Call, Vec<O::Item>, Vec<(usize, Reply<O>)>)> {
        let mut queue = self.queue.lock();
        let (mut call, mut items, mut replies) = (O::Call::default(), Vec::new(), Vec::new());
        while let Some(party) = queue.parties.front() {
            if !replies.is_empty() && items.len() + party.items.len() > MAX_BATCH {
                break;
            }
            let Some(party) = queue.parties.pop_front() else { break };
            queue.count -= party.items.len();
            self.metrics.unqueued(party.items.len());
            // Whoever has given up waiting takes no place in line.
            if party.reply.is_closed() {
                continue;
            }
            call.join(party.call);
            replies.push((party.items.len(), party.reply));
            items.extend(party.items);
        }
        queue.running = !replies.is_empty();
        queue.running.then_some((call, items, replies))
    }
}

type Reply<O> = oneshot::Sender<Result<Vec<<O as Gathered>::Answer>, StoreError>>;

/// Lets the lane be started again.
struct Stop<'a, O: Gathered>(&'a Lane<O>);

impl<O: Gathered> Drop for Stop<'_, O> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.running = false;
        // Their senders go with them: whoever waits hears of it.
        queue.parties.clear();
        self.0.metrics.unqueued(std::mem::take(&mut queue.count));
    }
}

fn answer<O: Gathered>(result: Result<Vec<O::Answer>, StoreError>, replies: Vec<(usize, Reply<O>)>) {
    match result {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for (count, reply) in replies {
                // Who has given up meanwhile needs no answer.
                let _ = reply.send(Ok(answers.by_ref().take(count).collect()));
            }
        }
        Err(error) => {
            for (_, reply) in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
