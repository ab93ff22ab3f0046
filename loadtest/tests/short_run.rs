//! A short run from the outside: the file it writes, its pictures, and its exit code where an answer is wrong.

#![allow(clippy::unwrap_used)] // What fails here fails a test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

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
    let script =
        format!("#!/bin/sh\necho \"$@\" >{}\nexec {own} serve anteroom -- \"$@\"\n", stated.display());
    let program = files.path().join("anteroom");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
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
