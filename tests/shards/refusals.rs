//! Servers that will not do or will not have us: each says why, and is used once the cause is gone.

use std::time::Duration;

use anteroom::store::redis::script::Script;
use anteroom::store::redis::shards::{ShardError, Shards, Unready};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::redis::cluster::Cluster;
use crate::redis::server::Server;
use crate::redis::{SOON, until, until_true};
use crate::traffic::{connect, connected, count, until_served};

/// Waits until some server's problem, or that of the whole, has these words.
async fn until_problem(shards: &Shards, words: &str) {
    let health = shards.health();
    until("the problem is told", SOON, || {
        let health = health.borrow().clone();
        let servers = health.shards.iter().filter_map(|shard| shard.problem.as_deref().map(str::to_owned));
        let all: Vec<_> = servers.chain(health.problem).collect();
        let found = all.iter().any(|problem| problem.contains(words));
        std::future::ready(found.then_some(()))
    })
    .await;
    assert!(!health.borrow().all_served());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_a_right_one_works_at_once() {
    let server = Server::start().await;
    server.command(&["ACL", "SETUSER", "door", "on", ">right", "~*", "+@all"]);
    let (shards, _) = connect(&format!("redis://door:wrong@127.0.0.1:{}", server.port()));
    until_problem(&shards, "WRONGPASS").await;
    let error = count(&shards, "shop").await.unwrap_err();
    assert!(matches!(error, ShardError::Refused { .. }), "{error}");
    assert!(!format!("{error} {error:?} {shards:?}").contains("wrong@"));
    server.command(&["ACL", "SETUSER", "door", ">wrong"]);
    until_served(&shards).await;
    count(&shards, "shop").await.unwrap();
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_password_is_told() {
    let server = Server::start().await;
    server.command(&["ACL", "SETUSER", "default", "resetpass", ">secret"]);
    let (shards, _) = connect(&server.url());
    until_problem(&shards, "NOAUTH").await;
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_not_do_what_scripts_need_is_told_what() {
    for (lacks, words) in [
        ("-info", "INFO"),
        ("-eval", "EVAL"),
        ("-evalsha", "EVALSHA"),
        ("-time", "TIME"),
        // Needed only later, and then in the middle of a script that has written already.
        ("-rename", "allow RENAME on the keys anteroom:*"),
        ("-@sortedset", "ZADD, ZCARD"),
    ] {
        let server = Server::start().await;
        server.command(&["ACL", "SETUSER", "door", "on", ">right", "~*", "+@all", lacks]);
        let (shards, _) = connect(&format!("redis://door:right@127.0.0.1:{}", server.port()));
        until_problem(&shards, words).await;
        server.command(&["ACL", "SETUSER", "door", "+@all"]);
        until_served(&shards).await;
        shards.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_not_use_our_keys_is_told_which() {
    let server = Server::start().await;
    server.command(&["ACL", "SETUSER", "door", "on", ">right", "~queue:*", "+@all"]);
    let (shards, _) = connect(&format!("redis://door:right@127.0.0.1:{}", server.port()));
    until_problem(&shards, "on the keys anteroom:*").await;
    server.command(&["ACL", "SETUSER", "door", "~anteroom:*"]);
    until_served(&shards).await;
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_script_may_not_do_comes_back_as_refused() {
    let server = Server::start().await;
    server.command(&["ACL", "SETUSER", "door", "on", ">right", "~*", "+@all", "-incr"]);
    let (shards, _) = connected(&format!("redis://door:right@127.0.0.1:{}", server.port())).await;
    let error = count(&shards, "shop").await.unwrap_err();
    assert!(matches!(error, ShardError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("script"), "{error}");
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scripts_own_error_comes_back_with_its_code() {
    let server = Server::start().await;
    let (shards, _) = connected(&server.url()).await;
    let script = Script::new("arrive", "return redis.error_reply('NOROOM no limits are known')");
    let error = shards.run("shop", &script, Vec::new(), Vec::new()).await.unwrap_err();
    assert_eq!(error.code(), Some("NOROOM"), "{error}");
    assert!(error.to_string().contains("no limits are known"), "{error}");
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_of_the_other_kind_is_told() {
    let cluster = Cluster::start().await;
    let node = cluster.servers().next().unwrap();
    let (shards, _) = connect(&node.url());
    until_problem(&shards, "write redis-cluster://").await;
    shards.close().await;

    let server = Server::start().await;
    let (shards, _) = connect(&format!("redis-cluster://127.0.0.1:{}", server.port()));
    until_problem(&shards, "write redis://").await;
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_nobody_knows_is_told() {
    let (shards, _) = connect("redis://no-such-host.invalid:6379");
    until_problem(&shards, "no-such-host.invalid:6379").await;
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_told_and_used_once_there_is_room() {
    let server = Server::start_with(&["--maxclients", "1"]).await;
    // The one place is taken.
    let taken = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let (shards, _) = connect(&server.url());
    until_true("it is told", SOON, {
        let health = shards.health();
        move || health.borrow().shards.iter().any(|shard| shard.problem.is_some())
    })
    .await;
    drop(taken);
    until_served(&shards).await;
    shards.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_says_so_and_is_left_for_the_master() {
    let (master, replica) = (Server::start().await, Server::start().await);
    let port = master.port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]);
    until_true("it is a replica", SOON, || {
        replica.info("replication").get("master_link_status").is_some_and(|link| link == "up")
    })
    .await;
    let (shards, _) = connected(&replica.url()).await;
    let error = count(&shards, "shop").await.unwrap_err();
    assert!(matches!(error, ShardError::NotServing { state: Unready::ReadOnly, .. }), "{error}");
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    until("calls work", SOON, || async { count(&shards, "shop").await.ok() }).await;
    shards.close().await;
}

/// The name of the next command, an array of strings that may hold any bytes; `None` at the end.
async fn next_command(read: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut name = None;
    for _ in 0..length(read).await? {
        // Its two last bytes are the end of the line.
        let mut word = vec![0; length(read).await? + 2];
        read.read_exact(&mut word).await.ok()?;
        name.get_or_insert_with(|| String::from_utf8_lossy(&word).trim_end().to_uppercase());
    }
    name
}

/// The length that stands on a line after its first character.
async fn length(read: &mut (impl AsyncBufRead + Unpin)) -> Option<usize> {
    let mut line = String::new();
    read.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

/// Answers every command of a connection as an old server, or one that is loading, would.
async fn pretend(listener: TcpListener, info: &'static str) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        let (read, mut write) = socket.into_split();
        let mut read = BufReader::new(read);
        while let Some(name) = next_command(&mut read).await {
            let answer = match name.as_str() {
                "PING" => "+PONG\r\n".to_owned(),
                "INFO" => format!("${}\r\n{info}\r\n", info.len()),
                "CLIENT" => ":1\r\n".to_owned(),
                _ => "-LOADING Redis is loading the dataset in memory\r\n".to_owned(),
            };
            if write.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_server_and_one_that_is_loading_are_told() {
    for (info, words) in [
        ("redis_version:6.2.14\r\nredis_mode:standalone", "6.2.14 is too old"),
        ("redis_version:7.2.4\r\nredis_mode:standalone", "LOADING"),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(pretend(listener, info));
        let (shards, _) = connect(&format!("redis://127.0.0.1:{port}"));
        until_problem(&shards, words).await;
        tokio::time::timeout(Duration::from_secs(5), shards.close()).await.unwrap();
        server.abort();
    }
}
