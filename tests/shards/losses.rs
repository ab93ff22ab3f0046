//! One master of three is killed, hung or cut off while calls run: the other two do not feel it, and it recovers.

use std::time::Duration;

use anteroom::telemetry::metrics::label::{LinkEvent, Refresh};

use crate::redis::cluster::Cluster;
use crate::traffic::{Traffic, connected, median, until_served};

/// How long all is well before something is done.
const BEFORE: Duration = Duration::from_secs(2);
/// How long a server is left hung or cut off: longer than the cluster takes to replace it.
const AWAY: Duration = Duration::from_secs(10);

/// What is done to the master of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Kill,
    Hang,
    CutOff,
}

#[allow(clippy::print_stdout)] // The figures are what one wants to see of it.
async fn suffer(blow: Blow) {
    let cluster = match blow {
        Blow::CutOff => Cluster::proxied().await,
        Blow::Kill | Blow::Hang => Cluster::start().await,
    };
    let (shards, metrics) = connected(&cluster.url()).await;
    let rooms = cluster.rooms_on_each_shard();
    let traffic = Traffic::begin(&shards, &rooms);
    for room in 0..3 {
        traffic.until_answered(room, Duration::ZERO, 10).await;
    }
    let calm = traffic.now();
    tokio::time::sleep(BEFORE).await;

    let hurt = cluster.master_of(&rooms[0]);
    let struck = traffic.now();
    match blow {
        Blow::Kill => {
            hurt.kill9();
            cluster.until_promoted(&rooms[0], hurt.port()).await;
        }
        Blow::Hang => {
            hurt.stop();
            tokio::time::sleep(AWAY).await;
            hurt.cont();
        }
        Blow::CutOff => {
            // The nodes among themselves go past the proxy, so nobody is promoted: only we are cut off.
            let proxy = cluster.proxy_of(&rooms[0]);
            proxy.cut();
            tokio::time::sleep(AWAY).await;
            proxy.heal();
        }
    }
    let over = traffic.now();
    traffic.until_answered(0, over, 100).await;
    until_served(&shards).await;
    let end = traffic.now();
    let seen = traffic.stop().await;
    shards.close().await;

    println!(
        "{blow:?}: over after {:?}; connections opened {}, failed {}, cut {}; looks at the slots {}, in vain {}",
        over.saturating_sub(struck),
        metrics.links(LinkEvent::Opened),
        metrics.links(LinkEvent::Failed),
        metrics.links(LinkEvent::Cut),
        metrics.refreshes(Refresh::Done),
        metrics.refreshes(Refresh::Failed),
    );
    let hurt_gap = seen[0].longest_gap(calm);
    for (room, seen) in seen.iter().enumerate() {
        let (before, after) = (seen.slices(calm, struck), seen.slices(struck, end));
        println!(
            "  shard {room}: calls per 100 ms before: median {} least {}; from then on: median {} least {}; \
             longest gap {:?}, at {:?} (struck at {struck:?}); errors {:?}",
            median(&before),
            before.iter().min().unwrap(),
            median(&after),
            after.iter().min().unwrap(),
            seen.longest_gap_and_when(calm).0,
            seen.longest_gap_and_when(calm).1,
            seen.errors(),
        );
        if room == 0 {
            continue;
        }
        assert!(seen.errors().is_empty(), "shard {room} felt it: {:?}", seen.errors());
        assert!(median(&after) * 2 > median(&before), "shard {room} became slow");
        assert!(
            seen.longest_gap(struck) * 2 < hurt_gap,
            "shard {room} stood still with the one that was hurt"
        );
    }
    assert!(!seen[0].errors().is_empty(), "the shard that was hurt did not feel it; what was tested?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_harms_only_its_own_slots() {
    suffer(Blow::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_master_harms_only_its_own_slots() {
    suffer(Blow::Hang).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_cut_off_from_us_harms_only_its_own_slots() {
    suffer(Blow::CutOff).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_blow_nobody_feels_anything() {
    let cluster = Cluster::start().await;
    let (shards, _) = connected(&cluster.url()).await;
    let traffic = Traffic::begin(&shards, &cluster.rooms_on_each_shard());
    tokio::time::sleep(AWAY).await;
    let end = traffic.now();
    for (room, seen) in traffic.stop().await.iter().enumerate() {
        let slices = seen.slices(Duration::ZERO, end);
        let (gap, when) = seen.longest_gap_and_when(Duration::ZERO);
        println!(
            "undisturbed shard {room}: calls per 100 ms: median {} least {}; longest gap {gap:?} at {when:?}",
            median(&slices),
            slices.iter().min().unwrap()
        );
        assert!(seen.errors().is_empty(), "{:?}", seen.errors());
    }
    shards.close().await;
}
