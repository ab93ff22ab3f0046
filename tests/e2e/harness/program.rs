//! A program of the scene: started with its log in a file, ended by its own pid.

// Each program that takes this in uses a part of it.
#![allow(dead_code)]
// What fails here fails a test.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running program. It and what it started end when this is dropped; if the test fails, the end of its log is shown.
pub(crate) struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    leads_group: bool,
}

impl Program {
    /// Starts it; standard output and error are added to `NAME.log` in `artifacts`.
    ///
    /// It stays in the tests' process group, so that a Ctrl-C that ends the tests ends it too.
    pub(crate) fn start(name: &str, command: &mut Command, artifacts: &Path) -> Self {
        Self::spawn(name, command, artifacts, false)
    }

    /// As [`Program::start`], for a program that starts others: they form a group and are ended together.
    pub(crate) fn start_group(name: &str, command: &mut Command, artifacts: &Path) -> Self {
        command.process_group(0);
        Self::spawn(name, command, artifacts, true)
    }

    fn spawn(name: &str, command: &mut Command, artifacts: &Path, leads_group: bool) -> Self {
        let log = artifacts.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {name} ({}): {error}", command.get_program().display())
        });
        Self { name: name.into(), child, log, leads_group }
    }

    /// Fails the test if the program has ended.
    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended with {status}", self.name);
        }
    }

    /// The process' id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM", &self.child.id().to_string());
    }

    /// SIGHUP: read the configuration again.
    pub(crate) fn hang_up(&self) {
        self.signal("HUP", &self.child.id().to_string());
    }

    /// SIGKILL, and waits for its end.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Waits for its end; `None` if it still runs after `within`.
    pub(crate) async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Through the shell's builtin: the standard library can only send SIGKILL.
    fn signal(&self, signal: &str, to: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {to}")])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        if !sent.success() {
            eprintln!("{}: no process {to} to send SIG{signal} to", self.name);
        }
    }

    fn end(&mut self) {
        // The group's id is the pid of the child, which is ours until it has been waited for: nobody else can be hit.
        if matches!(self.child.try_wait(), Ok(None)) {
            if self.leads_group {
                self.signal("KILL", &format!("-{}", self.child.id()));
            }
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let text = std::fs::read(&self.log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- the end of {}:\n{}\n---", self.log.display(), last.join("\n"));
        }
    }
}
