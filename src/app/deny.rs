//! The deny file: read at the start, and again whenever it changes.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Mistake, deny_file, read_file};
use crate::drain::Shutdown;
use crate::guard::deny::Denials;
use crate::telemetry::metrics::guard::GuardMetrics;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How many mistakes are told at once.
const TOLD: usize = 5;

/// Follows the file until the end. While it cannot be read or understood, the list stays as it was.
///
/// Read whole each time: of a file replaced by renaming, or a link that a `ConfigMap` turns to another file, nothing else
/// tells for sure.
pub(super) async fn follow(
    file: PathBuf,
    denials: Arc<Denials>,
    metrics: GuardMetrics,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    let mut seen: Option<Result<String, String>> = None;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.closing() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let (path, before, list) = (file.clone(), seen.take(), denials.clone());
        // A file system may be slow, and a long list takes its time.
        let looked = tokio::task::spawn_blocking(move || look(&path, before.as_ref(), &list)).await;
        // It panicked, which the log has; the next look begins anew.
        let Ok((read, change)) = looked else { continue };
        match change {
            None => {}
            Some(Ok(entries)) => tracing::info!(file = %file.display(), entries, "the deny list was read"),
            Some(Err(why)) => {
                metrics.deny_file_failed();
                tracing::error!(file = %file.display(), why, "the deny list stays as it was");
            }
        }
        seen = Some(read);
    }
}

/// What a look at the file has brought: what it says, and where that is news, what came of it.
type Looked = (Result<String, String>, Option<Result<usize, String>>);

fn look(file: &Path, before: Option<&Result<String, String>>, denials: &Denials) -> Looked {
    let read = read_plain(file);
    if before == Some(&read) {
        return (read, None);
    }
    let change = read.as_deref().map_err(Clone::clone).and_then(|text| take(text, file, denials));
    (read, Some(change))
}

/// Reads a plain file. Others could keep the reader waiting for ever, and with it the end of the program.
fn read_plain(file: &Path) -> Result<String, String> {
    match std::fs::metadata(file) {
        Ok(found) if !found.is_file() => Err("is no plain file".to_owned()),
        _ => read_file(file).map_err(|mistake| mistake.to_string()),
    }
}

fn take(text: &str, file: &Path, denials: &Denials) -> Result<usize, String> {
    let entries = deny_file::parse(text, file).map_err(|mistakes| first_of(&mistakes))?;
    let count = entries.len();
    denials.file(entries).map_err(|error| error.to_string())?;
    Ok(count)
}

/// The first mistakes, and how many more there are: a line of the log should stay one.
fn first_of(mistakes: &[Mistake]) -> String {
    let mut told: Vec<_> = mistakes.iter().take(TOLD).map(ToString::to_string).collect();
    if mistakes.len() > TOLD {
        told.push(format!("and {} more: anteroom check-config lists them", mistakes.len() - TOLD));
    }
    told.join("; ")
}
