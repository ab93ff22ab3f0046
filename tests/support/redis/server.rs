//! One redis-server of our own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::resp::{self, Reply};
use super::{SOON, ports, start};

/// How long a command of a test may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A redis-server on a port of its own, without persistence. It ends when this is dropped; if the test fails, the
/// end of its log is shown.
pub(crate) struct Server {
    port: u16,
    flags: Vec<String>,
    child: Mutex<Option<Child>>,
    files: tempfile::TempDir,
}

impl Server {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with further flags (`["--maxmemory", "8mb"]`).
    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        // Between the choice of a port and its use somebody else may take it.
        for _ in 0..5 {
            let server = Self::at(ports::free(), flags);
            if server.begin().await {
                return server;
            }
        }
        panic!("redis-server does not start; is it installed (Debian: apt-get install redis-server)?");
    }

    /// A server that is not started yet: `restart` starts it.
    pub(crate) fn absent() -> Self {
        Self::at(ports::free(), &[])
    }

    fn at(port: u16, flags: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let flags = flags.iter().map(ToString::to_string).collect();
        Self { port, flags, child: Mutex::new(None), files }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What `--store` takes.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The process' id; panics if none runs.
    pub(crate) fn pid(&self) -> u32 {
        self.with_child(|child| child.as_ref().expect("the server was killed and not started again").id())
    }

    /// Whether the process was started and not killed since; a stopped one runs.
    pub(crate) fn runs(&self) -> bool {
        self.with_child(|child| child.is_some())
    }

    /// `kill -9`, without a chance to say goodbye; waits for its end.
    pub(crate) fn kill9(&self) {
        if let Some(mut child) = self.with_child(Option::take) {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGSTOP: it is there, connections are taken, and nothing is answered.
    pub(crate) fn stop(&self) {
        signal("STOP", self.pid());
    }

    /// SIGCONT.
    pub(crate) fn cont(&self) {
        signal("CONT", self.pid());
    }

    /// Starts it again at the same port, empty, and waits until it answers.
    pub(crate) async fn restart(&self) {
        self.kill9();
        let deadline = Instant::now() + SOON;
        while !self.begin().await {
            assert!(Instant::now() < deadline, "redis-server does not start again at port {}", self.port);
        }
    }

    /// The reply to a command as text, lists line by line. An error reply or none fails the test.
    pub(crate) fn command<A: AsRef<[u8]>>(&self, command: &[A]) -> String {
        self.reply(command).to_string()
    }

    /// The reply to a command. An error reply or none fails the test.
    pub(crate) fn reply<A: AsRef<[u8]>>(&self, command: &[A]) -> Reply {
        match self.ask(command, PATIENCE) {
            Ok(reply) => reply,
            Err(why) => {
                let words: Vec<_> =
                    command.iter().map(|word| String::from_utf8_lossy(word.as_ref())).collect();
                panic!("port {}: {}: {why}", self.port, words.join(" "))
            }
        }
    }

    /// The reply to a command, or why there is none.
    pub(crate) fn ask<A: AsRef<[u8]>>(&self, command: &[A], within: Duration) -> Result<Reply, String> {
        match resp::ask(self.port, command, within) {
            Ok(Reply::Error(error)) => Err(error),
            Ok(reply) => Ok(reply),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The values of a section of INFO; empty if it does not answer within a second.
    pub(crate) fn info(&self, section: &str) -> BTreeMap<String, String> {
        let text =
            self.ask(&["INFO", section], Duration::from_secs(1)).map_or(String::new(), |r| r.to_string());
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// How often each command was called since the server began, those within scripts included.
    pub(crate) fn calls(&self) -> BTreeMap<String, u64> {
        let calls = self.info("commandstats").into_iter().filter_map(|(name, value)| {
            let calls = value.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
            Some((name.strip_prefix("cmdstat_")?.to_owned(), calls))
        });
        calls.collect()
    }

    /// How often a script was called from outside.
    pub(crate) fn script_calls(&self) -> u64 {
        let is_call =
            |name: &str| ["eval", "evalsha", "fcall", "eval_ro", "evalsha_ro", "fcall_ro"].contains(&name);
        self.calls().iter().filter(|(name, _)| is_call(name)).map(|(_, calls)| calls).sum()
    }

    /// All keys, in order. For tests: it holds the server up while it looks.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.reply(&["KEYS", "*"]).list().iter().map(ToString::to_string).collect();
        keys.sort();
        keys
    }

    /// Starts the process; `false` if it ends at once (its port was taken).
    async fn begin(&self) -> bool {
        let child = start::start(self.program()).unwrap_or_else(|error| {
            panic!(
                "cannot start redis-server: {error}; is it installed (Debian: apt-get install redis-server)?"
            )
        });
        let pid = child.id().to_string();
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let deadline = Instant::now() + SOON;
        // Another process may answer at this port: ours is the one with its id.
        while self.info("server").get("process_id") != Some(&pid) {
            if self.with_child(|child| child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()))
            {
                return false;
            }
            assert!(Instant::now() < deadline, "redis-server at port {} does not answer", self.port);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    fn program(&self) -> Command {
        let mut command = start::bound_to_us("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--daemonize", "no"]);
        command.args(["--save", "", "--appendonly", "no", "--protected-mode", "no"]);
        command.arg("--dir").arg(self.files.path());
        command.arg("--logfile").arg(self.log()).args(["--loglevel", "warning"]);
        command.args(&self.flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn log(&self) -> PathBuf {
        self.files.path().join("redis.log")
    }

    fn with_child<T>(&self, with: impl FnOnce(&mut Option<Child>) -> T) -> T {
        with(&mut self.child.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let text = std::fs::read(self.log()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(20)..];
            eprintln!("--- the end of Redis' log, port {}:\n{}\n---", self.port, last.join("\n"));
        }
    }
}

/// Sends a process a signal, through the shell's builtin: the standard library can only send SIGKILL.
pub(crate) fn signal(signal: &str, pid: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap();
    assert!(sent.success(), "no process {pid} to send SIG{signal} to");
}
