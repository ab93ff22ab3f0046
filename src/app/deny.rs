//! The deny file: read at the start, and again whenever it changes.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::config::{deny_file, read_file};
use crate::drain::Shutdown;
use crate::guard::deny::Denials;
use crate::telemetry::metrics::guard::GuardMetrics;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(1);

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
        let path = file.clone();
        // A file system may be slow.
        let Ok(read) =
            tokio::task::spawn_blocking(move || read_file(&path).map_err(|mistake| mistake.to_string()))
                .await
        else {
            continue;
        };
        if seen.as_ref() == Some(&read) {
            continue;
        }
        match read.as_deref().map_err(Clone::clone).and_then(|text| take(text, &file, &denials)) {
            Ok(entries) => tracing::info!(file = %file.display(), entries, "the deny list was read"),
            Err(why) => {
                metrics.deny_file_failed();
                tracing::error!(file = %file.display(), why, "the deny list stays as it was");
            }
        }
        seen = Some(read);
    }
}

fn take(text: &str, file: &Path, denials: &Denials) -> Result<usize, String> {
    let entries = deny_file::parse(text, file)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let count = entries.len();
    denials.file(entries).map_err(|error| error.to_string())?;
    Ok(count)
}
