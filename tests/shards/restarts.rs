//! One server: restarted, emptied of its scripts, hung for a while, and closed in the end.

use std::time::Duration;

use anteroom::store::redis::shards::ShardError;
use anteroom::telemetry::metrics::label::{CallResult, LinkEvent, Resent};

use crate::redis::proxy::Proxy;
use crate::redis::server::Server;
use crate::redis::{SOON, until, until_true};
use crate::traffic::{Traffic, connect, connected, count, until_served};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_the_script_is_sent_its_text() {
    let server = Server::start().await;
    let (shards, metrics) = connected(&server.url()).await;
    assert_eq!(count(&shards, "shop").await.unwrap(), 1);
    assert_eq!(count(&shards, "shop").await.unwrap(), 2);
    assert_eq!(metrics.resends(Resent::NoScript), 1);
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(count(&shards, "shop").await.unwrap(), 3);
    assert_eq!(metrics.resends(Resent::NoScript), 2);
    assert_eq!(metrics.calls(CallResult::Answered), 3);
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_found_again() {
    let server = Server::start().await;
    let (shards, metrics) = connected(&server.url()).await;
    for round in 0..3 {
        let traffic = Traffic::begin(&shards, &["shop".to_owned()]);
        traffic.until_answered(0, Duration::ZERO, 20).await;
        let struck = traffic.now();
        server.restart().await;
        let back = traffic.now();
        traffic.until_answered(0, back, 20).await;
        let seen = traffic.stop().await.remove(0);
        println!(
            "restart {round}: took {:?}; longest gap {:?}",
            back.saturating_sub(struck),
            seen.longest_gap(Duration::ZERO)
        );
    }
    until_served(&shards).await;
    assert!(metrics.links(LinkEvent::Lost) >= 3);
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_fail_at_once_while_no_server_is_there_and_work_when_it_comes() {
    let server = Server::absent();
    let (shards, metrics) = connect(&server.url());
    let health = shards.health();
    until_true("it is known to be away", SOON, || {
        health.borrow().shards.iter().any(|shard| shard.problem.is_some())
    })
    .await;
    for _ in 0..1000 {
        let error = count(&shards, "shop").await.unwrap_err();
        assert!(matches!(error, ShardError::NotConnected { .. }), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
    assert_eq!(metrics.calls(CallResult::NotConnected), 1000);
    server.restart().await;
    until("calls work", SOON, || async { count(&shards, "shop").await.ok() }).await;
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_connection_is_cut_and_a_new_one_made() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let (shards, metrics) = connected(&format!("redis://127.0.0.1:{}", proxy.port())).await;
    count(&shards, "shop").await.unwrap();
    // Nobody calls: the connection's own heartbeat finds out.
    proxy.cut();
    let health = shards.health();
    until_true("its silence is noticed", SOON, || !health.borrow().all_served()).await;
    assert_eq!(metrics.links(LinkEvent::Cut), 1);
    let problem = health.borrow().shards[0].problem.clone().unwrap();
    assert!(problem.contains("silent") || problem.contains("no answer"), "{problem}");
    proxy.heal();
    until_served(&shards).await;
    count(&shards, "shop").await.unwrap();
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_is_not_taken_for_a_hung_one() {
    let server = Server::start_with(&["--enable-debug-command", "yes"]).await;
    let (shards, metrics) = connected(&server.url()).await;
    count(&shards, "shop").await.unwrap();
    for _ in 0..3 {
        // Longer than a call may take, shorter than what counts as silence.
        let port = server.port();
        let sleep = tokio::task::spawn_blocking(move || {
            crate::redis::resp::ask(port, &["DEBUG", "SLEEP", "0.7"], SOON).unwrap()
        });
        until_true("a call times out", SOON, {
            let timeouts = metrics.calls(CallResult::Timeout);
            let (shards, metrics) = (&shards, &metrics);
            move || {
                tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(async { count(shards, "shop").await.ok() })
                });
                metrics.calls(CallResult::Timeout) > timeouts
            }
        })
        .await;
        sleep.await.unwrap();
        until("calls work", SOON, || async { count(&shards, "shop").await.ok() }).await;
    }
    assert_eq!(metrics.links(LinkEvent::Cut), 0);
    assert_eq!(metrics.links(LinkEvent::Opened), 1);
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_server_is_not_sent_ever_more_calls() {
    let server = Server::start().await;
    let (shards, metrics) = connected(&server.url()).await;
    count(&shards, "shop").await.unwrap();
    server.stop();
    let calls: Vec<_> = (0..5000)
        .map(|_| {
            let shards = shards.clone();
            tokio::spawn(async move { count(&shards, "shop").await.unwrap_err() })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap();
        assert!(matches!(error, ShardError::Timeout { .. } | ShardError::Overloaded { .. }), "{error}");
    }
    assert!(metrics.calls(CallResult::Overloaded) >= 3000, "{metrics:?}");
    server.cont();
    until("calls work", SOON, || async { count(&shards, "shop").await.ok() }).await;
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_end_nothing_is_sent_and_nothing_is_connected() {
    let server = Server::start().await;
    let (shards, _) = connected(&server.url()).await;
    let ours = || server.command(&["CLIENT", "LIST"]).matches("name=anteroom").count();
    assert_eq!(ours(), 1);
    shards.close().await;
    assert!(matches!(count(&shards, "shop").await, Err(ShardError::NotConnected { .. })));
    until_true("the connection is gone", SOON, || ours() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_without_a_close_nothing_stays_connected() {
    let server = Server::start().await;
    let (shards, _) = connected(&server.url()).await;
    drop(shards);
    let ours = || server.command(&["CLIENT", "LIST"]).matches("name=anteroom").count();
    until_true("the connection is gone", SOON, || ours() == 0).await;
}
