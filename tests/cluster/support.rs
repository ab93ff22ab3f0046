//! The tests' own Redis: does it do what scenarios count on?

use std::time::Duration;

use crate::redis::cluster::{Cluster, slot_of};
use crate::redis::proxy::Proxy;
use crate::redis::server::Server;
use crate::redis::{SOON, resp, until_true};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_killed_stopped_and_started_again() {
    let server = Server::start().await;
    server.command(&["SET", "a", "1"]);
    server.stop();
    assert!(server.ask(&["PING"], SHORT).is_err());
    server.cont();
    assert_eq!(server.command(&["GET", "a"]), "1");
    assert!(server.calls()["get"] >= 1);
    server.kill9();
    assert!(server.ask(&["PING"], SHORT).is_err());
    server.restart().await;
    assert_eq!((server.command(&["GET", "a"]), server.keys()), (String::new(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_cut_closed_and_healed() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let ping = || resp::ask(proxy.port(), &["PING"], SHORT).map(|reply| reply.to_string());
    let ask = || tokio::task::block_in_place(ping);
    assert_eq!(ask().unwrap(), "PONG");
    proxy.cut();
    assert_eq!(ask().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "silence, not an end");
    proxy.close();
    let error = ask().unwrap_err().kind();
    assert_ne!(error, std::io::ErrorKind::WouldBlock, "an end, not silence");
    proxy.heal();
    assert_eq!(ask().unwrap(), "PONG");
}

#[test]
fn rooms_are_hashed_as_redis_does() {
    // From the specification of Redis Cluster; `a_cluster_fails_over` asks Redis itself.
    assert_eq!([slot_of("123456789"), slot_of("")], [0x31C3, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_fails_over() {
    for cluster in [Cluster::start().await, Cluster::proxied().await] {
        let rooms = cluster.rooms_on_each_shard();
        for room in &rooms {
            let slot = cluster.master_of(room).command(&["CLUSTER", "KEYSLOT", &format!("x:{{{room}}}:y")]);
            assert_eq!(slot, slot_of(room).to_string());
            cluster.master_of(room).command(&["SET", &format!("x:{{{room}}}:y"), "1"]);
        }
        assert_eq!(cluster.keys().len(), 3);
        let master = cluster.master_of(&rooms[1]);
        master.kill9();
        cluster.until_promoted(&rooms[1], master.port()).await;
        assert_ne!(cluster.master_of(&rooms[1]).port(), master.port());
        assert_eq!(cluster.keys().len(), 3, "the replica had it all");
        master.restart().await;
        cluster.until_sound().await;
        cluster.flushall();
        until_true("the replicas are empty too", SOON, || {
            cluster.servers().all(|server| server.keys().is_empty())
        })
        .await;
    }
}
