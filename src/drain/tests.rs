//! Drains under paused time: nothing here waits for the clock on the wall.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use futures_util::stream::StreamExt as _;

use super::*;

const TIMES: DrainTimes = DrainTimes { lead: Duration::from_secs(2), grace: Duration::from_secs(10) };

async fn until(shutdown: Shutdown, phase: Phase) -> Result<(), Infallible> {
    shutdown.reached(phase).await;
    Ok(())
}

fn named(error: &DrainError) -> Vec<(&'static str, String)> {
    error.failures.iter().map(|failure| (failure.task, failure.cause.to_string())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stop_goes_through_the_phases_in_time() {
    let mut tasks = Tasks::new();
    let shutdown = tasks.shutdown();
    assert_eq!(shutdown.phase(), Phase::Serving);
    let (seen, mut log) = tokio::sync::mpsc::unbounded_channel();
    let began = Instant::now();
    tasks.spawn("watcher", {
        let shutdown = shutdown.clone();
        async move {
            for phase in [Phase::NotReady, Phase::Closing] {
                shutdown.reached(phase).await;
                seen.send((phase, began.elapsed().as_secs())).unwrap();
            }
            sleep(Duration::from_secs(3)).await;
            Ok::<_, Infallible>(())
        }
    });
    let stops = stream::iter(["test"]).chain(stream::pending());
    tasks.run_until_drained(TIMES, stops).await.unwrap();
    assert_eq!(log.recv().await, Some((Phase::NotReady, 0)));
    assert_eq!(log.recv().await, Some((Phase::Closing, 2)));
    assert_eq!(began.elapsed().as_secs(), 5, "nobody waits longer than the tasks need");
    assert_eq!(shutdown.phase(), Phase::Over);
}

#[tokio::test(start_paused = true)]
async fn the_first_to_fail_drains_all_and_is_named() {
    let mut tasks = Tasks::new();
    tasks.spawn("bystander", until(tasks.shutdown(), Phase::Closing));
    tasks.spawn("authz", async {
        sleep(Duration::from_secs(1)).await;
        Err("the port is gone")
    });
    let error = tasks.run_until_drained(TIMES, stream::pending()).await.unwrap_err();
    assert_eq!(named(&error), [("authz", "failed: the port is gone".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_or_ends_unasked_is_named() {
    let mut tasks = Tasks::new();
    tasks.spawn("panics", async {
        let nothing: [u8; 0] = [];
        assert!(!nothing.is_empty(), "out of {}", "tickets");
        Ok::<_, Infallible>(())
    });
    let error = tasks.run_until_drained(TIMES, stream::pending()).await.unwrap_err();
    assert_eq!(named(&error), [("panics", "panicked: out of tickets".to_owned())]);

    let mut tasks = Tasks::new();
    tasks.spawn("leaves", async { Ok::<_, Infallible>(()) });
    let error = tasks.run_until_drained(TIMES, stream::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), "task leaves ended although nobody asked it to");
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_end_in_time_is_cut_off_and_named() {
    let mut tasks = Tasks::new();
    tasks.spawn("stubborn", std::future::pending::<Result<(), Infallible>>());
    tasks.spawn("at the bell", until(tasks.shutdown(), Phase::Over));
    let began = Instant::now();
    let stops = stream::iter(["test"]).chain(stream::pending());
    let error = tasks.run_until_drained(TIMES, stops).await.unwrap_err();
    assert_eq!(
        named(&error),
        [("stubborn", "was cut off because it did not end in time".to_owned())],
        "a task that ends at the bell ends well"
    );
    assert_eq!(began.elapsed().as_secs(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_ends_at_once() {
    let mut tasks = Tasks::new();
    tasks.spawn("stubborn", std::future::pending::<Result<(), Infallible>>());
    let began = Instant::now();
    let stops = stream::iter(["first", "second"]).chain(stream::pending());
    tasks.run_until_drained(TIMES, stops).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn when_the_supervisor_is_gone_everybody_may_go() {
    let tasks = Tasks::new();
    let shutdown = tasks.shutdown();
    drop(tasks);
    shutdown.closing().await;
}

#[tokio::test]
async fn signals_of_the_system_arrive_by_name() {
    let mut received = signals().unwrap();
    for (signal, name) in [("TERM", "SIGTERM"), ("INT", "SIGINT"), ("TERM", "SIGTERM")] {
        let kill = format!("kill -{signal} {}", std::process::id());
        let sent = std::process::Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success(), "{kill}");
        let next = tokio::time::timeout(Duration::from_secs(20), received.next()).await;
        assert_eq!(next.unwrap(), Some(name));
    }
}
