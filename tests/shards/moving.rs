//! A slot moves from one server to another while its room is called: no call fails, none runs twice.

use std::time::Duration;

use anteroom::telemetry::metrics::label::Resent;

use crate::redis::cluster::{Cluster, slot_of};
use crate::redis::resp::Reply;
use crate::redis::server::Server;
use crate::traffic::{Traffic, connected};

fn id(server: &Server) -> String {
    server.command(&["CLUSTER", "MYID"])
}

/// Moves a slot with all its keys, as `redis-cli --cluster reshard` does.
fn migrate(slot: u16, from: &Server, to: &Server, everybody: &[&Server], between: impl FnOnce()) {
    let slot = slot.to_string();
    to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
    from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
    let port = to.port().to_string();
    let Reply::List(keys) = from.reply(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]) else {
        panic!("GETKEYSINSLOT brings a list")
    };
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "REPLACE", "KEYS"];
    migrate.extend(keys.iter().map(String::as_str));
    from.command(&migrate);
    between();
    let new = id(to);
    to.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &new]);
    for server in everybody {
        server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &new]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_loses_no_call_and_repeats_none() {
    let cluster = Cluster::start().await;
    let (shards, metrics) = connected(&cluster.url()).await;
    let room = cluster.rooms_on_each_shard()[0].clone();
    let masters = cluster.masters();
    let traffic = Traffic::begin(&shards, std::slice::from_ref(&room));
    traffic.until_answered(0, Duration::ZERO, 50).await;

    // There and back again, more than once.
    for round in 0..6 {
        let (from, to) = (masters[round % 2], masters[(round + 1) % 2]);
        // Between the keys and the slot: calls are sent on with ASK.
        let asked = metrics.resends(Resent::Ask);
        migrate(slot_of(&room), from, to, &masters, || {
            let deadline = std::time::Instant::now() + Duration::from_millis(250);
            while metrics.resends(Resent::Ask) == asked && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        traffic.until_answered(0, traffic.now(), 50).await;
        assert_eq!(shards.server_of(&room).unwrap().port, to.port());
    }
    let seen = traffic.stop().await.remove(0);
    shards.close().await;
    println!(
        "moved 6 times: {} calls; sent on with MOVED {}, ASK {}, again after TRYAGAIN {}; errors {:?}",
        seen.counted().len(),
        metrics.resends(Resent::Moved),
        metrics.resends(Resent::Ask),
        metrics.resends(Resent::TryAgain),
        seen.errors()
    );
    assert!(seen.errors().is_empty(), "{:?}", seen.errors());
    assert!(metrics.resends(Resent::Moved) > 0 && metrics.resends(Resent::Ask) > 0);
    // Every call counted one, so the numbers are 1, 2, 3, …; those of calls cut off at the end may be missing.
    let mut counted = seen.counted();
    counted.sort_unstable();
    let gaps = counted.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert_eq!((counted[0], gaps), (1, 0), "in doubt: {}", seen.in_doubt());
}
