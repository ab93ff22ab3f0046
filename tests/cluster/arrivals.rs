//! Two replicas, one cluster, and a crowd that comes to both.

use std::time::Duration;

use crate::crowd::{Crowd, Manner, Waits};
use crate::figures::Figures;
use crate::fleet::Fleet;
use crate::ledger::{self, STALE};
use crate::redis::cluster::Cluster;

const VISITORS: usize = 2_000;
const CAPACITY: usize = 300;
const RATE: f64 = 100.0;
const BURST: f64 = 20.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute: make chaos"]
async fn two_replicas_give_every_number_once_and_call_in_order() {
    let cluster = Cluster::start().await;
    let rooms =
        format!("rooms:\n  shop:\n    capacity: {CAPACITY}\n    rate: {RATE}/s\n    burst: {BURST}\n");
    let fleet = Fleet::serving("two_replicas", &cluster.url(), &rooms, 2).await;
    let manner = Manner {
        poll: Duration::from_secs(1),
        look: Duration::from_millis(200),
        stay: Duration::from_millis(400),
    };
    let mut crowd = Crowd::new("shop", fleet.doors(), manner);
    crowd.come(VISITORS, Duration::from_secs(4), Waits::Polling).await;
    crowd.all_left().await;

    let events = crowd.ledger.events();
    let stories = ledger::stories(&events).unwrap();
    assert_eq!(stories.len(), VISITORS);
    ledger::numbers(&stories, true).unwrap();
    ledger::order(&stories, STALE).unwrap();
    let most = ledger::capacity(&stories, CAPACITY).unwrap();
    ledger::rate(&stories, RATE, BURST, Some(STALE)).unwrap();
    let between = ledger::positions(&events, STALE).unwrap();

    let failed: Vec<_> = events.iter().filter(|event| !event.is_answer()).collect();
    assert!(failed.is_empty(), "no answer should fail: {failed:#?}");

    let mut figures = Figures::new(10, "2,000 visitors come to two replicas");
    figures.row("requests answered", events.len());
    figures.row("numbers given twice, left out, or called out of turn", 0);
    figures.row(&format!("most slots surely held at once, of {CAPACITY}"), most);
    figures.row("all were in after", format!("{:.1} s", crowd.ledger.now().as_secs_f64()));
    figures.row(&format!("positions told by the other replica a moment older, of {}", events.len()), between);
    figures.keep();
}
