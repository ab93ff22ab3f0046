//! What Redis is asked does not depend on how many wait.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::door::{Door, Tokens, Told, Word};
use crate::figures::Figures;
use crate::fleet::Fleet;
use crate::redis::cluster::Cluster;

/// How long calls are counted.
const COUNTED: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute: make chaos"]
async fn calls_to_redis_do_not_depend_on_how_many_poll_and_watch() {
    let cluster = Cluster::start().await;
    let few = calls(&cluster, "few", 10).await;
    let many = calls(&cluster, "many", 1_000).await;

    let mut figures = Figures::new(60, "Calls to Redis while visitors wait (two replicas)");
    for (count, (scripts, polls, events)) in [(10, few), (1_000, many)] {
        figures
            .row(&format!("{count} polling and {count} watching: script calls/s"), format!("{scripts:.1}"));
        figures.row("their polls/s and stream events/s", format!("{polls:.1} and {events:.1}"));
    }
    figures.keep();
    assert!(few.0 > 0.0, "nothing was counted");
    assert!(
        many.0 <= few.0 * 1.2 + 1.0,
        "{:.1} calls/s for 1,000 and 1,000, {:.1} for 10 and 10",
        many.0,
        few.0
    );
}

/// Script calls, polls and stream events a second, while so many poll and so many watch.
async fn calls(cluster: &Cluster, room: &str, count: usize) -> (f64, f64, f64) {
    // The one room only: another in which somebody waits would be ticked as well.
    let rooms = format!("rooms:\n  {room}:\n    capacity: 0\n");
    let fleet = Fleet::serving(&format!("quiet_{room}"), &cluster.url(), &rooms, 2).await;
    let doors = fleet.doors();
    let mut waiting = Vec::new();
    for index in 0..2 * count {
        let mut tokens = Tokens::default();
        let door = doors[index % doors.len()].clone();
        // On a busy machine an arrival may be held; then it comes again.
        while tokens.ticket.is_none() {
            tokens.take(&door.check(room, &Tokens::default()).await.tokens);
        }
        waiting.push((door, tokens));
    }
    let watching = waiting.split_off(count);
    let mut visitors = JoinSet::new();
    let begin = Instant::now() + Duration::from_secs(4);
    for (door, tokens) in waiting {
        visitors.spawn(polls(door, room.to_owned(), tokens, begin));
    }
    for (door, tokens) in watching {
        visitors.spawn(watches(door, room.to_owned(), tokens, begin));
    }
    tokio::time::sleep_until(begin).await;
    let before = cluster.script_calls();
    sleep(COUNTED).await;
    let scripts = cluster.script_calls() - before;
    let (mut polls, mut events) = (0, 0);
    while let Some(counted) = visitors.join_next().await {
        let (polled, watched) = counted.unwrap();
        polls += polled;
        events += watched;
    }
    let seconds = COUNTED.as_secs_f64();
    (scripts as f64 / seconds, f64::from(polls) / seconds, f64::from(events) / seconds)
}

async fn polls(door: Door, room: String, tokens: Tokens, begin: Instant) -> (u32, u32) {
    let mut polls = 0;
    while Instant::now() < begin + COUNTED {
        sleep(Duration::from_secs(2)).await;
        let told = door.poll(&room, &tokens).await.told;
        assert!(matches!(told, Told::Waiting(_)), "{told:?}");
        polls += u32::from(Instant::now() >= begin);
    }
    (polls, 0)
}

async fn watches(door: Door, room: String, tokens: Tokens, begin: Instant) -> (u32, u32) {
    let mut stream = door.stream(&room, &tokens).await.expect("a stream");
    let mut events = 0;
    while Instant::now() < begin + COUNTED {
        match stream.next(Duration::from_millis(500)).await {
            Word::Told(told) => {
                assert!(matches!(told, Told::Waiting(_)), "{told:?}");
                events += u32::from(Instant::now() >= begin);
            }
            Word::Nothing => {}
            Word::End => panic!("a stream was ended"),
        }
    }
    (0, events)
}
