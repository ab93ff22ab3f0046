//! Replicas of the service die, all of them even, and roles run in processes of their own.

use std::time::Duration;

use crate::crowd::{Crowd, Manner, Waits};
use crate::door::{Door, Tokens, Told, Word};
use crate::fleet::Fleet;
use crate::ledger::{self, STALE};
use crate::redis::server::Server;
use crate::redis::{SOON, until};

const ROOMS: &str = "rooms:\n  shop:\n    capacity: 2\n";

async fn line(doors: &[Door], count: usize) -> Vec<Tokens> {
    let mut tickets = Vec::new();
    for index in 0..count {
        let answer = doors[index % doors.len()].check("shop", &Tokens::default()).await;
        assert_eq!(answer.told == Told::Inside, index < 2, "{answer:?}");
        tickets.push(answer.tokens);
    }
    tickets.split_off(2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_keeps_the_place_when_replicas_die() {
    let redis = Server::start().await;
    let fleet = Fleet::serving("replicas", &redis.url(), ROOMS, 2).await;
    let doors = fleet.doors();
    let tickets = line(&doors, 22).await;
    let all_stand = async |doors: &[Door]| {
        for (position, tokens) in (1..).zip(&tickets) {
            for door in doors {
                until(&format!("the visitor stands at {position}"), SOON, || async {
                    let told = door.poll("shop", tokens).await.told;
                    assert!(
                        matches!(told, Told::Waiting(_) | Told::Failed(_) | Told::Held),
                        "{position}: {told:?}"
                    );
                    (told == Told::Waiting(position)).then_some(())
                })
                .await;
            }
        }
    };
    all_stand(&doors).await;
    fleet.replicas()[0].kill9();
    all_stand(&doors[1..]).await;
    fleet.replicas()[1].kill9();
    for index in 0..2 {
        fleet.restart(index);
    }
    for replica in fleet.replicas() {
        replica.until_ready().await;
    }
    all_stand(&doors).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute: make chaos"]
async fn a_crowd_notices_nothing_of_a_replica_that_dies_but_its_connections() {
    let redis = Server::start().await;
    let rooms = "rooms:\n  shop:\n    capacity: 40\n    rate: 20/s\n    burst: 10\n";
    let fleet = Fleet::serving("crowd_and_replica", &redis.url(), rooms, 2).await;
    let second = Duration::from_secs(1);
    let manner = Manner { poll: second / 2, look: second / 2, stay: second };
    let mut crowd = Crowd::new("shop", fleet.doors(), manner);
    crowd.come(150, 2 * second, Waits::Polling).await;
    fleet.replicas()[0].kill9();
    crowd.come(50, 2 * second, Waits::Polling).await;
    fleet.restart(0);
    crowd.all_left().await;
    let stories = ledger::stories(&crowd.ledger.events()).unwrap();
    ledger::numbers(&stories, false).unwrap();
    ledger::order(&stories, STALE).unwrap();
    ledger::capacity(&stories, 40).unwrap();
    ledger::rate(&stories, 20.0, 10.0, None).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_roles_in_processes_of_their_own_serve_one_line() {
    let redis = Server::start().await;
    let mut fleet = Fleet::new("roles", &redis.url(), ROOMS);
    let (authz, stream) = (fleet.add("authz"), fleet.add("stream"));
    for replica in fleet.replicas() {
        replica.until_ready().await;
    }
    let door = Door::new(0, fleet.replicas()[authz].authz, fleet.replicas()[stream].http);
    let newcomer = async || door.check("shop", &Tokens::default()).await;
    let (inside, other, waiting) = (newcomer().await, newcomer().await, newcomer().await);
    assert_eq!([inside.told, other.told, waiting.told], [Told::Inside, Told::Inside, Told::Waiting(1)]);
    let (inside, waiting) = (inside.tokens, waiting.tokens);
    let mut watched = door.stream("shop", &waiting).await.expect("a stream");
    // A replica that has just heard of the room may tell a place further back, for a tick.
    while !matches!(watched.next(SOON).await, Word::Told(Told::Waiting(1))) {}
    assert!(door.leave("shop", &inside).await);
    loop {
        match watched.next(SOON).await {
            Word::Told(Told::Waiting(_)) => {}
            Word::Told(Told::Called) => break,
            other => panic!("{other:?}"),
        }
    }
    until("the visitor is let in", SOON, || async {
        (door.check("shop", &waiting).await.told == Told::Inside).then_some(())
    })
    .await;
}
