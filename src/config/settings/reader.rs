//! Reads one setting after the other, and notes what is wrong with it.

use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Purpose, Role, StoreChoice};
use crate::admin::AdminToken;
use crate::config::cli::Flags;
use crate::config::{Grade, Mistake, token_file, yaml};
use crate::config::{deny_file, identity_file, keys};
use crate::identity::settings::IdentitySettings;
use crate::listen::Listen;
use crate::page::Page;
use crate::room::deny::Entry;
use crate::room::gcra::Quota;
use crate::room::policy::quoted;
use crate::room::token::Key;
use crate::routes::Routes;
use crate::store::target::Target;
use crate::telemetry::logs::{self, LogsError};

/// A setting's mistake, under its flag and variable.
pub(super) fn wrong(flag: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Mistake {
    let twin = flag.replace('-', "_").to_uppercase();
    Mistake {
        file: None,
        line: None,
        key: format!("--{flag} (ANTEROOM_{twin})"),
        problem: problem.into(),
        remedy: remedy.into(),
        grade: Grade::Mistake,
    }
}

/// Reads one setting after the other. After a mistake it goes on with a stand-in that never gets out.
pub(super) struct Reader {
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<Mistake>,
}

impl Reader {
    pub(super) fn wrong(&mut self, flag: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.mistakes.push(wrong(flag, problem, remedy));
    }

    pub(super) fn duration(&mut self, flag: &str, text: &str, bounds: RangeInclusive<Duration>) -> Duration {
        let parsed = humantime::parse_duration(text.trim());
        if let Ok(duration) = parsed
            && bounds.contains(&duration)
        {
            return duration;
        }
        let what = if parsed.is_ok() { "is out of bounds" } else { "is no duration" };
        let [low, high] = [*bounds.start(), *bounds.end()].map(humantime::format_duration);
        self.wrong(
            flag,
            format!("{} {what}", quoted(text)),
            format!("write a duration from {low} to {high}"),
        );
        *bounds.start()
    }

    /// Without a word one for each core.
    pub(super) fn threads(&mut self, text: Option<&str>) -> NonZero<usize> {
        const MOST: usize = 256;
        let counted = text.map(|text| self.count("threads", text, MOST));
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
        NonZero::new(counted.unwrap_or_else(cores)).unwrap_or(NonZero::<usize>::MIN)
    }

    pub(super) fn count(&mut self, flag: &str, text: &str, most: usize) -> usize {
        self.count_from(1, flag, text, most)
    }

    pub(super) fn count_from(&mut self, least: usize, flag: &str, text: &str, most: usize) -> usize {
        let parsed = text.trim().parse().ok().filter(|count| (least..=most).contains(count));
        parsed.unwrap_or_else(|| {
            let problem = format!("{} cannot be understood", quoted(text));
            self.wrong(flag, problem, format!("write a whole number from {least} to {most}"));
            least
        })
    }

    /// Without a word there is no limit.
    pub(super) fn quota(&mut self, flag: &str, text: Option<&str>) -> Option<Quota> {
        let text = text?;
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            self.wrong(flag, format!("{} cannot be understood", quoted(text)), Quota::RULE);
        }
        parsed
    }

    pub(super) fn choice<T: Copy>(&mut self, flag: &str, text: &str, choices: &[(&str, T)]) -> T {
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text.trim()) {
            return *choice;
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let problem = format!("{} is no choice", quoted(text));
        self.wrong(flag, problem, format!("write one of {}", names.join(", ")));
        choices[0].1
    }

    pub(super) fn listen(&mut self, flag: &str, text: &str) -> Listen {
        text.trim().parse().unwrap_or_else(|reason: String| {
            let remedy = "write an IP address and port, like 127.0.0.1:8081, or unix:/path/of/socket";
            self.wrong(flag, format!("{}: {reason}", quoted(text)), remedy);
            Listen::Unix(PathBuf::new())
        })
    }

    pub(super) fn store(&mut self, flags: &Flags, role: Role, purpose: Purpose) -> StoreChoice {
        let text = flags.store.trim();
        if text != "memory" {
            return self.shared_store(text, flags);
        }
        if role != Role::Serve {
            let problem = "memory is not shared: a role alone would have the rooms to itself";
            self.wrong("store", problem, "run anteroom serve, or name a Redis store");
        }
        let state_dir = flags.state_dir.clone();
        if let Some(dir) = &state_dir
            && let Err(error) = if purpose == Purpose::Run { prepare(dir) } else { look(dir) }
        {
            let problem = format!("{} cannot be used: {error}", quoted(&dir.display().to_string()));
            self.wrong("state-dir", problem, "name a directory that this user may write to");
        }
        StoreChoice::Memory { state_dir }
    }

    /// A store that several processes share, and what they must have in common for it.
    fn shared_store(&mut self, text: &str, flags: &Flags) -> StoreChoice {
        let target = match Target::parse(text) {
            Ok(target) => target,
            // The address may carry a password: only what the parser says of it is shown.
            Err(error) => {
                let (problem, remedy) = error
                    .split_once("; ")
                    .unwrap_or((&error, "write redis://host:port or redis-cluster://host:port,host:port"));
                self.wrong("store", problem, format!("{remedy}; or memory, without a server"));
                return StoreChoice::Memory { state_dir: None };
            }
        };
        if flags.state_dir.is_some() {
            let problem = "is where the memory store is kept; with this --store nothing is written there";
            self.wrong("state-dir", problem, "leave it out, or write --store memory");
        }
        if flags.keys.is_none() {
            let problem =
                "is missing: a key made here would void the tickets of every other process with this --store";
            let remedy = "make one keys file and give it to all of them (docs/configuration.md, Keys file)";
            self.wrong("keys", problem, remedy);
        }
        StoreChoice::Redis(target)
    }

    pub(super) fn routes(&mut self, file: Option<&Path>, max_rooms: usize) -> Routes {
        let Some(file) = file else { return Routes::default() };
        let read = yaml::read_file(file).map_err(|mistake| vec![mistake]);
        match read.and_then(|text| Routes::parse(&text, file)) {
            Ok(routes) => {
                let rooms = routes.policies().len();
                if rooms > max_rooms {
                    let problem = format!("{max_rooms} is less than the {rooms} rooms of the rooms file");
                    self.wrong("max-rooms", problem, "allow at least as many");
                }
                routes
            }
            Err(found) => {
                self.mistakes.extend(found);
                Routes::default()
            }
        }
    }

    pub(super) fn deny(&mut self, file: Option<&Path>) -> Option<(PathBuf, Vec<Entry>)> {
        let file = file?;
        let read = yaml::read_file(file).map_err(|mistake| vec![mistake]);
        let entries = read.and_then(|text| deny_file::parse(&text, file));
        entries.map_err(|found| self.mistakes.extend(found)).ok().map(|entries| (file.to_owned(), entries))
    }

    pub(super) fn keys(&mut self, file: Option<&Path>) -> Option<Vec<Key>> {
        let file = file?;
        self.warnings.extend(keys::exposed(file));
        let read = yaml::read_file(file).map_err(|mistake| vec![mistake]);
        read.and_then(|text| keys::parse(&text, file)).map_err(|found| self.mistakes.extend(found)).ok()
    }

    pub(super) fn identity(&mut self, file: Option<&Path>) -> Option<IdentitySettings> {
        let file = file?;
        let read = yaml::read_file(file).map_err(|mistake| vec![mistake]);
        let read = read.and_then(|text| identity_file::parse(&text, file));
        read.map_err(|found| self.mistakes.extend(found)).ok()
    }

    pub(super) fn admin_token(&mut self, file: Option<&Path>) -> Option<AdminToken> {
        let file = file?;
        self.warnings.extend(keys::exposed(file));
        token_file::read(file).map_err(|mistake| self.mistakes.push(mistake)).ok().map(|(token, _)| token)
    }

    pub(super) fn page(&mut self, file: Option<&Path>) -> Page {
        let Some(file) = file else { return Page::builtin() };
        match yaml::read_file(file).map(|text| Page::from_template(&text)) {
            Ok(Ok(page)) => return page,
            Ok(Err(error)) => {
                let problem = format!("{}: {error}", file.display());
                self.wrong("page", problem, "docs/page.md says what a template may hold");
            }
            Err(unreadable) => self.mistakes.push(unreadable),
        }
        Page::builtin()
    }

    pub(super) fn domain(&mut self, text: &str) -> Option<String> {
        let domain = text.trim().trim_start_matches('.').to_ascii_lowercase();
        let label =
            |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if domain.len() <= 253 && domain.split('.').all(label) {
            return Some(domain);
        }
        self.wrong(
            "cookie-domain",
            format!("{} is no domain", quoted(text)),
            "write a name like example.com",
        );
        None
    }

    pub(super) fn log(&mut self, text: &str) -> String {
        match logs::filter(text) {
            Ok(_) if !text.trim().is_empty() => {}
            Err(LogsError::Audit { .. }) => {
                let problem = format!("{} names anteroom::audit, and has no effect on it", quoted(text));
                self.wrong("log", problem, "leave it out: audit lines are written whatever the filter");
            }
            _ => {
                let remedy =
                    "write error, warn, info, debug, trace, or directives like info,anteroom::authz=debug";
                self.wrong("log", format!("{} cannot be understood", quoted(text)), remedy);
            }
        }
        text.to_owned()
    }

    pub(super) fn endpoint(&mut self, text: &str) -> Option<String> {
        let url = text.trim().parse::<http::Uri>().ok().filter(|url| {
            let plain = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            url.scheme_str() == Some("http") && plain
        });
        if url.is_none() {
            // The URL itself may carry a password and is not shown.
            let remedy =
                "write http://host:port, without user and password; TLS is left to a local collector";
            self.wrong("otlp-endpoint", "cannot be used", remedy);
        }
        url.map(|_| text.trim().to_owned())
    }
}

/// Makes the state directory and proves that files can be written there.
fn prepare(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let probe = dir.join(format!(".writable-{}", std::process::id()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(&probe)
}

/// Whether the state directory could be made or is one, without touching anything.
fn look(dir: &Path) -> io::Result<()> {
    match std::fs::metadata(dir) {
        Ok(found) if !found.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
