//! Calls that go on all the time, and what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anteroom::store::redis::script::Script;
use anteroom::store::redis::shards::{ShardError, Shards, Timing};
use anteroom::store::target::Target;
use anteroom::telemetry::metrics::shards::ShardMetrics;
use bytes::Bytes;
use fred::types::Value;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::redis::{SOON, until_true};

/// Both keys of the room count up together.
const COUNT: &str = "redis.call('INCR', KEYS[2]) return redis.call('INCR', KEYS[1])";
const WORKERS: usize = 2;
const SLICE: Duration = Duration::from_millis(100);

/// Longer than the usual budget: the machine that tests run on may be busy.
pub(crate) fn timing() -> Timing {
    Timing::with_budget(Duration::from_millis(300))
}

pub(crate) fn connect(url: &str) -> (Arc<Shards>, ShardMetrics) {
    let metrics = ShardMetrics::unregistered();
    let target = Target::parse(url).unwrap();
    (Shards::connect(&target, timing(), metrics.clone()).unwrap(), metrics)
}

pub(crate) async fn connected(url: &str) -> (Arc<Shards>, ShardMetrics) {
    let (shards, metrics) = connect(url);
    until_served(&shards).await;
    (shards, metrics)
}

pub(crate) async fn until_served(shards: &Shards) {
    let health = shards.health();
    until_true("every slot is served", SOON, || health.borrow().all_served()).await;
}

/// One call for a room.
pub(crate) async fn count(shards: &Shards, room: &str) -> Result<i64, ShardError> {
    let script = Script::new("count", COUNT);
    let keys = ["a", "b"].map(|part| Bytes::from(format!("anteroom:{{{room}}}:{part}")));
    let answer = shards.run(room, &script, keys.to_vec(), Vec::new()).await?;
    match answer {
        Value::Integer(count) => Ok(count),
        other => panic!("not a number: {other:?}"),
    }
}

/// When a call ended after the traffic began, and how.
type Ended = (Duration, Result<i64, ShardError>);

/// Traffic for some rooms, until it is stopped.
pub(crate) struct Traffic {
    begun: Instant,
    rooms: Vec<Arc<Mutex<Vec<Ended>>>>,
    tasks: JoinSet<()>,
}

impl Traffic {
    pub(crate) fn begin(shards: &Arc<Shards>, rooms: &[String]) -> Self {
        let mut traffic = Self { begun: Instant::now(), rooms: Vec::new(), tasks: JoinSet::new() };
        for room in rooms {
            let ended = Arc::new(Mutex::new(Vec::new()));
            traffic.rooms.push(Arc::clone(&ended));
            for _ in 0..WORKERS {
                let (shards, room, ended) = (Arc::clone(shards), room.clone(), Arc::clone(&ended));
                let begun = traffic.begun;
                traffic.tasks.spawn(async move {
                    loop {
                        let answer = count(&shards, &room).await;
                        ended.lock().push((begun.elapsed(), answer));
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                });
            }
        }
        traffic
    }

    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits until so many calls of a room have succeeded since `from`.
    pub(crate) async fn until_answered(&self, room: usize, from: Duration, calls: usize) {
        until_true("calls are answered", SOON, || self.answered(room, from).len() >= calls).await;
    }

    fn answered(&self, room: usize, from: Duration) -> Vec<Duration> {
        let ended = self.rooms[room].lock();
        ended.iter().filter(|(at, answer)| *at >= from && answer.is_ok()).map(|(at, _)| *at).collect()
    }

    /// Ends it; what each room saw.
    pub(crate) async fn stop(mut self) -> Vec<Seen> {
        self.tasks.shutdown().await;
        self.rooms.iter().map(|ended| Seen(std::mem::take(&mut *ended.lock()))).collect()
    }
}

/// What a room saw.
pub(crate) struct Seen(Vec<Ended>);

impl Seen {
    /// The errors, by their words, with how many of each.
    pub(crate) fn errors(&self) -> BTreeMap<String, usize> {
        let mut errors = BTreeMap::new();
        for error in self.0.iter().filter_map(|(_, answer)| answer.as_ref().err()) {
            *errors.entry(error.to_string()).or_default() += 1;
        }
        errors
    }

    /// Calls answered in each whole slice of this time.
    pub(crate) fn slices(&self, from: Duration, to: Duration) -> Vec<usize> {
        let count = usize::try_from(to.saturating_sub(from).as_millis() / SLICE.as_millis()).unwrap();
        let mut slices = vec![0; count];
        for (at, _) in self.0.iter().filter(|(at, answer)| *at >= from && answer.is_ok()) {
            let slice = usize::try_from(at.saturating_sub(from).as_millis() / SLICE.as_millis()).unwrap();
            if let Some(calls) = slices.get_mut(slice) {
                *calls += 1;
            }
        }
        slices
    }

    /// The longest time without an answer after `from`.
    pub(crate) fn longest_gap(&self, from: Duration) -> Duration {
        self.longest_gap_and_when(from).0
    }

    /// The same with when it began.
    pub(crate) fn longest_gap_and_when(&self, from: Duration) -> (Duration, Duration) {
        let answered: Vec<_> = self.0.iter().filter(|(at, answer)| *at >= from && answer.is_ok()).collect();
        answered
            .windows(2)
            .map(|pair| (pair[1].0.saturating_sub(pair[0].0), pair[0].0))
            .max()
            .unwrap_or_default()
    }

    /// The numbers that were given.
    pub(crate) fn counted(&self) -> Vec<i64> {
        self.0.iter().filter_map(|(_, answer)| answer.as_ref().ok().copied()).collect()
    }

    /// Calls that may have run without an answer.
    pub(crate) fn in_doubt(&self) -> usize {
        self.0.iter().filter(|(_, answer)| answer.as_ref().is_err_and(ShardError::may_have_run)).count()
    }
}

pub(crate) fn median(slices: &[usize]) -> usize {
    let mut sorted = slices.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
