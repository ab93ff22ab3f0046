//! A short run from the outside: the file it writes, its pictures, its exit code where an answer is wrong, and what is
//! left of one that is broken off.

#![allow(clippy::unwrap_used)] // What fails here fails a test.

#[path = "../../tests/support/until.rs"]
mod until;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use until::{SOON, until_true};

/// As a user would run it, as short as can be.
fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(words).args(["--seconds", "0.3", "--rounds", "1", "--connections", "2"]);
    command
}

fn loadtest(words: &[&str]) -> Output {
    command(words).output().unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_peer_is_measured_and_the_figures_are_written() {
    let files = tempfile::tempdir().unwrap();
    let (json, pictures) = (files.path().join("pass.json"), files.path().join("pictures"));
    let words = [
        "pass",
        "--anteroom",
        "built-in",
        "--json",
        json.to_str().unwrap(),
        "--svg",
        pictures.to_str().unwrap(),
    ];
    let done = loadtest(&words);
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}{err}");
    assert!(out.contains("anteroom : no-op in requests/s = "), "{out}");
    assert!(out.contains("limitador: not measured"), "{out}");
    assert!(err.contains("top rate, round 1 of 1: no-op"), "{err}");

    let told = read(&json);
    assert_eq!((&told["scenario"], &told["answers"]["wrong"]), (&"pass".into(), &0.into()));
    assert!(told["answers"]["all"].as_u64() > Some(0));
    let names: Vec<_> =
        told["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["anteroom", "no-op", "floor"]);
    for row in told["rows"].as_array().unwrap() {
        let (closed, open) = (&row["closed"][0], &row["open"][0]);
        assert!(closed["rate"].as_f64() > Some(0.0), "{row}");
        let half = closed["rate"].as_f64().unwrap() / 2.0;
        assert!((open["rate"].as_f64().unwrap() - half).abs() < 1e-6, "half the top rate: {row}");
        let [p50, p99, max] = ["p50", "p99", "max"].map(|name| row["latencies"][name].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{row}");
        assert!(row["curve"].as_array().unwrap().len() > 10, "{row}");
    }
    assert!(told["ratios"].as_array().unwrap().iter().any(|ratio| ratio["to"] == "no-op"));
    for name in ["pass-latency.svg", "pass-throughput.svg"] {
        assert!(std::fs::read_to_string(pictures.join(name)).unwrap().starts_with("<svg "), "{name}");
    }
}

/// A program of a test: a shell script.
fn script(at: &Path, lines: &str) -> PathBuf {
    std::fs::write(at, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(at, PermissionsExt::from_mode(0o755)).unwrap();
    at.to_owned()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_user_with_a_token_is_measured_next_to_nobody() {
    let files = tempfile::tempdir().unwrap();
    let json = files.path().join("identity.json");
    let done = loadtest(&["identity", "--anteroom", "built-in", "--json", json.to_str().unwrap()]);
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}{err}");
    assert!(out.contains("identity : no identity in requests/s = "), "{out}");
    let told = read(&json);
    assert!(told["answers"]["all"].as_u64() > Some(0) && told["answers"]["wrong"] == 0, "{told}");
}

#[test]
fn a_pass_is_measured_through_envoy_next_to_the_no_op_service() {
    let envoy = std::env::var_os("ENVOY_BIN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/envoy"), PathBuf::from);
    assert!(envoy.is_file(), "no Envoy at {}: run `make tools`, or set ENVOY_BIN", envoy.display());
    let files = tempfile::tempdir().unwrap();
    let json = files.path().join("envoy.json");
    let words = ["envoy", "--anteroom", "built-in", "--json", json.to_str().unwrap()];
    let done = command(&words).arg("--envoy").arg(envoy).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}{err}");
    assert!(out.contains("anteroom : no-op in requests/s = "), "{out}");

    let told = read(&json);
    assert!(told["answers"]["all"].as_u64() > Some(0) && told["answers"]["wrong"] == 0, "{told}");
    assert_eq!(told["versions"]["Envoy"].as_str().unwrap().split('.').count(), 3, "{told}");
    for row in told["rows"].as_array().unwrap() {
        assert!(row["closed"][0]["rate"].as_f64() > Some(0.0), "{row}");
        assert!(row["latencies"]["p99"].as_f64() > Some(0.0), "{row}");
    }
    assert_eq!(told["ratios"][0]["to"], "no-op");
}

#[test]
fn a_missing_envoy_is_told_with_what_helps() {
    let done = loadtest(&["envoy", "--anteroom", "built-in", "--envoy", "/nowhere/envoy"]);
    assert_eq!(done.status.code(), Some(1));
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(
        err.contains("/nowhere/envoy") && err.contains("ENVOY_BIN") && err.contains("make tools"),
        "{err}"
    );
}

#[test]
fn a_small_scale_is_measured_and_computed_for_a_hundred_replicas() {
    let files = tempfile::tempdir().unwrap();
    let json = files.path().join("scale.json");
    let mut run = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    run.args(["scale", "--anteroom", "built-in", "--line", "20000", "--replicas", "2", "--rooms", "5"]);
    let done = run.args(["--each", "10", "--seconds", "0.7", "--json"]).arg(&json).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}{err}");
    let told = read(&json);
    let figure = |of: &str, name: &str| {
        let all = told["facts"].as_array().unwrap();
        let found = all.iter().find(|fact| fact["of"] == of && fact["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} of {of}: {out}"))["value"].as_f64().unwrap()
    };
    // A line of 20,000 is 2,500 bytes, and each replica is sent all of it.
    for replicas in ["1 replica", "2 replicas"] {
        let sent = figure(
            &format!("one line of 20,000, nobody asks anything, {replicas}"),
            "sent by Redis for a tick",
        );
        assert!((2_500.0..10_000.0).contains(&sent), "{sent} bytes");
    }
    let quiet =
        |of: &str, name: &str| figure(&format!("one line of 20,000, nobody asks anything, {of}"), name);
    let computed = quiet("computed", "100 replicas: sent by Redis");
    // On a busy machine the second may not have kept up; then it is computed from the first.
    let is_from = |of: &&str| (computed / (quiet(of, "sent by Redis for a tick") * 500.0) - 1.0).abs() < 1e-6;
    assert!(["1 replica", "2 replicas"].iter().any(is_from), "{computed}: {out}");
    assert!(figure("5 rooms with 10 waiting in each, the program as 1 replica", "calls of Redis") > 0.0);
}

/// Says yes as limitador does.
struct Yes;

#[tonic::async_trait]
impl RateLimitService for Yes {
    async fn should_rate_limit(
        &self,
        question: tonic::Request<RateLimitRequest>,
    ) -> Result<tonic::Response<RateLimitResponse>, tonic::Status> {
        assert_eq!(question.into_inner().domain, "loadtest");
        let answer = RateLimitResponse { overall_code: Code::Ok.into(), ..Default::default() };
        Ok(tonic::Response::new(answer))
    }
}

#[test]
fn limitador_is_started_as_its_server_wants_it_and_measured() {
    let files = tempfile::tempdir().unwrap();
    let [stated, limits, json] = ["stated", "limits", "pass.json"].map(|name| files.path().join(name));
    // A stand-in that takes the arguments of limitador's server; this test answers where it was told to listen.
    let lines = format!(
        "cp \"$9\" {limits} && echo \"$@\" >{stated}.new && mv {stated}.new {stated} && exec sleep 600",
        limits = limits.display(),
        stated = stated.display()
    );
    let program = script(&files.path().join("limitador-server"), &lines);
    let told = stated.clone();
    std::thread::spawn(move || {
        runtime().block_on(async {
            until_true("limitador is started", SOON, || told.exists()).await;
            let words = std::fs::read_to_string(told).unwrap();
            let port = words.split_whitespace().skip_while(|word| *word != "--rls-port").nth(1).unwrap();
            let at = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
            let server = tonic::transport::Server::builder().add_service(RateLimitServiceServer::new(Yes));
            server.serve(at).await.unwrap();
        });
    });
    let words = ["pass", "--anteroom", "built-in", "--json", json.to_str().unwrap()];
    let done = command(&words).arg("--limitador").arg(program).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}{err}");
    assert!(out.contains("anteroom : limitador in requests/s = "), "{out}");
    let rows = read(&json)["rows"].clone();
    assert_eq!(rows[3]["name"], "limitador", "{rows}");
    assert!(rows[3]["closed"][0]["rate"].as_f64() > Some(0.0), "{rows}");
    let words = std::fs::read_to_string(stated).unwrap();
    assert!(words.starts_with("--rls-ip 127.0.0.1 --http-ip 127.0.0.1 --rls-port "), "{words}");
    assert!(words.trim_end().ends_with("limits.yaml memory"), "{words}");
    assert!(std::fs::read_to_string(limits).unwrap().contains("namespace: loadtest"));
}

/// A run that ends with the test, also if that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The processes that this one has started and not yet seen end.
fn children(pid: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |of: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{of}/status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line.strip_prefix("PPid:").is_some_and(|told| told.trim() == pid.to_string()))
    };
    pids.filter(is_child).collect()
}

#[cfg_attr(not(target_os = "linux"), ignore = "children are looked up in /proc")]
#[test]
fn a_run_that_is_broken_off_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let files = tempfile::tempdir().unwrap();
        // With Redis, whose files and process are others' than the harness' own.
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(["arrive", "--anteroom", "built-in", "--seconds", "600"]);
        command.env("TMPDIR", files.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut run = Running(command.spawn().unwrap());
        let mut told = BufReader::new(run.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(told.any(|line| line.contains("top rate")), "the rounds begin");
        let started = children(run.0.id());
        assert!(started.len() >= 4, "two Anterooms, a Redis and the others: {started:?}");
        assert!(std::fs::read_dir(files.path()).unwrap().count() > 0, "logs stand somewhere");

        kill_process(Pid::from_child(&run.0), signal).unwrap();
        let mut status = None;
        runtime().block_on(until_true("the run has ended", SOON, || {
            status = run.0.try_wait().unwrap();
            status.is_some()
        }));
        assert_eq!(status.unwrap().code(), Some(130), "{signal:?}");
        assert_eq!(told.last().as_deref(), Some("loadtest: stopped; what it had started is ended"));
        let left: Vec<_> = std::fs::read_dir(files.path()).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        let running = |pid: &u32| Path::new(&format!("/proc/{pid}")).exists();
        assert!(!started.iter().any(running), "{started:?}");
    }
}

#[test]
fn a_peer_that_does_not_come_up_fails_the_run() {
    let done = loadtest(&["pass", "--anteroom", "built-in", "--limitador", "/bin/true"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("limitador has ended"), "{done:?}");
}

#[test]
fn wrong_answers_are_counted_and_fail_the_run() {
    let files = tempfile::tempdir().unwrap();
    let (json, stated) = (files.path().join("poll.json"), files.path().join("arguments"));
    // The program in between tells where it listens.
    let own = env!("CARGO_BIN_EXE_loadtest");
    let lines = format!("echo \"$@\" >{}\nexec {own} serve anteroom -- \"$@\"", stated.display());
    let program = script(&files.path().join("anteroom"), &lines);
    let words = ["poll", "--waiting", "10", "--anteroom", program.to_str().unwrap()];
    let mut command = command(&[&words[..], &["--json", json.to_str().unwrap()]].concat());
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    // Once the rounds have begun, an eleventh visitor joins the line of ten.
    let mut told = BufReader::new(run.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(told.any(|line| line.contains("top rate")), "the rounds begin");
    join(&std::fs::read_to_string(&stated).unwrap());
    let rest: Vec<String> = told.collect();
    let done = run.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{rest:?}");
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(out.contains("answers were wrong"), "{out}");
    let answers = &read(&json)["answers"];
    assert!(
        answers["wrong"].as_u64() > Some(0) && answers["wrong"].as_u64() < answers["all"].as_u64(),
        "{answers}"
    );
    assert!(answers["reasons"][0].as_str().unwrap().contains("it should be position 6 of 10"), "{answers}");
}

/// Joins the line of the service that was started with these arguments.
fn join(arguments: &str) {
    let mut words = arguments.split_whitespace();
    assert!(words.any(|word| word == "--http-listen"), "{arguments}");
    let mut socket = TcpStream::connect(words.next().unwrap()).unwrap();
    let request = "POST /anteroom/v1/rooms/line/join HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}
