//! `anteroom check-config`: what it finds in whole files, how it reports, and its exit status.

// A failed unwrap is a failed test, in the functions that tests share too.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anteroom::config::cli::{Cli, Command};
use anteroom::config::{Mistake, check};
use clap::Parser;
use proptest::prelude::*;

/// Runs `anteroom check-config` with these arguments; answers the exit status and what it wrote.
fn check(arguments: &[&str]) -> (u8, String) {
    check_in(&[], arguments)
}

fn check_in(env: &[(&str, &str)], arguments: &[&str]) -> (u8, String) {
    let all = ["anteroom", "check-config"].iter().chain(arguments);
    let Command::CheckConfig(args) = Cli::try_parse_from(all).unwrap().command else { unreachable!() };
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let mut out = Vec::new();
    let status = check::run(&args, env, false, &mut out).unwrap();
    (status, String::from_utf8(out).unwrap())
}

fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A directory with one file in it.
struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        Self { _dir: dir, path }
    }

    fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

/// A route configuration with one route and these context extensions.
fn one_route(context: &str) -> String {
    format!(
        "virtual_hosts:\n- routes:\n  - match: {{prefix: /}}\n    route: {{cluster: c}}\n    \
         typed_per_filter_config: {{x: {{check_settings: {{context_extensions: {context}}}}}}}\n"
    )
}

#[test]
fn what_we_ship_is_right() {
    let folder = format!("{}/envoy", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let shipped: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|kind| kind == "yaml"))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    assert!(shipped.len() >= 2, "{shipped:?}");
    let (status, out) = check(&shipped.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(status, 0, "{out}");
}

#[test]
fn files_that_are_right_get_a_line_each() {
    let rooms = File::new("rooms.yaml", "rooms: {blue: {rate: 5/s, burst: 2}, spare: {capacity: 1}}\n");
    let keys = File::new("keys.yaml", std::fs::read(data("keys.yaml")).unwrap());
    let (status, out) = check(&[&data("envoy.yaml"), rooms.name(), keys.name()]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(status, 0, "{out}");
    assert_eq!(
        lines,
        [
            format!(
                "{}: fine, 4 routes with rooms blue, green, shop, tickets; 1 map of context extensions for \
                 another service",
                data("envoy.yaml")
            ),
            format!("{}: fine, rooms blue, spare", rooms.name()),
            format!("{}: fine, 3 keys", keys.name()),
            "settings: fine".to_owned(),
        ]
    );
}

#[test]
fn every_mistake_in_envoy_configuration_is_found_with_its_line() {
    let text = std::fs::read_to_string(data("envoy-wrong.yaml")).unwrap();
    let (status, out) = check(&["--format=json", &data("envoy-wrong.yaml")]);
    assert_eq!(status, 1, "{out}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let found = report["mistakes"].as_array().unwrap();
    let marked: Vec<_> = text
        .lines()
        .enumerate()
        .filter_map(|(at, line)| line.split_once("#! ").map(|(_, said)| (at + 1, said)))
        .collect();
    let shown = |mistake: &serde_json::Value| {
        let part = |name: &str| mistake[name].as_str().unwrap().to_owned();
        format!("{}: {}; {}", part("key"), part("problem"), part("remedy"))
    };
    let messages: Vec<_> =
        found.iter().map(|mistake| format!("{}: {}", mistake["line"], shown(mistake))).collect();
    assert_eq!(found.len(), marked.len(), "{messages:#?}");
    for ((line, said), (mistake, message)) in marked.iter().zip(found.iter().zip(&messages)) {
        let message = message.replace(&data("envoy-wrong.yaml"), "e.yaml");
        assert_eq!(mistake["line"], *line, "{said} / {message}");
        assert!(message.contains(said), "{said} / {message}");
    }
}

#[test]
fn the_human_report_is_made_for_editors() {
    let file = File::new("envoy.yaml", one_route("{room: shop, capacty: \"5\"}"));
    let (status, out) = check(&[file.name()]);
    assert_eq!(status, 1);
    let line = format!(
        "{}:5: virtual_hosts[0].routes[0].typed_per_filter_config.x.check_settings.context_extensions.capacty: \
         is not a known key; did you mean capacity?",
        file.name()
    );
    assert_eq!(out.lines().collect::<Vec<_>>(), [line.as_str(), "settings: fine", "1 mistake"]);
    let Command::CheckConfig(args) =
        Cli::try_parse_from(["anteroom", "check-config", file.name()]).unwrap().command
    else {
        unreachable!()
    };
    let mut coloured = Vec::new();
    check::run(&args, Vec::<(OsString, OsString)>::new(), true, &mut coloured).unwrap();
    assert!(String::from_utf8(coloured).unwrap().contains("\u{1b}[1m"));
}

#[test]
fn rooms_that_are_only_named_need_a_rooms_file() {
    let envoy = File::new("envoy.yaml", one_route("{room: shop}"));
    let rooms = File::new("rooms.yaml", "rooms: {shop: {capacity: 1}}");
    let wrong = File::new("wrong.yaml", "rooms: {shop: {capacity: -1}}");
    assert!(check(&[envoy.name()]).1.contains("room shop has no limits here"));
    assert_eq!(check(&[envoy.name(), rooms.name()]).0, 0);
    assert_eq!(check(&[envoy.name(), "--rooms", rooms.name()]).0, 0);
    // A room with a mistake is one mistake, not two.
    assert!(check(&[envoy.name(), wrong.name()]).1.ends_with("\n1 mistake\n"));
    assert!(check(&[envoy.name(), "--rooms", wrong.name()]).1.ends_with("\n1 mistake\n"));
}

#[test]
fn limits_that_differ_between_files_are_a_mistake_that_names_both() {
    let envoy = File::new("envoy.yaml", one_route("{room: shop, capacity: \"2\", session_ttl: 30s}"));
    let rooms = File::new("rooms.yaml", "rooms:\n  shop:\n    capacity: 3\n");
    let (status, out) = check(&[envoy.name(), rooms.name()]);
    assert_eq!(status, 1);
    let expected = format!(
        "{}:2: rooms.shop: room shop has other limits here than in {}:5 (capacity 3 here, 2 there; session_ttl \
         240000 ms here, 30000 ms there); state the same limits at both places",
        rooms.name(),
        envoy.name()
    );
    assert!(out.contains(&expected), "{out}");
    let off = File::new("off.yaml", one_route("{room: shop, mode: \"off\"}"));
    assert_eq!(check(&[off.name(), rooms.name()]).0, 0);
}

#[test]
fn kubernetes_documents_are_read() {
    let (status, out) = check(&[&data("kubernetes.yaml")]);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("rooms shop, tickets"), "{out}");
    let text = std::fs::read_to_string(data("kubernetes.yaml")).unwrap();
    let wrong =
        File::new("k.yaml", text.replace("value: \"2\"", "value: 2").replace("rate: 5/s", "rte: 5/s"));
    let (status, out) = check(&[wrong.name()]);
    assert_eq!(status, 1);
    for part in
        [":9: spec.extAuth.contextExtensions[1].value: is a number", "did you mean rate?", "2 mistakes"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn json_is_read_as_well() {
    let json = "{\n\t\"virtual_hosts\": [{\n\t\t\"routes\": [{\"match\": {}, \"route\": {},\n\
                \t\t\t\"typedPerFilterConfig\": {\"a\": {\"checkSettings\": {\"contextExtensions\":\n\
                \t\t\t\t{\"room\": \"a\\/b\", \"capacity\": 5}}}}}]}]\n}\n";
    let file = File::new("envoy.json", json);
    let (status, out) = check(&[file.name()]);
    assert_eq!(status, 1);
    assert!(out.contains(":5: ") && out.contains("\"a/b\" cannot be understood"), "{out}");
    assert!(out.contains("write \"5\""), "{out}");
}

#[test]
fn what_cannot_be_read_is_status_2_and_hides_nothing_else() {
    let syntax = File::new("syntax.yaml", "rooms:\n  shop: [1\nx: }\n");
    let wrong = File::new("wrong.yaml", "rooms: {shop: {capacity: -1}}");
    let latin = File::new("latin.yaml", b"rooms: {caf\xe9: {}}");
    let large = File::new("large.yaml", vec![b'#'; 8 * 1024 * 1024 + 1]);
    let (status, out) =
        check(&[wrong.name(), syntax.name(), latin.name(), large.name(), "/nonexistent.yaml", "/"]);
    assert_eq!(status, 2, "{out}");
    assert!(out.ends_with("\n6 mistakes\n"), "{out}");
    for part in [
        "\"-1\" cannot be understood",
        "syntax.yaml:3: is not YAML",
        "is not UTF-8",
        "larger than 8 MiB",
        "/nonexistent.yaml: cannot be read",
        "/: cannot be read",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn files_of_no_known_kind_are_mistakes() {
    for (text, said) in [
        ("", "is neither a rooms, keys, deny or identity file"),
        ("just text", "is neither a rooms, keys, deny or identity file"),
        ("[1, 2]", "is neither a rooms, keys, deny or identity file"),
        ("a: 1\nrooom: {}\n", ":2: rooom: is not a known key; did you mean rooms?"),
    ] {
        let file = File::new("f", text);
        let (status, out) = check(&[file.name()]);
        assert_eq!(status, 1);
        assert!(out.contains(said), "{text:?}: {out}");
    }
}

#[test]
fn our_own_settings_are_checked_too() {
    let (status, out) =
        check_in(&[("ANTEROOM_TIK", "1s"), ("ANTEROOM_PORT", "tcp://10.0.0.1:80")], &["--tick=1ms"]);
    assert_eq!(status, 1);
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            "--tick (ANTEROOM_TICK): \"1ms\" is out of bounds; write a duration from 50ms to 1s",
            "ANTEROOM_TIK: is not a known environment variable; did you mean ANTEROOM_TICK?",
            "2 mistakes"
        ]
    );
    let (status, out) = check(&["--log=error,anteroom::audit=off"]);
    assert!(status == 1 && out.contains("written whatever the filter"), "{out}");
    assert_eq!(check(&[]), (0, "settings: fine\n".to_owned()));
}

#[test]
fn a_keys_file_open_to_others_is_a_warning_only() {
    let keys = File::new("keys.yaml", std::fs::read(data("keys.yaml")).unwrap());
    std::fs::set_permissions(&keys.path, PermissionsExt::from_mode(0o644)).unwrap();
    let (status, out) = check(&["--keys", keys.name(), keys.name()]);
    assert_eq!(status, 0);
    assert_eq!(out.matches("warning: holds secrets").count(), 1, "{out}");
    assert!(!out.contains("AAECAwQ"), "{out}");
}

#[test]
fn a_deny_file_full_of_mistakes_is_told_in_part() {
    let right = File::new("deny.yaml", "deny:\n- ip: 192.0.2.1\n- subject: eve\n");
    let (status, out) = check(&[right.name()]);
    assert!(status == 0 && out.contains("deny.yaml: fine, 2 entries\n"), "{out}");
    let wrong = File::new("deny.yaml", format!("deny:\n{}", "- eve\n".repeat(150)));
    let (status, out) = check(&[wrong.name()]);
    let name = wrong.name();
    let first = format!(
        "{name}: has at least 150 mistakes, and 100 of them are told; correct these first\n{name}:2: deny[0]: is"
    );
    assert!(status == 1 && out.starts_with(&first), "{out}");
    assert_eq!(out.lines().filter(|line| line.contains("is a single value")).count(), 100, "{out}");
}

#[test]
fn an_issuers_authority_that_cannot_be_used_is_a_mistake() {
    let text = "issuers:\n- issuer: a\n  audiences: [b]\n  algorithms: [ES256]\n  jwks:\n    url: https://a.example/\n    ca: ca.pem\n";
    let file = File::new("identity.yaml", text);
    let ca = file.path.with_file_name("ca.pem");
    for (content, told) in
        [(None, "cannot be read"), (Some("garbage"), "has no certificate in it; name a PEM file")]
    {
        if let Some(content) = content {
            std::fs::write(&ca, content).unwrap();
        }
        let (status, out) = check(&[file.name()]);
        let expected = format!("{}:7: issuers[0].jwks.ca: {}: {told}", file.name(), ca.display());
        assert!(status == 1 && out.starts_with(&expected), "{out}");
    }
}

#[test]
fn mistakes_are_ordered_by_file_and_line() {
    let line = |file: Option<&str>, line| Mistake {
        file: file.map(Into::into),
        line,
        key: String::new(),
        problem: String::new(),
        remedy: String::new(),
        grade: anteroom::config::Grade::Mistake,
    };
    let mut mistakes =
        [line(Some("b"), Some(1)), line(Some("a"), Some(10)), line(Some("a"), Some(9)), line(None, None)];
    mistakes.sort();
    let order: Vec<_> = mistakes.iter().map(Mistake::location).collect();
    assert_eq!(order, ["", "a:9", "a:10", "b:1"]);
}

proptest! {
    // Without a file of its own: an integration test has no place to keep failures.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_context_makes_it_panic(value in "[a-zA-Zé~0-9/.:\"'-]{0,12}", key in "(room|capacity|mode|x|é|rte)") {
        let file = File::new("e.yaml", one_route(&format!("{{room: a, rate: 1/s, {key}: {value} }}")));
        let (status, _) = check(&[file.name()]);
        prop_assert!(status <= 2);
    }
}
