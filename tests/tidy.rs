//! Holds the structure of the house by reading its sources: layers, names, sizes, and what is not done here.
//!
//! Each test's name tells its rule; a failure lists file, line and what would be right.

#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use source::Source;

/// The layers from top to bottom. A module may name those below its own layer, and side modules.
const LAYERS: [&[&str]; 7] = [
    &["main"],
    &["app"],
    &["config"],
    &["authz", "position", "admin"],
    &["rooms", "guard", "identity"],
    &["store"],
    &["room"],
];

/// Modules beside the layers. They may name `room` and each other, but not in a circle.
const SIDE: [&str; 10] =
    ["page", "cookie", "cors", "routes", "client_address", "listen", "drain", "clock", "telemetry", "pb"];

/// Where only some side modules may be named.
const FEW_SIDES: [(&str, &[&str]); 2] = [("store", &["clock", "telemetry"]), ("room", &[])];

/// The store's backends: named by the wiring only.
const BACKENDS: [&str; 2] = ["memory", "redis"];

/// Something that breaks a rule.
struct Breach {
    file: String,
    line: usize,
    what: String,
}

fn none(breaches: &[Breach], right: &str) {
    let mut report = String::new();
    for Breach { file, line, what } in breaches {
        // Writing to a string cannot fail.
        let _ = writeln!(report, "{file}:{line}: {what}");
    }
    assert!(breaches.is_empty(), "\n{report}What would be right: {right}\n");
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Why `from` may not name `to`; `None` if it may.
fn why_not(from: &str, to: &str) -> Option<String> {
    if from == to || from == "lib" {
        return None;
    }
    let side = SIDE.contains(&to);
    if let Some((_, few)) = FEW_SIDES.iter().find(|(module, _)| *module == from)
        && side
    {
        return (!few.contains(&to)).then(|| format!("{from} may not name {to}"));
    }
    match (layer(from), layer(to)) {
        (Some(_), None) if side => None,
        (Some(above), Some(below)) if above < below => None,
        (Some(_), Some(_)) => Some(format!("{from} names {to}, which does not lie below it")),
        (None, _) if !SIDE.contains(&from) => {
            Some(format!("module {from} has no place: give it one in LAYERS or SIDE"))
        }
        (None, _) if side || to == "room" => None,
        (None, _) => Some(format!("side module {from} names {to}; it may name room and other side modules")),
        (Some(_), None) => Some(format!("module {to} has no place: give it one in LAYERS or SIDE")),
    }
}

fn breaches_of_layers(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources {
        for (line, path) in source.imports() {
            if let Some(what) = why_not(source.module(), &path[0]) {
                breaches.push(Breach { file: source.file.clone(), line, what });
            }
        }
    }
    breaches
}

/// Every place in the code (not in comments, strings or tests) where one of these words stands.
fn words(sources: &[Source], words: &[&str]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources {
        for (number, line) in source.lines() {
            for word in words.iter().filter(|word| source::has_word(line, word)) {
                let what = format!("{word} in: {}", line.trim());
                breaches.push(Breach { file: source.file.clone(), line: number, what });
            }
        }
    }
    breaches
}

#[test]
fn imports_only_run_downward() {
    none(
        &breaches_of_layers(&source::of_the_program()),
        "main → app → config → {authz, position, admin} → {rooms, guard, identity} → store → room; what both sides need goes \
         further down or into a side module",
    );
}

#[test]
fn side_modules_name_each_other_in_no_circle() {
    let mut names: BTreeMap<String, Vec<(String, String, usize)>> = BTreeMap::new();
    for source in source::of_the_program() {
        for (line, path) in source.imports() {
            if SIDE.contains(&path[0].as_str()) && path[0] != source.module() {
                names.entry(source.module().to_owned()).or_default().push((
                    path[0].clone(),
                    source.file.clone(),
                    line,
                ));
            }
        }
    }
    let mut circles = Vec::new();
    for from in SIDE {
        let mut reached = vec![from];
        let mut next = 0;
        while let Some(module) = reached.get(next).copied() {
            next += 1;
            for (to, file, line) in names.get(module).into_iter().flatten() {
                if to == from {
                    let what = format!("{module} names {from}, which leads back to {module}");
                    circles.push(Breach { file: file.clone(), line: *line, what });
                } else if let Some(to) = SIDE.iter().find(|side| *side == to)
                    && !reached.contains(to)
                {
                    reached.push(to);
                }
            }
        }
    }
    none(&circles, "cut the circle where the lower module knows too much");
}

#[test]
fn only_the_wiring_names_store_backends() {
    let mut breaches = Vec::new();
    for source in source::of_the_program() {
        for (line, path) in source.imports() {
            let backend = path.get(1).is_some_and(|name| BACKENDS.contains(&name.as_str()));
            if path[0] == "store" && backend && !["app", "store"].contains(&source.module()) {
                let what = format!("{} named outside app", path.join("::"));
                breaches.push(Breach { file: source.file.clone(), line, what });
            }
        }
    }
    none(&breaches, "name the trait store::Store; app chooses the backend");
}

#[test]
fn generated_code_comes_in_only_through_pb() {
    let mut breaches = Vec::new();
    for source in source::of_the_program().iter().filter(|source| source.module() != "pb") {
        // The directory stands in a string, which `lines` leaves out.
        for (number, line) in source.raw_lines() {
            if ["OUT_DIR", "include_proto!", "include_file_descriptor_set!"].iter().any(|w| line.contains(w))
            {
                let what = line.trim().to_owned();
                breaches.push(Breach { file: source.file.clone(), line: number, what });
            }
        }
    }
    none(&breaches, "include generated code in src/pb.rs and name it from there");
}

#[test]
fn the_rules_wait_for_nothing_and_know_no_clock() {
    let mut rooms = source::of_the_program();
    rooms.retain(|source| source.module() == "room");
    assert!(!rooms.is_empty(), "src/room is not where it was");
    let forbidden = [
        "async",
        "await",
        "tokio",
        "std::fs",
        // An address is data; a socket is not.
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs",
        "std::os",
        "std::io",
        "std::env",
        "std::thread",
        "std::process",
        "Instant",
        "SystemTime",
    ];
    none(&words(&rooms, &forbidden), "let time and data come in as arguments, and return what is to be done");
}

#[test]
fn every_file_says_first_what_it_is() {
    let mut breaches = Vec::new();
    for source in source::all() {
        let first = source.text.lines().next().unwrap_or_default();
        if first.strip_prefix("//! ").is_none_or(|text| text.trim().is_empty()) {
            let what = format!("begins with {first:?}");
            breaches.push(Breach { file: source.file, line: 1, what });
        }
    }
    none(&breaches, "a first line like `//! What this file is.`");
}

#[test]
fn no_file_has_more_than_400_lines() {
    let mut breaches = Vec::new();
    for source in source::of_the_program() {
        let lines = source.text.lines().count();
        if lines > 400 {
            breaches.push(Breach { file: source.file, line: lines, what: format!("{lines} lines") });
        }
    }
    none(&breaches, "two files with a subject each; long tests go to a file of their own");
}

#[test]
fn no_mod_rs_and_no_names_that_say_nothing() {
    let vague = ["utils", "util", "helpers", "helper", "common", "manager"];
    let mut breaches = Vec::new();
    for source in source::all() {
        for part in source.file.trim_end_matches(".rs").split('/') {
            if vague.contains(&part) || part == "mod" {
                let what = format!("a file called {part}");
                breaches.push(Breach { file: source.file.clone(), line: 1, what });
            }
        }
        for (line, name) in source.declared() {
            if source::name_parts(&name).iter().any(|part| vague.contains(&part.as_str())) {
                breaches.push(Breach { file: source.file.clone(), line, what: format!("the name {name}") });
            }
        }
    }
    none(&breaches, "a name of what it does, in the words of the design; name.rs + name/ instead of mod.rs");
}

#[test]
fn nothing_is_left_to_do_or_printed() {
    let mut sources = source::of_the_program();
    let unfinished = ["todo!", "unimplemented!", "dbg!"];
    let mut breaches = words(&sources, &unfinished);
    sources.retain(|source| source.module() != "main");
    breaches.extend(words(&sources, &["println!", "eprintln!", "print!", "eprint!"]));
    none(&breaches, "finish it; report through tracing, or return it to main");
}

#[test]
fn every_unwrap_says_why_it_cannot_fail() {
    let mut breaches = Vec::new();
    for source in source::of_the_program() {
        let raw: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.lines() {
            if !line.contains(".unwrap()") && !line.contains(".expect(") {
                continue;
            }
            // On the line itself or the three before it: a chain of calls may lie between.
            let near = &raw[number.saturating_sub(4)..number];
            if !near.iter().any(|line| line.contains("// ")) {
                let what = line.trim().to_owned();
                breaches.push(Breach { file: source.file.clone(), line: number, what });
            }
        }
    }
    none(&breaches, "return an error, or say in a comment before it why it cannot fail");
}

#[test]
fn a_breach_of_the_layers_is_found() {
    let found = |file: &str, text: &str| {
        let breaches = breaches_of_layers(&[Source::of(file, text)]);
        breaches.into_iter().map(|breach| (breach.line, breach.what)).collect::<Vec<_>>()
    };
    assert_eq!(
        found("src/authz/request.rs", "use std::io;\nuse crate::{room, position::feed};\n"),
        [(2, "authz names position, which does not lie below it".to_owned())]
    );
    assert_eq!(found("src/store/memory.rs", "fn f() { super::super::app::run(); }").len(), 1);
    assert_eq!(found("src/store.rs", "use crate::listen::Listen;").len(), 1);
    assert_eq!(found("src/telemetry/logs.rs", "use crate::store::Store;").len(), 1);
    assert_eq!(found("src/room/line.rs", "use crate::clock::Clock;").len(), 1);
    assert_eq!(found("src/gadget.rs", "use crate::room::Line;").len(), 1);
    assert_eq!(found("src/main.rs", "use anteroom::app;\nuse anteroom::unheard::Of;").len(), 1);
    for allowed in [
        "use crate::rooms::Rooms; use super::super::store; // use crate::app;",
        r#"const A: &str = "crate::app"; use super::page;"#,
        "#[cfg(test)]\nmod tests {\n    use crate::app;\n}\n",
    ] {
        assert_eq!(found("src/authz/request.rs", allowed), [], "{allowed}");
    }
}
