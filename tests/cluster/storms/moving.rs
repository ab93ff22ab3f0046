//! Stream processes that go away under their visitors, through Envoy and over Redis.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::watcher::{Knowledge, Watcher};
use crate::door::{Door, Tokens, Told};
use crate::envoy::Envoy;
use crate::figures::Figures;
use crate::fleet::Fleet;
use crate::redis::server::Server;
use crate::redis::{SOON, until};

const BURST: f64 = 5.0;
const AUTHZ: usize = 0;
const FIRST: usize = 1;
const SECOND: usize = 2;

/// Who comes back after a blow, within a second of each other at most.
#[derive(Clone, Copy)]
struct Spread {
    returns: usize,
    most: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_whose_stream_process_goes_away_find_another_and_keep_their_place() {
    go_away("moving", 600, 14.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute: make chaos"]
async fn many_visitors_whose_stream_process_goes_away_find_another() {
    let (count, rate) = (2_500, 50.0);
    let (spreads, refused) = go_away("moving_many", count, rate).await;
    let mut figures = Figures::new(
        74,
        &format!("{count} visitors watch through Envoy while both stream processes go away"),
    );
    for (what, spread) in ["the first drains", "the second is killed", "both are killed"].iter().zip(spreads)
    {
        figures.row(
            &format!("{what}: streams that come back, and most of them within one second"),
            format!("{} and {}", spread.returns, spread.most),
        );
    }
    figures.row("asked in vain while nobody was there, and came again", refused);
    figures.row("places lost, positions that were wrong or rose, calls not heard of", 0);
    figures.keep();
}

async fn go_away(test: &str, count: u64, rate: f64) -> (Vec<Spread>, u64) {
    let redis = Server::start().await;
    let rooms = format!("rooms:\n  shop:\n    rate: {rate}/s\n    burst: {BURST}\n    claim_ttl: 2m\n");
    let pace = ["--stream-interval", "2s", "--stream-near", "500ms", "--drain", "4s"];
    let mut fleet = Fleet::new(test, &redis.url(), &rooms).with(&pace);
    for role in ["authz", "stream", "stream"] {
        fleet.add(role);
    }
    for replica in fleet.replicas() {
        replica.until_ready().await;
    }
    let envoy = Envoy::before(&fleet, &[FIRST, SECOND]).await;
    let [authz, first, second] = [AUTHZ, FIRST, SECOND].map(|index| &fleet.replicas()[index]);
    let door = Door::new(AUTHZ, authz.authz, authz.http);
    let url = format!("http://127.0.0.1:{}/anteroom/v1/rooms/shop/stream", envoy.port);
    let url: &'static str = url.leak();

    // One after the other: so the order of their numbers is that of the ledger.
    let knowledge = Arc::new(Knowledge::new(rate, BURST));
    let mut visitors = JoinSet::new();
    let mut rank = 0;
    while rank < count {
        let answer = door.check("shop", &Tokens::default()).await;
        rank += 1;
        if answer.told == Told::Inside {
            knowledge.enters(rank);
            continue;
        }
        assert!(matches!(answer.told, Told::Waiting(_)), "{answer:?}");
        let (knowledge, door) = (knowledge.clone(), door.clone());
        visitors.spawn(async move { Watcher::new(&knowledge, url, answer.tokens, rank, door).watch().await });
    }
    let open = || async {
        first.metric("anteroom_streams_open").await + second.metric("anteroom_streams_open").await
    };
    let waiting = || count as usize - knowledge.called();
    until_all("both serve", || async {
        first.metric("anteroom_streams_open").await > 20.0 && open().await >= waiting() as f64
    })
    .await;

    let mut spreads = Vec::new();
    knowledge.take_returns();
    first.terminate().await;
    until_all("all are with the second", || async {
        second.metric("anteroom_streams_open").await >= waiting() as f64
    })
    .await;
    spreads.push(spread(&knowledge));
    fleet.restart(FIRST);
    first.until_ready().await;

    second.kill9();
    until_all("all are with the first", || async {
        first.metric("anteroom_streams_open").await >= waiting() as f64
    })
    .await;
    spreads.push(spread(&knowledge));
    fleet.restart(SECOND);
    second.until_ready().await;

    // Nobody is left for a while: calls are made all the same, and Checks answered.
    first.kill9();
    second.kill9();
    let alone = Instant::now();
    while alone.elapsed() < Duration::from_secs(2) {
        let answer = door.check("shop", &Tokens::default()).await;
        assert!(matches!(answer.told, Told::Waiting(_) | Told::Inside), "{answer:?}");
        sleep(Duration::from_millis(50)).await;
    }
    fleet.restart(FIRST);
    fleet.restart(SECOND);
    assert!(waiting() > 20, "too few were left to come back");
    until_all("all are back", || async {
        let served = [first.admin("/readyz").await.0, second.admin("/readyz").await.0];
        served == [200, 200] && open().await >= waiting() as f64
    })
    .await;
    spreads.push(spread(&knowledge));

    // Calls are made in order: whoever stood before somebody who has heard of it hears of it too.
    let last = knowledge.last_called();
    until_all("who was called hears of it", || async { knowledge.all_called(last) }).await;
    visitors.abort_all();
    while let Some(ended) = visitors.join_next().await {
        assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()), "a visitor's test failed");
    }
    authz.must_run();
    for (at, Spread { returns, most }) in spreads.iter().enumerate() {
        assert!(*returns > 20, "blow {at}: {returns} came back");
        assert!(2 * most <= *returns, "blow {at}: {most} of {returns} came back within one second");
    }
    (spreads, knowledge.refused())
}

async fn until_all<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    until(what, SOON, || {
        let asked = is_so();
        async { asked.await.then_some(()) }
    })
    .await;
}

/// How those who came back since the last call were spread.
fn spread(knowledge: &Knowledge) -> Spread {
    let mut returns = knowledge.take_returns();
    returns.sort_unstable();
    let within = |from: &Instant| {
        let second = *from..*from + Duration::from_secs(1);
        returns.iter().filter(|at| second.contains(at)).count()
    };
    Spread { returns: returns.len(), most: returns.iter().map(within).max().unwrap_or(0) }
}
