//! Tests of the lane, over a runner that answers each item with itself when it is let.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::*;
use crate::room::state::Hints;

/// Answers each item with itself.
struct Echo;

impl Gathered for Echo {
    type Call = Call;
    type Item = u64;
    type Answer = u64;
}

struct Gated {
    /// One permit for each call that may end.
    gate: Semaphore,
    calls: Mutex<Vec<(Hints, Vec<u64>)>>,
    fails: AtomicBool,
    panics: AtomicBool,
}

#[async_trait::async_trait]
impl Runner<Echo> for Gated {
    async fn run(&self, call: Call, items: Vec<u64>) -> Result<Vec<u64>, StoreError> {
        self.calls.lock().push((call.hints, items.clone()));
        self.gate.acquire().await.unwrap().forget();
        assert!(!self.panics.swap(false, Ordering::Relaxed), "as the test wants it");
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("out".to_owned()));
        }
        Ok(items)
    }
}

struct Scene {
    lane: Arc<Lane<Echo>>,
    metrics: ShardMetrics,
    runner: Arc<Gated>,
    tasks: TaskTracker,
}

type Passing = tokio::task::JoinHandle<Result<Vec<u64>, StoreError>>;

impl Scene {
    fn new() -> Self {
        let runner = Gated {
            gate: Semaphore::new(0),
            calls: Mutex::default(),
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        };
        let metrics = ShardMetrics::unregistered();
        let lane = Arc::new(Lane::new(metrics.clone()));
        Self { lane, metrics, runner: Arc::new(runner), tasks: TaskTracker::new() }
    }

    /// Somebody waits in the lane; they stand there when this returns.
    async fn stands(&self, items: Vec<u64>) -> Passing {
        let (lane, runner, tasks) = (self.lane.clone(), self.runner.clone(), self.tasks.clone());
        let hints = Hints { generation: 1, next: items.first().copied().unwrap_or(0), head: 1, floor: 0 };
        let call = Call { policy: None, hints };
        let passing = tokio::spawn(async move { lane.pass(&runner, &tasks, &call, &items).await });
        // Time stands still in these tests: it goes on once every task waits for something.
        tokio::time::sleep(Duration::from_millis(1)).await;
        passing
    }

    fn calls(&self) -> Vec<(Hints, Vec<u64>)> {
        self.runner.calls.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_comes_during_a_call_is_the_next_call() {
    let scene = Scene::new();
    let mut passing = vec![scene.stands(vec![1]).await];
    for first in [20, 30, 10] {
        passing.push(scene.stands(vec![first, first + 1]).await);
    }
    assert_eq!((scene.calls().len(), scene.metrics.waiting()), (1, 6));
    scene.runner.gate.add_permits(2);
    let mut answers = Vec::new();
    for one in passing {
        answers.push(one.await.unwrap().unwrap());
    }
    assert_eq!(answers, [vec![1], vec![20, 21], vec![30, 31], vec![10, 11]]);
    let highest = Hints { generation: 1, next: 30, head: 1, floor: 0 };
    assert_eq!(scene.calls()[1..], [(highest, vec![20, 21, 30, 31, 10, 11])]);
    scene.tasks.close();
    scene.tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_bound_and_so_has_the_queue() {
    let scene = Scene::new();
    let first = scene.stands(vec![0]).await;
    let crowd = scene.stands(vec![1; MAX_BATCH]).await;
    let more = scene.stands(vec![2; MAX_QUEUE - MAX_BATCH]).await;
    let refused = scene.stands(vec![3]).await.await.unwrap();
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    scene.runner.gate.add_permits(3);
    assert_eq!(first.await.unwrap().unwrap(), [0]);
    assert_eq!(crowd.await.unwrap().unwrap().len(), MAX_BATCH);
    assert_eq!(more.await.unwrap().unwrap().len(), MAX_QUEUE - MAX_BATCH, "what came together goes together");
    assert_eq!((scene.calls().len(), scene.metrics.waiting()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_takes_no_place() {
    let scene = Scene::new();
    let first = scene.stands(vec![1]).await;
    let (impatient, patient) = (scene.stands(vec![2]).await, scene.stands(vec![3]).await);
    impatient.abort();
    first.abort();
    tokio::time::sleep(Duration::from_millis(1)).await;
    scene.runner.gate.add_permits(2);
    assert_eq!(patient.await.unwrap().unwrap(), [3]);
    assert_eq!(scene.calls().into_iter().map(|(_, items)| items).collect::<Vec<_>>(), [vec![1], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_all_and_the_lane_goes_on() {
    let scene = Scene::new();
    let passing = [scene.stands(vec![1]).await, scene.stands(vec![2]).await, scene.stands(vec![3]).await];
    scene.runner.fails.store(true, Ordering::Relaxed);
    scene.runner.gate.add_permits(2);
    for one in passing {
        assert!(matches!(one.await.unwrap(), Err(StoreError::Unavailable(_))));
    }
    scene.runner.fails.store(false, Ordering::Relaxed);
    scene.runner.gate.add_permits(1);
    assert_eq!(scene.stands(vec![4]).await.await.unwrap().unwrap(), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_leaves_nobody_waiting() {
    let scene = Scene::new();
    scene.runner.panics.store(true, Ordering::Relaxed);
    let passing = [scene.stands(vec![1]).await, scene.stands(vec![2]).await];
    scene.runner.gate.add_permits(2);
    for one in passing {
        assert!(matches!(one.await.unwrap(), Err(StoreError::Unavailable(_))));
    }
    assert_eq!(scene.stands(vec![3]).await.await.unwrap().unwrap(), [3]);
    scene.tasks.close();
    let late = scene.stands(vec![4]).await.await.unwrap();
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "the store is closed");
}
