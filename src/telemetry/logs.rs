//! Logs: set up once per process, to standard error; and the means to say each mistake only once.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One readable line per event; coloured only on a terminal, and not where `NO_COLOR` is set.
    Human,
    /// One JSON object per event.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("write auto, human or json".to_owned()),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter cannot be understood.
    #[error(
        "log filter {filter:?} cannot be understood: {source}; write a level or target=level pairs, \
         like info or info,anteroom=debug"
    )]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The filter names the audit lines.
    #[error(
        "log filter {filter:?} names {AUDIT}, whose lines are written whatever the filter: leave that directive out"
    )]
    Audit {
        /// The filter as given.
        filter: String,
    },
    /// Something else already receives this process's logs.
    #[error("logging cannot be set up twice in one process: {0}; call it once, from main")]
    AlreadySetUp(#[from] TryInitError),
}

/// What goes before the filter given: what the Redis client warns of, the store says itself, once and in our words.
const BEFORE: &str = "fred=error";
/// The target of what operators do to rooms, and of who is turned away.
const AUDIT: &str = "anteroom::audit";

/// The filter that these directives make. Audit lines are written whatever they say, so none of them may name these:
/// it would have no effect.
pub fn filter(directives: &str) -> Result<EnvFilter, LogsError> {
    if directives.split(',').any(|directive| directive.trim_start().starts_with(AUDIT)) {
        return Err(LogsError::Audit { filter: directives.to_owned() });
    }
    EnvFilter::builder()
        // The last word, and the most exact one, as none above it names the same target.
        .parse(format!("{BEFORE},{directives},{AUDIT}=info"))
        .map_err(|source| LogsError::Filter { filter: directives.to_owned(), source })
}

/// Whether output may be coloured: on a terminal, unless `NO_COLOR` is set and not empty (no-color.org).
pub fn is_colour_welcome(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Sets up logging to standard error for the whole process.
///
/// `filter` is a level or a list of `target=level`, separated by commas (`info,anteroom=debug`).
pub fn set_up(format: LogFormat, filter: &str) -> Result<(), LogsError> {
    let parsed = self::filter(filter)?;
    let terminal = std::io::stderr().is_terminal();
    let colour = is_colour_welcome(terminal);
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(parsed);
    match format {
        LogFormat::Auto if terminal => lines.with_ansi(colour).finish().try_init()?,
        LogFormat::Human => lines.with_ansi(colour).finish().try_init()?,
        // Flattened, so that fields can be searched for without knowing the library's nesting.
        LogFormat::Auto | LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).finish().try_init()?;
        }
    }
    Ok(())
}

/// Tells a mistake seen for the first time from its repetitions, so that each gets one log line.
///
/// It remembers a bounded number of distinct mistakes. Past that, new ones are suppressed too: a flood of
/// ever new mistakes must not become a flood of log lines. The metrics go on counting all of them.
#[derive(Debug)]
pub struct OncePer {
    hasher: RandomState,
    // Hashes instead of the keys: what is remembered stays small however long the keys are.
    seen: Mutex<HashSet<u64>>,
    suppressed: AtomicU64,
}

impl OncePer {
    /// How many distinct mistakes are remembered.
    pub const MAX_KEYS: usize = 1_024;

    /// Remembers nothing yet.
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), seen: Mutex::new(HashSet::new()), suppressed: AtomicU64::new(0) }
    }

    /// Whether this mistake is worth a log line: the first time it is seen, while there is room to remember it.
    pub fn is_news(&self, mistake: impl Hash) -> bool {
        let hash = self.hasher.hash_one(mistake);
        let mut seen = self.seen.lock();
        let news = !seen.contains(&hash) && seen.len() < Self::MAX_KEYS && seen.insert(hash);
        drop(seen);
        if !news {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        news
    }

    /// How many times the answer was no.
    pub fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }
}

impl Default for OncePer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_news_once() {
        let once = OncePer::new();
        assert!(once.is_news(("shop", "capacty")));
        assert!(!once.is_news(("shop", "capacty")));
        assert!(once.is_news(("shop", "brust")));
        assert_eq!(once.suppressed(), 1);
    }

    #[test]
    fn a_flood_of_new_mistakes_is_bounded() {
        let once = OncePer::new();
        let logged = (0..10_000).filter(|n| once.is_news(n)).count();
        assert_eq!(logged, OncePer::MAX_KEYS);
        assert_eq!(once.suppressed(), 10_000 - 1_024);
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_named() {
        let error = set_up(LogFormat::Json, "anteroom=loud").unwrap_err().to_string();
        assert!(error.contains("\"anteroom=loud\"") && error.contains("info,anteroom=debug"), "{error}");
    }

    #[test]
    fn what_the_redis_client_warns_of_is_logged_only_where_that_is_asked_for() {
        for (directives, expected) in [("info", false), ("debug", false), ("info,fred=warn", true)] {
            let lines = tracing_subscriber::fmt()
                .with_writer(std::io::sink)
                .with_env_filter(filter(directives).unwrap());
            tracing::subscriber::with_default(lines.finish(), || {
                assert_eq!(
                    tracing::enabled!(target: "fred::router", tracing::Level::WARN),
                    expected,
                    "{directives}"
                );
                assert!(tracing::enabled!(target: "fred::router", tracing::Level::ERROR), "{directives}");
            });
        }
    }

    #[test]
    fn what_operators_do_is_logged_whatever_the_filter() {
        for directives in ["error", "off", "anteroom=error", "anteroom::a=off,info"] {
            let lines = tracing_subscriber::fmt()
                .with_writer(std::io::sink)
                .with_env_filter(filter(directives).unwrap());
            tracing::subscriber::with_default(lines.finish(), || {
                assert!(tracing::enabled!(target: "anteroom::audit", tracing::Level::INFO), "{directives}");
            });
        }
        for directives in ["anteroom::audit=off", "error, anteroom::audit=warn", "anteroom::audit"] {
            let refused = filter(directives).unwrap_err().to_string();
            assert!(refused.contains("whatever the filter") && refused.contains(directives), "{refused}");
        }
    }

    #[test]
    fn setting_up_twice_is_an_error_not_a_panic() {
        // Another test of this process may have been first; the second call here never is.
        let _ = set_up(LogFormat::Json, "off");
        assert!(matches!(set_up(LogFormat::Human, "off"), Err(LogsError::AlreadySetUp(_))));
    }

    #[test]
    fn formats_are_read_by_name() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("Fancy".parse::<LogFormat>(), Err("write auto, human or json".to_owned()));
    }
}
