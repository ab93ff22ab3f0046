//! A CPU profile of the running process, as a flame graph or as collapsed stacks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};

use crate::drain::Shutdown;

/// Where it is asked for.
pub(super) const PATH: &str = "/debug/profile";

/// Samples a second of CPU time: not a round number, so that it does not run in step with timers.
const FREQUENCY: i32 = 499;
const DEFAULT_SECONDS: u64 = 10;
const MAX_SECONDS: u64 = 60;

/// Why there is no profile, as an answer.
type Refusal = (StatusCode, String);

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Wish {
    length: Duration,
    collapsed: bool,
}

/// Samples the stacks of all threads for a time, one profile at once; `?seconds=` 1 to 60 (10), `?format=` svg (a
/// flame graph, the default) or text (collapsed stacks, a line each with its count).
///
/// The stacks are read in a signal handler, by unwind tables and without allocating, so that it may be asked for in
/// production. It costs about a percent of the CPU that is in use.
pub(super) async fn profile(State(shutdown): State<Shutdown>, RawQuery(query): RawQuery) -> Response {
    let wish = match Wish::read(query.as_deref().unwrap_or_default()) {
        Ok(wish) => wish,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    // Off the workers: the first one reads the symbols of the program.
    let sampling = match off_the_workers(begin).await {
        Ok(sampling) => sampling,
        Err(refusal) => return refusal.into_response(),
    };
    tokio::select! {
        () = tokio::time::sleep(wish.length) => {}
        // What there is until then; a drain does not wait for it.
        () = shutdown.closing() => {}
    }
    let drawn = off_the_workers(move || {
        let report = sampling.report().build().map_err(|error| failed(&error))?;
        drop(sampling);
        wish.answer(&report).map_err(|error| failed(&error))
    });
    drawn.await.unwrap_or_else(IntoResponse::into_response)
}

async fn off_the_workers<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|lost| {
        tracing::error!(error = %lost, "a CPU profile broke off");
        Err((StatusCode::INTERNAL_SERVER_ERROR, "the profile broke off; see the log\n".to_owned()))
    })
}

fn begin() -> Result<ProfilerGuard<'static>, Refusal> {
    match ProfilerGuardBuilder::default().frequency(FREQUENCY).build() {
        Err(pprof::Error::Running) => {
            Err((StatusCode::CONFLICT, "a profile is being taken; ask again when it is done\n".to_owned()))
        }
        begun => begun.map_err(|error| failed(&error)),
    }
}

fn failed(error: &pprof::Error) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("no profile could be taken: {error}\n"))
}

impl Wish {
    fn read(query: &str) -> Result<Self, String> {
        let mut wish = Self { length: Duration::from_secs(DEFAULT_SECONDS), collapsed: false };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                ("seconds", text) => {
                    let seconds = text.parse().ok().filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
                    let seconds =
                        seconds.ok_or_else(|| format!("seconds is a number from 1 to {MAX_SECONDS}\n"))?;
                    wish.length = Duration::from_secs(seconds);
                }
                ("format", "svg") => wish.collapsed = false,
                ("format", "text") => wish.collapsed = true,
                ("format", _) => return Err("format is svg or text\n".to_owned()),
                _ => return Err("only seconds and format can be asked for\n".to_owned()),
            }
        }
        Ok(wish)
    }

    fn answer(&self, report: &Report) -> Result<Response, pprof::Error> {
        if self.collapsed {
            return Ok(collapsed(report).into_response());
        }
        if report.data.is_empty() {
            let why = "the process used no CPU in that time: there is nothing to draw\n";
            return Ok((StatusCode::NOT_FOUND, why).into_response());
        }
        let mut picture = Vec::new();
        report.flamegraph(&mut picture)?;
        Ok(([(header::CONTENT_TYPE, "image/svg+xml")], picture).into_response())
    }
}

/// `thread;outermost;…;innermost count`, in order: what flame graph tools take.
fn collapsed(report: &Report) -> String {
    let mut stacks: BTreeMap<String, isize> = BTreeMap::new();
    for (frames, count) in &report.data {
        let names = frames.frames.iter().rev().flat_map(|inlined| inlined.iter().rev());
        let stack = names.fold(frames.thread_name.clone(), |stack, symbol| stack + ";" + &symbol.name());
        *stacks.entry(stack).or_default() += count;
    }
    stacks.iter().fold(String::new(), |mut text, (stack, count)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{stack} {count}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_understood_or_refused() {
        let wish = |seconds, collapsed| Ok(Wish { length: Duration::from_secs(seconds), collapsed });
        assert_eq!(Wish::read(""), wish(10, false));
        assert_eq!(Wish::read("seconds=60&format=text"), wish(60, true));
        assert_eq!(Wish::read("format=svg&seconds=1"), wish(1, false));
        for wrong in ["seconds=0", "seconds=61", "seconds=", "seconds=1.5", "format=pdf", "second=3"] {
            assert!(Wish::read(wrong).unwrap_err().ends_with('\n'), "{wrong}");
        }
    }
}
