//! Fairness: the order of arrival holds for a crowd, and through a `kill -9`.

use std::collections::HashSet;

use serde_json::Value;

use crate::harness::visitor::Visitor;
use crate::harness::{SOON, Scene, until};

fn number(standing: &Value) -> u64 {
    standing["number"].as_u64().unwrap_or_else(|| panic!("no number in {standing}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_stand_in_order_of_arrival() {
    let limits = [("capacity", "1"), ("session_ttl", "5m"), ("claim_ttl", "60s")];
    let scene = Scene::with("two_hundred_stand_in_order_of_arrival", |config| config.limits(&limits)).await;
    let mut inside = scene.inside().await;
    let mut line = Vec::new();
    for arrival in 1..=200 {
        let (visitor, position) = scene.in_line().await;
        assert_eq!(position, arrival);
        line.push(visitor);
    }
    for (next, visitor) in line.iter().take(5).enumerate() {
        inside.leave().await;
        visitor.enters().await;
        inside = visitor.clone();
        let last = line.last().unwrap();
        let expected = 200 - (next as u64 + 1);
        until("the last one moves up by one", SOON, || async {
            let position = last.standing().await["position"].as_u64().unwrap();
            assert!(position >= expected, "{position} where {expected} is right: two left the line at once");
            (position == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_are_called_in_order_of_arrival() {
    // The trickle is slower than the arrivals, so that a line forms, and fast enough to see its end.
    let limits = [("rate", "20/s"), ("burst", "1"), ("claim_ttl", "60s"), ("session_ttl", "5m")];
    let scene =
        Scene::with("two_hundred_are_called_in_order_of_arrival", |config| config.limits(&limits)).await;
    let mut line: Vec<Visitor> = Vec::new();
    let mut last = 0;
    while line.len() < 200 {
        let visitor = scene.visitor();
        let answer = visitor.get("/shop").await;
        if answer.status == 429 {
            let number = number(&answer.json());
            assert!(number > last, "{number} after {last}");
            last = number;
            line.push(visitor);
        } else {
            assert_eq!(answer.status, 200);
            assert!(line.is_empty(), "overtook the line");
        }
    }

    // From back to front: by the time one in front is asked, it can only be further on than the one behind it.
    until("all are called", SOON * 2, || async {
        let mut waiting = 0;
        let mut called_behind = false;
        for visitor in line.iter().rev() {
            match visitor.standing().await["status"].as_str() {
                Some("called") => called_behind = true,
                Some("waiting") if called_behind => panic!("called before the one in front"),
                Some("waiting") => waiting += 1,
                other => panic!("{other:?}"),
            }
        }
        (waiting == 0).then_some(())
    })
    .await;
    for visitor in &line {
        assert_eq!(visitor.get("/shop").await.status, 200, "called, so it enters");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_costs_nobody_their_place() {
    let limits = [("capacity", "2"), ("session_ttl", "5m"), ("claim_ttl", "60s")];
    let mut scene = Scene::with("kill_9_costs_nobody_their_place", |config| config.limits(&limits)).await;
    let inside = [scene.inside().await, scene.inside().await];
    let mut line = Vec::new();
    let mut numbers = Vec::new();
    for _ in 0..100 {
        let (visitor, _) = scene.in_line().await;
        numbers.push(number(&visitor.standing().await));
        line.push(visitor);
    }

    scene.kill_service();
    assert_eq!(line[0].get("/shop").await.status, 503, "nobody is let in unasked");
    scene.restart_service().await;

    for visitor in &inside {
        assert_eq!(visitor.get("/shop").await.status, 200, "a pass works on");
    }
    for (visitor, number_before) in line.iter().zip(&numbers) {
        let answer = visitor.get("/shop").await;
        assert_eq!(answer.status, 429, "{}", answer.text);
        assert_eq!(number(&answer.json()), *number_before);
    }
    until("all hundred have their old positions", SOON, || async {
        for (at, visitor) in line.iter().enumerate() {
            if visitor.standing().await["position"] != at as u64 + 1 {
                return None;
            }
        }
        Some(())
    })
    .await;

    // Those who come now stand behind, with numbers that nobody had.
    let mut given: HashSet<_> = numbers.iter().copied().collect();
    for _ in 0..20 {
        let (visitor, position) = scene.in_line().await;
        assert!(position > 100, "{position}");
        let number = number(&visitor.standing().await);
        assert!(number > *numbers.last().unwrap(), "{number}");
        assert!(given.insert(number), "{number} was given twice");
    }

    // And the line moves on where it stood.
    inside[0].leave().await;
    line[0].enters().await;
    assert_eq!(line[1].get("/shop").await.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_in_the_middle_of_a_rush_gives_no_number_twice() {
    let limits = [("capacity", "0"), ("session_ttl", "5m")];
    let mut scene =
        Scene::with("kill_9_in_the_middle_of_a_rush_gives_no_number_twice", |c| c.limits(&limits)).await;
    let mut given = HashSet::new();
    for _ in 0..3 {
        let rush = (0..8).map(|_| {
            let visitors: Vec<_> = (0..400).map(|_| scene.visitor()).collect();
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                for visitor in visitors {
                    match visitor.get("/shop").await {
                        answer if answer.status == 429 => numbers.push(number(&answer.json())),
                        answer => assert_eq!(answer.status, 503, "{}", answer.text),
                    }
                }
                numbers
            })
        });
        let rush: Vec<_> = rush.collect();
        until("the rush is on", SOON, || async {
            (scene.metric("anteroom_waiting").await > given.len() as f64 + 100.0).then_some(())
        })
        .await;
        scene.kill_service();
        for task in rush {
            for number in task.await.unwrap() {
                assert!(given.insert(number), "{number} was given twice");
            }
        }
        scene.restart_service().await;
    }
    let (visitor, _) = scene.in_line().await;
    assert!(given.insert(number(&visitor.standing().await)));
}
