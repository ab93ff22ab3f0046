//! Operators at two replicas over one Redis: the real program as service and as client.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::door::{Tokens, Told};
use crate::fleet::{Fleet, Replica};
use crate::redis::server::{Server, signal};
use crate::redis::{SOON, ports, until, until_true};

const ROOMS: &str = "rooms:\n  shop:\n    capacity: 2\n";
pub(crate) const TOKEN: &str = "a-token-for-two-replicas";

/// The operators' token in a file.
pub(crate) fn token_file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{TOKEN}").unwrap();
    file
}

/// Two replicas with a token, and the file it stands in. They log nothing but errors, what becomes of rooms, and what
/// operators do.
pub(crate) async fn fleet(test: &str, redis: &Server) -> (Fleet, tempfile::NamedTempFile) {
    let file = token_file();
    let path = file.path().to_str().unwrap();
    let mut fleet = Fleet::new(test, &redis.url(), ROOMS).with(&[
        "--drain",
        "2s",
        "--log",
        "error,anteroom::rooms=warn",
        "--admin-token-file",
        path,
    ]);
    for _ in 0..2 {
        fleet.add("serve");
    }
    for replica in fleet.replicas() {
        replica.until_ready().await;
    }
    (fleet, file)
}

/// `anteroom rooms`, asking the admin listener at this port.
pub(crate) fn command(port: u16, token: &tempfile::NamedTempFile, words: &str) -> Command {
    asking(port, token, "rooms", words)
}

/// A command of operators, likewise.
pub(crate) fn asking(port: u16, token: &tempfile::NamedTempFile, what: &str, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom"));
    command.arg(what).args(words.split_whitespace());
    command.args(["--admin", &format!("http://127.0.0.1:{port}"), "--token-file"]).arg(token.path());
    command.env_remove("ANTEROOM_ADMIN_TOKEN_FILE").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Exit status, and what was written to standard output and error.
pub(crate) async fn ran(mut command: Command) -> (i32, String, String) {
    let done = tokio::time::timeout(SOON, command.output()).await.expect("the client ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().expect("it ends by itself"), text(done.stdout), text(done.stderr))
}

pub(crate) async fn json(replica: &Replica, token: &tempfile::NamedTempFile, words: &str) -> Value {
    let (status, out, error) = ran(command(replica.admin, token, &format!("{words} --format json"))).await;
    assert_eq!((status, error.as_str()), (0, ""), "{words}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words}: {error}: {out}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_does_at_one_replica_holds_at_the_other() {
    let redis = Server::start().await;
    let (fleet, token) = fleet("operators", &redis).await;
    let [one, other] = fleet.replicas() else { panic!("two replicas") };
    let doors = fleet.doors();
    // Seen by the other one, which nobody told anything.
    let seen = async |what: &str, right: fn(&Value) -> bool| {
        until(what, SOON, || async { Some(json(other, &token, "show shop").await).filter(right) }).await
    };

    let listed = json(one, &token, "list").await;
    let room = &listed["rooms"][0];
    assert_eq!((&room["room"], &room["policy"]["source"]), (&json!("shop"), &json!("rooms_file")));
    // The same object that the listener answers, page after page put together.
    assert_eq!((&listed["next"], &listed["known"]), (&Value::Null, &json!(1)), "{listed}");
    json(one, &token, "limits shop --capacity 1 --rate 600/m").await;
    let room = seen("the limits are there", |room| room["policy"]["operator"]["capacity"] == 1).await;
    assert_eq!(room["policy"]["in_force"]["burst"], 10, "{room}");
    let newcomer = async |door: usize| doors[door].check("shop", &Tokens::default()).await;
    assert_eq!([newcomer(0).await.told, newcomer(1).await.told], [Told::Inside, Told::Waiting(1)]);
    json(one, &token, "limits shop --clear").await;
    seen("the limits are gone", |room| room["policy"]["operator"].is_null() && room["counts"]["called"] == 1)
        .await;

    json(one, &token, "pause shop").await;
    seen("it is paused", |room| room["paused"] == true).await;
    json(one, &token, "limits shop --capacity 50").await;
    let held = newcomer(1).await;
    assert_eq!(held.told, Told::Waiting(1), "slots are free, and nobody is called");
    json(one, &token, "limits shop --clear").await;
    json(one, &token, "limits shop --capacity 3").await;
    json(one, &token, "resume shop").await;
    until("the visitor is let in", SOON, || async {
        (doors[1].check("shop", &held.tokens).await.told == Told::Inside).then_some(())
    })
    .await;

    let (status, _, error) = ran(command(one.admin, &token, "reset shop --confirm shops")).await;
    assert!(status == 1 && error.contains(r#"{"confirm": "shop"}"#), "{status}: {error}");
    let before = json(other, &token, "show shop").await;
    let reset = json(one, &token, "reset shop --confirm shop").await;
    assert!(reset["generation"].as_u64() > before["generation"].as_u64());
    until("the other one has the new generation", SOON, || async {
        (json(other, &token, "show shop").await["generation"] == reset["generation"]).then_some(())
    })
    .await;
    assert_eq!(newcomer(1).await.told, Told::Inside, "the room is empty");

    let log = one.log();
    let audited = |words: &[&str]| {
        log.lines()
            .any(|line| line.contains("anteroom::audit") && words.iter().all(|word| line.contains(word)))
    };
    for words in [
        ["op=\"limits\"", "result=\"done\"", "capacity 1 (operator)"],
        ["op=\"pause\"", "room=\"shop\"", "peer=127.0.0.1:"],
        ["op=\"reset\"", "result=\"wrong\"", "everybody in line"],
        ["op=\"reset\"", "result=\"done\"", "generation"],
    ] {
        assert!(audited(&words), "{words:?} in:\n{log}");
    }
    assert!(!log.contains(TOKEN), "the token is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_says_what_went_wrong_and_ends_well() {
    let redis = Server::start().await;
    let (fleet, token) = fleet("operators_client", &redis).await;
    let replica = &fleet.replicas()[0];
    let (status, out, _) = ran(command(replica.admin, &token, "list")).await;
    assert!(status == 0 && out.contains("ROOM") && out.contains("shop") && !out.contains('\x1b'), "{out}");
    let (status, out, _) = ran(command(replica.admin, &token, "show shop")).await;
    assert!(status == 0 && out.contains("capacity=2") && out.contains("rooms_file"), "{out}");

    let (status, _, error) = ran(command(replica.admin, &token, "pause nowhere")).await;
    assert!(status == 1 && error.contains("nowhere"), "{status}: {error}");
    let mut wrong = tempfile::NamedTempFile::new().unwrap();
    write!(wrong, "some-other-token-than-that").unwrap();
    let (status, _, error) = ran(command(replica.admin, &wrong, "list")).await;
    assert!(status == 1 && error.contains("token"), "{status}: {error}");
    let (status, _, error) = ran(command(ports::free(), &token, "list")).await;
    assert!(status == 2 && error.contains("nobody listens"), "{status}: {error}");
    let (status, _, error) = ran(command(replica.http, &token, "list")).await;
    assert!(
        status == 2 && error.contains("--admin-listen"),
        "whoever that is, it refused nothing: {status}: {error}"
    );
    let (status, _, _) = ran(command(replica.admin, &token, "limits shop --rate 10")).await;
    assert_eq!(status, 2);
    let mut unclear = Command::new(env!("CARGO_BIN_EXE_anteroom"));
    unclear.args(["rooms", "show"]).env("ANTEROOM_ADMIN_TOKEN_FILE", token.path()).stdin(Stdio::null());
    let (status, _, error) = ran(unclear).await;
    assert!(
        status == 2 && error.contains("Usage: anteroom rooms show") && !error.contains("--token-file"),
        "{error}"
    );
    let mut by_variable = Command::new(env!("CARGO_BIN_EXE_anteroom"));
    by_variable.args(["rooms", "list", "--admin", &format!("http://127.0.0.1:{}", replica.admin)]);
    by_variable.env("ANTEROOM_ADMIN_TOKEN_FILE", token.path()).stdin(Stdio::null());
    assert_eq!(ran(by_variable).await.0, 0);

    let mut watching = command(replica.admin, &token, "watch shop --every 200ms --format json");
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("a look").unwrap().unwrap();
        let looked: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(looked["rooms"][0]["room"], "shop", "{line}");
    }
    signal("INT", watching.id().unwrap());
    let ended = tokio::time::timeout(SOON, watching.wait()).await.expect("Ctrl-C ends it").unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_says_where_a_control_may_have_been_done() {
    let redis = Server::start().await;
    let (fleet, token) = fleet("operators_unsure", &redis).await;
    let replica = &fleet.replicas()[0];
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let to_full = async |words: &str| {
        let mut command = command(replica.admin, &token, words);
        command.stdout(full()).stderr(Stdio::piped());
        let ended = command.spawn().unwrap().wait_with_output();
        let ended = tokio::time::timeout(SOON, ended).await.expect("the client ends").unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let (status, error) = to_full("pause shop").await;
    assert!(
        status == Some(3) && error.contains("was done") && error.contains("written"),
        "{status:?}: {error}"
    );
    assert_eq!(json(replica, &token, "show shop").await["paused"], true);
    assert_eq!(to_full("show shop").await.0, Some(2), "there was nothing to be done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_changes_the_deny_list_of_all_replicas() {
    let redis = Server::start().await;
    let (fleet, token) = fleet("operators_deny", &redis).await;
    let [one, other] = fleet.replicas() else { panic!("two replicas") };
    let deny = async |replica: &Replica, words: &str| ran(asking(replica.admin, &token, "deny", words)).await;
    let (status, out, error) =
        deny(one, "add --ip 192.0.2.0/24 --until 2999-01-01T09:00:00+09:00 --note bot").await;
    assert!(
        status == 0 && out.contains("ip 192.0.2.0/24: refused until 2999-01-01T00:00:00"),
        "{out}{error}"
    );
    assert_eq!(deny(other, "add --subject mallory --issuer https://id.example --format json").await.0, 0);
    let listed = until("both replicas have both", SOON, || async {
        let (status, out, _) = deny(one, "list --format json").await;
        let list: Value = serde_json::from_str(&out).unwrap();
        (status == 0 && list["known"] == 2).then_some(list)
    })
    .await;
    let entry = listed["entries"].as_array().unwrap().iter().find(|entry| entry["ip"].is_string()).unwrap();
    assert_eq!((&entry["note"], &entry["source"]), (&json!("bot"), &json!("operators")), "{listed}");
    let (status, out, _) = deny(one, "list").await;
    assert!(status == 0 && out.contains("REFUSED") && out.contains("\"mallory\" of"), "{out}");
    assert_eq!(deny(one, "remove --ip 192.0.2.0/24").await.0, 0);
    let (status, _, error) = deny(one, "remove --ip 192.0.2.0/24").await;
    assert!(status == 1 && error.contains("192.0.2.0/24"), "{status}: {error}");
    assert_eq!(deny(one, "add --ip ::/1").await.0, 2);
    // On a busy machine the moment may be over before it is asked for.
    until("somebody is refused for a moment", SOON, || async {
        let moment = SystemTime::now() + Duration::from_secs(2);
        let words = format!("add --subject eve --until {}", humantime::format_rfc3339_millis(moment));
        (deny(one, &words).await.0 == 0).then_some(())
    })
    .await;
    until("it is over, and marked as that", SOON, || async {
        let (_, out, _) = deny(one, "list").await;
        let is_marked = |line: &str| line.starts_with("subject \"eve\"") && line.contains("Z (over)");
        out.lines().any(is_marked).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_listeners_have_no_operators_calls() {
    let redis = Server::start().await;
    let (fleet, token) = fleet("operators_elsewhere", &redis).await;
    let replica = &fleet.replicas()[0];
    let http = Client::builder().no_proxy().timeout(SOON).build().unwrap();
    let grpc = Client::builder().no_proxy().timeout(SOON).http2_prior_knowledge().build().unwrap();
    for (method, path) in [
        (Method::GET, "/rooms"),
        (Method::GET, "/rooms/shop"),
        (Method::POST, "/rooms/shop/pause"),
        (Method::POST, "/rooms/shop/reset"),
        (Method::DELETE, "/rooms/shop/limits"),
        (Method::POST, "/anteroom/rooms/shop/pause"),
        (Method::POST, "/anteroom/v1/rooms/shop/pause"),
    ] {
        let send = async |client: &Client, port: u16| {
            let url = format!("http://127.0.0.1:{port}{path}");
            client.request(method.clone(), url).bearer_auth(TOKEN).send().await.unwrap()
        };
        assert_eq!(send(&http, replica.http).await.status(), StatusCode::NOT_FOUND, "{method} {path}");
        for port in [replica.authz, replica.grpc] {
            let answer = send(&grpc, port).await;
            let unimplemented = answer.headers().get("grpc-status").is_some_and(|status| status == "12");
            assert!(unimplemented || answer.status() == StatusCode::NOT_FOUND, "{method} {path}: {answer:?}");
        }
    }
    let room = json(replica, &token, "show shop").await;
    assert_eq!(room["paused"], false);
    // The same paths and token, where they belong.
    let url = format!("http://127.0.0.1:{}/rooms/shop/pause", replica.admin);
    assert_eq!(http.post(&url).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(http.post(&url).bearer_auth(TOKEN).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(json(replica, &token, "show shop").await["paused"], true);
}

/// How the room is at a replica once it may call again after a loss: nobody is called for 3 s.
async fn beyond_the_loss(replica: &Replica, token: &tempfile::NamedTempFile, before: &Value) -> Value {
    until("the loss is over", SOON, || async {
        let room = json(replica, token, "show shop").await;
        let over = room["last_loss"]["seconds_ago"].as_f64().is_some_and(|seconds| seconds > 3.5);
        (over && room["generation"].as_u64() > before["generation"].as_u64()).then_some(room)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_and_limits_outlive_a_redis_that_forgets_everything() {
    let redis = Server::start().await;
    let (fleet, token) = fleet("operators_loss", &redis).await;
    let [one, other] = fleet.replicas() else { panic!("two replicas") };
    let doors = fleet.doors();
    json(one, &token, "limits shop --capacity 5").await;
    json(one, &token, "pause shop").await;
    let held = doors[1].check("shop", &Tokens::default()).await;
    assert_eq!(held.told, Told::Waiting(1));
    let before = until("the other one has heard of it", SOON, || async {
        let room = json(other, &token, "show shop").await;
        (room["paused"] == true && room["policy"]["operator"]["capacity"] == 5).then_some(room)
    })
    .await;

    redis.command(&["FLUSHALL"]);
    for replica in [one, other] {
        let room = beyond_the_loss(replica, &token, &before).await;
        let kept = (&room["paused"], &room["policy"]["operator"]["capacity"], &room["counts"]["waiting"]);
        assert_eq!(kept, (&json!(true), &json!(5), &json!(1)), "{room}");
    }
    let brought_back = |replica: &Replica| replica.log().contains("it has been brought back");
    // Whoever brought it back may still be on the way to saying so.
    until_true("it is said", SOON, || brought_back(one) || brought_back(other)).await;
    for door in &doors {
        assert_eq!(door.check("shop", &held.tokens).await.told, Told::Waiting(1), "the room is paused");
    }

    json(other, &token, "resume shop").await;
    until("the visitor is let in", SOON, || async {
        (doors[0].check("shop", &held.tokens).await.told == Told::Inside).then_some(())
    })
    .await;
    let before = json(one, &token, "show shop").await;
    redis.command(&["FLUSHALL"]);
    let room = beyond_the_loss(one, &token, &before).await;
    let kept = (&room["paused"], &room["policy"]["operator"]["capacity"]);
    assert_eq!(kept, (&json!(false), &json!(5)), "what was taken back stays so: {room}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_an_empty_room_holds_whoever_comes_first_after_a_loss() {
    let redis = Server::start().await;
    let (fleet, token) = fleet("operators_empty", &redis).await;
    let [one, other] = fleet.replicas() else { panic!("two replicas") };
    let before = json(other, &token, "show shop").await;
    json(one, &token, "pause shop").await;
    redis.command(&["FLUSHALL"]);
    // At the replica that nobody has told of the pause, and nobody looks at the one that was.
    let door = &fleet.doors()[1];
    let newcomer = door.check("shop", &Tokens::default()).await;
    assert!(matches!(newcomer.told, Told::Waiting(_)), "{newcomer:?}");
    assert_eq!(beyond_the_loss(other, &token, &before).await["paused"], true);
    assert!(matches!(door.check("shop", &newcomer.tokens).await.told, Told::Waiting(_)));
}
