//! A server as a process of its own, and what the system tells of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Why a server is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// It does not start.
    #[error("{name} cannot be started: {error}")]
    Start { name: String, error: io::Error },
    /// It says something else than expected.
    #[error("{name} should say {expected}, and said {said:?}; the end of its log:\n{log}")]
    Said { name: String, expected: &'static str, said: String, log: String },
}

/// A running server; it ends with this.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: std::path::PathBuf,
    to: Option<ChildStdin>,
    from: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this binary again as `serve PEER`, with its standard error in `NAME.log` in `files`.
    pub(crate) fn serve(
        name: &str,
        core: Option<usize>,
        peer: &[OsString],
        files: &Path,
    ) -> Result<Self, ProcessError> {
        let failed = |error| ProcessError::Start { name: name.to_owned(), error };
        let log = files.join(format!("{name}.log"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("serve");
        if let Some(core) = core {
            command.arg("--core").arg(core.to_string());
        }
        command.args(peer).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(&log).map_err(failed)?);
        // A Ctrl-C is for the harness alone, which ends its servers in order.
        command.process_group(0);
        // Only what is stated here: a variable left in the shell must not change what is measured.
        for (variable, _) in std::env::vars_os().filter(|(v, _)| v.to_string_lossy().starts_with("ANTEROOM_"))
        {
            command.env_remove(variable);
        }
        let mut child = command.spawn().map_err(failed)?;
        let (to, from) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Ok(Self { name: name.to_owned(), child, log, to, from })
    }

    /// Where it says that it listens.
    pub(crate) fn address(&mut self) -> Result<SocketAddr, ProcessError> {
        let line = self.line();
        line.parse().map_err(|_| self.said("where it listens", line))
    }

    /// How often it has asked for memory so far.
    pub(crate) fn allocations(&mut self) -> Result<u64, ProcessError> {
        if let Some(to) = &mut self.to {
            // A process that does not read shows below.
            let _ = writeln!(to, "count").and_then(|()| to.flush());
        }
        let line = self.line();
        line.parse().map_err(|_| self.said("how often it asked for memory", line))
    }

    /// Whether it runs still.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it has written.
    pub(crate) fn log(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        if let Some(from) = &mut self.from {
            // A failure is an empty line, which nobody expects.
            let _ = from.read_line(&mut line);
        }
        line.trim_end().to_owned()
    }

    fn said(&self, expected: &'static str, said: String) -> ProcessError {
        ProcessError::Said { name: self.name.clone(), expected, said, log: self.log() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process had of its cores so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Time {
    /// It ran.
    pub(crate) cpu: Duration,
    /// It could have run, and somebody else did.
    pub(crate) waited: Duration,
}

/// `None` where the system does not tell (it is Linux that does).
pub(crate) fn time(pid: u32) -> Option<Time> {
    let mut sum = Time::default();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut nanos = text.split_whitespace().map(|nanos| nanos.parse().map(Duration::from_nanos).ok());
        sum.cpu += nanos.next()??;
        sum.waited += nanos.next()??;
    }
    Some(sum)
}

/// The resident memory of a process, bytes; `None` where the system does not tell.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1_024)
}
