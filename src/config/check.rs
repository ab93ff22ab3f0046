//! `anteroom check-config`: finds mistakes in settings, rooms, keys and identity files and Envoy configuration
//! before they are rolled out. All mistakes of all files in one run.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use envoy::Walk;
use survey::Survey;

use super::cli::{CheckArgs, CheckFormat};
use super::rooms_file::RoomsFile;
use super::settings::{self, Purpose, Role};
use super::yaml::{self, Node};
use super::{Grade, Mistake, Report, deny_file, identity_file, keys};
use crate::room::policy::unknown_key;

mod envoy;
mod survey;

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Rooms,
    Keys,
    Deny,
    Identity,
    Envoy,
    Kubernetes,
}

/// What was found in a file.
#[derive(Debug, serde::Serialize)]
struct Summary {
    file: String,
    kind: Option<Kind>,
    /// Routes of Envoy, keys of a keys file, or issuers of an identity file.
    count: usize,
    rooms: BTreeSet<String>,
    /// Maps of context extensions without any key of ours: another service's.
    other_services: usize,
}

/// Checks files and settings, and writes what was found.
///
/// `env` is the environment (`std::env::vars_os()`); `colour` allows terminal colours. Answers the exit status:
/// 0 all is right, 1 there are mistakes, 2 a file cannot be read or is no YAML. Fails only if `out` does.
pub fn run(
    args: &CheckArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    colour: bool,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let mut survey = Survey::default();
    let mut summaries = Vec::new();
    // A set: the same mistake of a virtual host may be met on each of its routes.
    let mut found: BTreeSet<Mistake> = BTreeSet::new();
    for file in &args.files {
        let (summary, mistakes) = check_file(file, &mut survey);
        summaries.push(summary);
        found.extend(mistakes);
    }
    if let Some(rooms) =
        args.flags.rooms.as_deref().filter(|rooms| !args.files.iter().any(|file| file == rooms))
        && let Ok(text) = yaml::read_file(rooms)
    {
        // Its mistakes are found with the settings' below.
        let _mistakes = survey.take_rooms(RoomsFile::read(&text, rooms), rooms);
    }
    match settings::read(&args.flags, Role::Serve, Purpose::Check, env) {
        Ok(settings) => found.extend(settings.warnings),
        Err(mistakes) => found.extend(mistakes),
    }
    found.extend(survey.finish());
    let status = match found.iter().map(|mistake| mistake.grade).max() {
        Some(Grade::Unreadable) => 2,
        Some(Grade::Mistake) => 1,
        Some(Grade::Warning) | None => 0,
    };
    match args.format {
        CheckFormat::Human => write_human(&summaries, &found, colour, out)?,
        CheckFormat::Json => {
            let report = serde_json::json!({"status": status, "mistakes": found, "files": summaries});
            writeln!(out, "{report:#}")?;
        }
    }
    Ok(status)
}

fn check_file(file: &Path, survey: &mut Survey) -> (Summary, Vec<Mistake>) {
    let mut summary = Summary {
        file: file.display().to_string(),
        kind: None,
        count: 0,
        rooms: BTreeSet::new(),
        other_services: 0,
    };
    let mut report = Report::new(file);
    let text = match yaml::read_file(file) {
        Ok(text) => text,
        Err(unreadable) => return (summary, vec![unreadable]),
    };
    // A deny file is read once more for its entries, which may be many: here only its outline is held.
    let mut pass_over = |_: usize, _: Node, _: &mut Report| Ok(());
    let documents = match yaml::parse_items(&text, &mut report, deny_file::LIST, &mut pass_over) {
        Ok(documents) => documents,
        Err(unreadable) => return (summary, vec![unreadable]),
    };
    summary.kind = kind_of(&documents);
    match summary.kind {
        None => {
            report.mistakes.clear();
            say_unknown(&documents, &mut report);
        }
        Some(Kind::Rooms) => {
            let read = RoomsFile::read(&text, file);
            summary.rooms.clone_from(&read.named);
            report.mistakes = survey.take_rooms(read, file);
        }
        Some(Kind::Keys) => {
            report.mistakes = match keys::parse(&text, file) {
                Ok(keys) => {
                    summary.count = keys.len();
                    Vec::new()
                }
                Err(mistakes) => mistakes,
            };
            report.mistakes.extend(keys::exposed(file));
        }
        Some(Kind::Deny) => {
            report.mistakes = match deny_file::parse(&text, file) {
                Ok(entries) => {
                    summary.count = entries.len();
                    Vec::new()
                }
                Err(mistakes) => mistakes,
            };
        }
        Some(Kind::Identity) => {
            report.mistakes = match identity_file::parse(&text, file) {
                Ok(settings) => {
                    summary.count = settings.issuers.len();
                    Vec::new()
                }
                Err(mistakes) => mistakes,
            };
        }
        Some(Kind::Envoy | Kind::Kubernetes) => {
            let mut walk = Walk::new(&mut report, survey);
            for document in &documents {
                walk.document(document);
            }
            summary.count = walk.routes;
            summary.other_services = walk.other_services;
            summary.rooms = walk.rooms;
        }
    }
    (summary, report.mistakes)
}

/// Top-level keys of Envoy's bootstrap, of a discovery response, of single resources and of a config dump, in
/// both spellings.
const ENVOY_KEYS: [&str; 21] = [
    "static_resources",
    "staticResources",
    "dynamic_resources",
    "dynamicResources",
    "resources",
    "configs",
    "virtual_hosts",
    "virtualHosts",
    "route_config",
    "routeConfig",
    "routes",
    "http_filters",
    "httpFilters",
    "filter_chains",
    "filterChains",
    "listeners",
    "scoped_route_configurations_list",
    "typed_per_filter_config",
    "typedPerFilterConfig",
    "check_settings",
    "context_extensions",
];

fn kind_of(documents: &[Node]) -> Option<Kind> {
    let has =
        |keys: &[&str]| documents.iter().any(|document| keys.iter().any(|key| document.get(key).is_some()));
    let kubernetes =
        documents.iter().any(|root| root.get("apiVersion").is_some() && root.get("kind").is_some());
    if kubernetes {
        Some(Kind::Kubernetes)
    } else if has(&ENVOY_KEYS) {
        Some(Kind::Envoy)
    } else if has(&["rooms"]) {
        Some(Kind::Rooms)
    } else if has(&["keys"]) {
        Some(Kind::Keys)
    } else if has(&[deny_file::LIST]) {
        Some(Kind::Deny)
    } else if has(&["issuers"]) {
        Some(Kind::Identity)
    } else {
        None
    }
}

fn say_unknown(documents: &[Node], report: &mut Report) {
    let slip = documents.iter().flat_map(Node::entries).find_map(|entry| {
        let mistake = unknown_key(
            &entry.key,
            &["rooms", "keys", "deny", "issuers", "static_resources", "virtual_hosts"],
        );
        mistake.remedy.starts_with("did you mean").then_some((entry, mistake))
    });
    match slip {
        Some((entry, mistake)) => {
            report.add(entry.line, yaml::Path::Root.key(&entry.key), mistake.problem, mistake.remedy);
        }
        None => report.add(
            documents.first().map_or(1, |root| root.line),
            "",
            "is neither a rooms, keys, deny or identity file, nor Envoy or Kubernetes configuration",
            "a rooms file begins with rooms:, a keys file with keys:, a deny file with deny:, an identity file with \
             issuers:, Envoy's with static_resources:, resources: or virtual_hosts:",
        ),
    }
}

fn write_human(
    summaries: &[Summary],
    found: &BTreeSet<Mistake>,
    colour: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (bold, yellow, plain) = if colour { ("\x1b[1m", "\x1b[33m", "\x1b[0m") } else { ("", "", "") };
    for mistake in found {
        let location = mistake.location();
        if !location.is_empty() {
            write!(out, "{bold}{location}{plain}: ")?;
        }
        if mistake.grade == Grade::Warning {
            write!(out, "{yellow}warning{plain}: ")?;
        }
        writeln!(out, "{}", mistake.message())?;
    }
    let wrong: Vec<_> = found.iter().filter(|mistake| mistake.grade > Grade::Warning).collect();
    for summary in summaries {
        if !wrong.iter().any(|mistake| mistake.file.as_deref() == Some(&summary.file)) {
            writeln!(out, "{}: {}", summary.file, summary.describe())?;
        }
    }
    if !wrong.iter().any(|mistake| mistake.file.is_none()) {
        writeln!(out, "settings: fine")?;
    }
    match wrong.len() {
        0 => Ok(()),
        1 => writeln!(out, "1 mistake"),
        many => writeln!(out, "{many} mistakes"),
    }
}

impl Summary {
    fn describe(&self) -> String {
        // Long lists are for --format json.
        const SHOWN: usize = 20;
        let names: Vec<&str> = self.rooms.iter().map(String::as_str).take(SHOWN).collect();
        let more = self.rooms.len().saturating_sub(SHOWN);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let rooms = match self.rooms.len() {
            0 => "no rooms".to_owned(),
            1 => format!("room {}", names[0]),
            _ => format!("rooms {}{rest}", names.join(", ")),
        };
        let plural =
            |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let other = match self.other_services {
            0 => String::new(),
            n => format!("; {} for another service", plural(n, "map of context extensions")),
        };
        match self.kind {
            Some(Kind::Keys) => format!("fine, {}", plural(self.count, "key")),
            Some(Kind::Deny) if self.count == 1 => "fine, 1 entry".to_owned(),
            Some(Kind::Deny) => format!("fine, {} entries", self.count),
            Some(Kind::Identity) => format!("fine, {}", plural(self.count, "issuer")),
            Some(Kind::Rooms) => format!("fine, {rooms}"),
            _ => format!("fine, {} with {rooms}{other}", plural(self.count, "route")),
        }
    }
}
