//! Settings: what is taken, and what is said of what is wrong.

use clap::Parser;

use super::*;

const KEYS: &str = concat!("--keys=", env!("CARGO_MANIFEST_DIR"), "/tests/data/keys.yaml");

fn settings(arguments: &[&str]) -> Result<Settings, Vec<String>> {
    let all = ["anteroom"].iter().chain(arguments);
    let none: [(OsString, OsString); 0] = [];
    let cli = Cli::try_parse_from(all).unwrap();
    cli.settings(none).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

/// The one mistake of these arguments.
fn mistake(arguments: &[&str]) -> String {
    let found = settings(arguments).unwrap_err();
    assert_eq!(found.len(), 1, "{arguments:?}: {found:#?}");
    found.into_iter().next().unwrap()
}

#[test]
fn the_defaults_are_right() {
    let settings = settings(&["serve"]).unwrap();
    assert_eq!(settings.authz_listen.to_string(), "127.0.0.1:50051");
    assert_eq!(settings.tick, Duration::from_millis(200));
    assert_eq!(settings.ticket_ttl, Duration::from_hours(24));
    assert_eq!((settings.max_rooms, settings.max_streams, settings.max_checks), (16_384, 100_000, 10_000));
    assert!(settings.cookie_secure && settings.keys.is_none() && settings.routes.policies().is_empty());
}

#[test]
fn all_mistakes_come_at_once() {
    let found = settings(&[
        "serve",
        "--tick=1ms",
        "--ticket-ttl=soon",
        "--max-rooms=0",
        "--max-streams=-1",
        "--http-listen=localhost:80",
        "--cookie-secure=yes",
        "--cookie-domain=a;b",
        "--log-format=xml",
        "--log=info,=,anteroom=loud",
        "--otlp-endpoint=https://user:secret@host",
        "--store=redis-ring://:secret@host",
        "--rooms=/nonexistent/rooms.yaml",
    ])
    .unwrap_err();
    assert_eq!(found.len(), 12, "{found:#?}");
    let told = found.join("\n");
    assert!(!told.contains("secret"), "{told}");
    assert!(
        told.contains("--tick (ANTEROOM_TICK): \"1ms\" is out of bounds; write a duration from 50ms to 1s")
    );
}

#[test]
fn limits_of_addresses_are_quotas_and_off_unless_stated() {
    let none = settings(&["serve"]).unwrap();
    assert_eq!((none.join_limit, none.api_limit), (None, None));
    let stated = settings(&["serve", "--join-limit=5/s burst 50", "--api-limit", "600/m"]).unwrap();
    assert_eq!((stated.join_limit, stated.api_limit), ("5/s burst 50".parse().ok(), "600/m".parse().ok()));
    for wrong in ["", "5", "0/s", "5/s burst 0"] {
        let told = mistake(&["serve", &format!("--join-limit={wrong}")]);
        assert!(told.starts_with("--join-limit (ANTEROOM_JOIN_LIMIT): ") && told.contains("20/s"), "{told}");
    }
}

#[test]
fn budgets_fit_into_each_other() {
    assert!(mistake(&["serve", "--store-budget=60ms"]).contains("less than --check-budget"));
    assert!(settings(&["serve", "--store-budget=59ms"]).is_ok());
}

#[test]
fn a_role_alone_needs_a_shared_store() {
    for (role, expected) in [("authz", Role::Authz), ("stream", Role::Stream)] {
        assert!(mistake(&[role]).contains("run anteroom serve"));
        assert_eq!(settings(&[role, KEYS, "--store=redis://h"]).unwrap().role, expected);
    }
}

#[test]
fn a_shared_store_needs_shared_keys_and_no_directory() {
    let read = settings(&["serve", KEYS, "--store= redis-cluster://user:hunter2@a:7000,b:7001 "]).unwrap();
    assert_eq!(
        read.store,
        StoreChoice::Redis(Target::parse("redis-cluster://user:hunter2@a:7000,b:7001").unwrap())
    );
    assert!(!format!("{read:?}").contains("hunter2"));
    for command in ["serve", "authz", "stream", "check-config"] {
        let told = mistake(&[command, "--store=rediss://:hunter2@host"]);
        assert!(told.contains("--keys (ANTEROOM_KEYS)") && told.contains("one keys file"), "{told}");
        let told = mistake(&[command, KEYS, "--store=redis://h", "--state-dir=/nonexistent/x"]);
        assert!(told.contains("--state-dir") && told.contains("leave it out"), "{told}");
    }
    let file = mistake(&["serve", "--store=redis://h", "--keys=/nonexistent.yaml"]);
    assert!(file.contains("/nonexistent.yaml"), "said once: {file}");
}

#[test]
fn a_store_that_cannot_be_understood_is_a_mistake_without_its_password() {
    for wrong in ["memcached://:secret@h", "redis://secret@h", "redis://:secret@h:0", "secret", "", "Memory"]
    {
        let told = mistake(&["serve", &format!("--store={wrong}")]);
        assert!(told.contains("--store (ANTEROOM_STORE)") && !told.contains("secret"), "{told}");
        assert!(told.contains("redis-cluster://") && told.contains("memory"), "no remedy: {told}");
    }
}

#[test]
fn listeners_do_not_share_an_address() {
    for (http, admin, clash) in [
        ("127.0.0.1:8000", "127.0.0.1:8000", true),
        ("0.0.0.0:8000", "127.0.0.1:8000", true),
        ("127.0.0.1:8000", "[::]:8000", true),
        ("[::ffff:127.0.0.1]:8000", "127.0.0.1:8000", true),
        ("unix:/run/a", "unix:/run/a", true),
        ("0.0.0.0:8000", "[::1]:8000", false),
        ("127.0.0.1:8000", "127.0.0.2:8000", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
        ("unix:/run/a", "unix:/run/b", false),
    ] {
        let http = format!("--http-listen={http}");
        let admin = format!("--admin-listen={admin}");
        assert_eq!(settings(&["serve", &http, &admin]).is_err(), clash, "{http} {admin}");
    }
}

#[test]
fn the_state_directory_is_made_only_to_run() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let flag = format!("--state-dir={}", dir.display());
    assert!(settings(&["check-config", &flag]).is_ok());
    assert!(!dir.exists());
    assert!(settings(&["serve", &flag]).is_ok());
    assert!(dir.is_dir() && std::fs::read_dir(&dir).unwrap().next().is_none());
    let file = parent.path().join("file");
    std::fs::write(&file, "").unwrap();
    let flag = format!("--state-dir={}", file.display());
    for command in ["serve", "check-config"] {
        assert!(mistake(&[command, &flag]).contains("--state-dir"));
    }
}

#[test]
fn files_are_read() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let (rooms, keys) = (format!("--rooms={data}/rooms.yaml"), format!("--keys={data}/keys.yaml"));
    let read = settings(&["serve", &rooms, &keys]).unwrap();
    assert!(read.routes.by_name("shop").is_some());
    assert_eq!(read.keys.unwrap()[0].kid, "2026-11");
    assert!(mistake(&["serve", &rooms, "--max-rooms=2"]).contains("the 3 rooms"));
    assert!(mistake(&["serve", "--page=/nonexistent.html"]).contains("cannot be read"));
}
