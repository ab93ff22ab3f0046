//! Streams: who is called hears of it at once, and nobody is woken for somebody else.

use std::task::{Context, Waker};
use std::time::Duration;

use anteroom::position::watching::{Watching, Word};
use anteroom::room::standing::Status;
use anteroom::rooms::visit::{Answer, Shown, VisitError};
use anteroom::telemetry::metrics::label::StreamKind;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};

use crate::probe::Mood;
use crate::world::{TICK, World, pass_of, ticket_of};

async fn watching(world: &World, answer: &Answer) -> Watching {
    let room = world.room("capacity=1 session_ttl=30s");
    let watch = world.rooms.watch(&room, &ticket_of(answer)).await.unwrap();
    Watching::new(world.desk().streaming, StreamKind::Sse, watch, None)
}

async fn line(world: &World, count: usize) -> Vec<Answer> {
    let room = world.room("capacity=1 session_ttl=30s");
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(world.rooms.join(&room, &Shown::default()).await.unwrap());
    }
    answers
}

fn status(word: Option<Word>) -> Status {
    match word {
        Some(Word::Standing(standing)) => standing.status,
        other => panic!("a standing expected, {other:?} heard"),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_called_hears_of_it_within_a_tick() {
    let mut world = World::new();
    world.run();
    let answers = line(&world, 3).await;
    let mut next = watching(&world, &answers[1]).await;
    assert_eq!(status(next.next().await), Status::Waiting);
    // The session ends by time, and only the tick notices.
    let ends = Instant::now() + Duration::from_secs(30);
    let heard = loop {
        match next.next().await {
            Some(Word::Standing(standing)) if standing.status == Status::Called => break Instant::now(),
            Some(_) => {}
            None => panic!("the stream ended without a call"),
        }
    };
    let late = heard.saturating_duration_since(ends);
    assert!(heard >= ends && late <= TICK + Duration::from_millis(10), "{late:?} late");
    assert_eq!(next.next().await, None, "that was the last word");
}

#[tokio::test(start_paused = true)]
async fn whoever_follows_one_that_left_hears_of_it_at_once() {
    let world = World::new();
    let answers = line(&world, 3).await;
    let mut next = watching(&world, &answers[1]).await;
    let mut behind = watching(&world, &answers[2]).await;
    assert_eq!([status(next.next().await), status(behind.next().await)], [Status::Waiting; 2]);
    let room = world.room("capacity=1 session_ttl=30s");
    let begun = Instant::now();
    world.rooms.leave_room(&room, &pass_of(&answers[0])).await.unwrap();
    assert_eq!(status(next.next().await), Status::Called);
    assert_eq!(begun.elapsed(), Duration::ZERO, "without a tick");
    match behind.next().await {
        Some(Word::Standing(standing)) => assert_eq!(standing.position, 1, "and moves up at the next look"),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn only_those_in_front_of_the_head_are_woken() {
    let world = World::new();
    let answers = line(&world, 4).await;
    let room = world.room("capacity=1 session_ttl=30s");
    let mut watches = Vec::new();
    for answer in &answers[1..] {
        watches.push(world.rooms.watch(&room, &ticket_of(answer)).await.unwrap());
    }
    world.rooms.leave_room(&room, &pass_of(&answers[0])).await.unwrap();
    let woken =
        watches.iter().map(|watch| watch.poll_changed(&mut Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(woken.collect::<Vec<_>>(), [true, false, false], "only the next one");
    // Whoever hangs up is forgotten: nothing is left to wake.
    drop(watches);
    world.rooms.refresh(&room).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let world = World::with(|options| options.max_streams = 2);
    let room = world.room("capacity=1 session_ttl=30s");
    let answers = line(&world, 2).await;
    let open = [watching(&world, &answers[1]).await, watching(&world, &answers[1]).await];
    let refused = world.rooms.watch(&room, &ticket_of(&answers[1])).await.err();
    assert!(matches!(refused, Some(VisitError::TooManyStreams)), "{refused:?}");
    assert!((world.metric("anteroom_streams_refused_total") - 1.0).abs() < 0.1);
    drop(open);
    watching(&world, &answers[1]).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_an_outage_and_hears_what_came_of_it() {
    let mut world = World::new();
    world.run();
    let answers = line(&world, 2).await;
    let room = world.room("capacity=1 session_ttl=30s");
    let mut stream = watching(&world, &answers[1]).await;
    assert_eq!(status(stream.next().await), Status::Waiting);
    world.probe.set(Mood::Hangs);
    for _ in 0..10 {
        match timeout(Duration::from_secs(31), stream.next()).await.expect("silent for too long") {
            Some(Word::Standing(standing)) => {
                assert_eq!((standing.status, standing.position), (Status::Waiting, 1));
            }
            Some(Word::Heartbeat) => {}
            other => panic!("{other:?}"),
        }
    }
    world.probe.set(Mood::Well);
    let heard = timeout(TICK * 2, stream.next()).await.expect("not told within two ticks");
    assert_eq!(status(heard), Status::Called, "the session has ended meanwhile");
    let entered = world.rooms.enter(&room, &ticket_of(&answers[1])).await.unwrap();
    assert_eq!(entered.standing.status, Status::Admitted);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_far_back_is_told_once_an_interval() {
    let mut world = World::new();
    world.run();
    let line = line(&world, 300).await;
    let mut stream = watching(&world, line.last().unwrap()).await;
    let begun = Instant::now();
    for told in 1..=6u32 {
        let word = stream.next().await;
        assert!(matches!(word, Some(Word::Standing(_))), "{word:?}");
        let (passed, interval) = (begun.elapsed(), Duration::from_secs(10));
        assert!(passed <= interval * told, "told {told} times after {passed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_streams_one_after_the_other() {
    let mut world = World::new();
    world.run();
    let answers = line(&world, 101).await;
    let mut streams = Vec::new();
    for answer in &answers[1..] {
        let mut stream = watching(&world, answer).await;
        assert_eq!(status(stream.next().await), Status::Waiting);
        streams.push(stream);
    }
    world.drain();
    let begun = Instant::now();
    let ended = streams.into_iter().map(|mut stream| async move {
        while let Some(word) = stream.next().await {
            if word == Word::Draining {
                assert_eq!(stream.next().await, None, "that was the last word");
                return begun.elapsed();
            }
        }
        panic!("it ended without a word");
    });
    let ended = futures_util::future::join_all(ended).await;
    let within = |from: u64, to: u64| {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        ended.iter().filter(|at| (from..to).contains(*at)).count()
    };
    // Over four seconds, and none of those seconds with more than half of them.
    let each = [within(0, 1), within(1, 2), within(2, 3), within(3, 5)];
    assert_eq!(each.iter().sum::<usize>(), 100, "{ended:?}");
    assert!(each.iter().all(|count| (5..50).contains(count)), "{each:?}");
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_told_no_worse_position_than_before() {
    let world = World::new();
    let answers = line(&world, 5).await;
    let room = world.room("capacity=1 session_ttl=30s");
    let watch = world.rooms.watch(&room, &ticket_of(&answers[4])).await.unwrap();
    let mut stream = Watching::new(world.desk().streaming, StreamKind::Sse, watch, Some(2));
    let position = |word| match word {
        Some(Word::Standing(standing)) => standing.position,
        other => panic!("{other:?}"),
    };
    assert_eq!(position(stream.next().await), 2, "as another process told it a moment ago");
    assert_eq!(position(stream.next().await), 4, "and then what is known here");
}
