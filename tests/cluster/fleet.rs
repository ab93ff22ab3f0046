//! Replicas of the service: real processes over one store, with keys and rooms in common.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::door::Door;
use crate::redis::server::signal;
use crate::redis::{SOON, ports, start, until};
use crate::tokens::{Parts, SigningKey, write_keys};

/// Several processes of the service. They end with this.
pub(crate) struct Fleet {
    // Before their files.
    replicas: Vec<Replica>,
    /// The key that all sign with, until they are given others.
    pub(crate) key: SigningKey,
    files: tempfile::TempDir,
    artifacts: PathBuf,
    store: String,
    /// Settings beside those that all fleets share.
    flags: Vec<String>,
}

/// One process.
pub(crate) struct Replica {
    role: &'static str,
    pub(crate) authz: u16,
    pub(crate) http: u16,
    pub(crate) admin: u16,
    pub(crate) grpc: u16,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Fleet {
    /// A fleet without a replica yet. `test` names the folder of its logs, `rooms` is the text of the rooms file.
    pub(crate) fn new(test: &str, store: &str, rooms: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let all =
            std::env::var_os("ANTEROOM_ARTIFACTS").map_or_else(|| root.join("artifacts"), PathBuf::from);
        let artifacts = all.join("cluster").join(test);
        if artifacts.exists() {
            std::fs::remove_dir_all(&artifacts).unwrap();
        }
        std::fs::create_dir_all(&artifacts).unwrap();
        let files = tempfile::tempdir().unwrap();
        let key = SigningKey::fresh("fleet");
        key.write(&files.path().join("keys.yaml"));
        std::fs::write(files.path().join("rooms.yaml"), rooms).unwrap();
        let flags = ["--drain", "2s"].map(str::to_owned).to_vec();
        Self { replicas: Vec::new(), key, files, artifacts, store: store.to_owned(), flags }
    }

    /// The same with these settings in place of `--drain 2s`.
    pub(crate) fn with(mut self, flags: &[&str]) -> Self {
        self.flags = flags.iter().map(ToString::to_string).collect();
        self
    }

    /// Where logs are kept.
    pub(crate) fn artifacts(&self) -> &Path {
        &self.artifacts
    }

    /// The same with `count` replicas that do everything, ready.
    pub(crate) async fn serving(test: &str, store: &str, rooms: &str, count: usize) -> Self {
        let mut fleet = Self::new(test, store, rooms);
        for _ in 0..count {
            fleet.add("serve");
        }
        for replica in fleet.replicas() {
            replica.until_ready().await;
        }
        fleet
    }

    /// Starts one more: `serve`, `authz` or `stream`.
    pub(crate) fn add(&mut self, role: &'static str) -> usize {
        let log = self.artifacts.join(format!("{role}{}.log", self.replicas.len()));
        let [authz, http, admin, grpc] = std::array::from_fn(|_| ports::free());
        let replica = Replica { role, authz, http, admin, grpc, log, child: Mutex::new(None) };
        self.replicas.push(replica);
        self.restart(self.replicas.len() - 1);
        self.replicas.len() - 1
    }

    /// Starts a replica again, at the same ports; does not wait for it.
    pub(crate) fn restart(&self, index: usize) {
        let replica = &self.replicas[index];
        replica.kill9();
        let mut command = start::bound_to_us(env!("CARGO_BIN_EXE_anteroom"));
        // A variable of the developer's shell must not change what is tested.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ANTEROOM_") {
                command.env_remove(name);
            }
        }
        command.arg(replica.role);
        for (flag, port) in [
            ("--authz-listen", replica.authz),
            ("--http-listen", replica.http),
            ("--admin-listen", replica.admin),
            ("--grpc-listen", replica.grpc),
        ] {
            command.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        command.arg("--keys").arg(self.files.path().join("keys.yaml"));
        command.arg("--rooms").arg(self.files.path().join("rooms.yaml"));
        if self.store == "memory" {
            command.arg("--state-dir").arg(self.state_dir());
        }
        // On a busy machine 20 ms may pass before a program gets its turn; what is tested is what is answered.
        command.args(["--store", &self.store, "--store-budget", "500ms", "--check-budget", "2s"]);
        command.args(["--cookie-secure", "false", "--log-format", "human"]).args(&self.flags);
        let log = OpenOptions::new().create(true).append(true).open(&replica.log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = start::start(command).unwrap();
        *replica.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }

    pub(crate) fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The doors of replicas that do everything.
    pub(crate) fn doors(&self) -> Vec<Door> {
        let pairs = self.replicas.iter().enumerate();
        pairs.map(|(index, replica)| Door::new(index, replica.authz, replica.http)).collect()
    }

    /// A token signed with the fleet's key, or with one that is not.
    pub(crate) fn token(&self, kind: &str, claims: &Value, genuine: bool) -> String {
        let header = json!({"typ": kind, "alg": "HS256", "kid": "fleet"});
        let parts = Parts { header, claims: claims.clone() };
        if genuine { self.key.sign(&parts) } else { SigningKey::fresh("fleet").sign(&parts) }
    }

    /// The store of replicas that are started from now on.
    pub(crate) fn use_store(&mut self, store: &str) {
        store.clone_into(&mut self.store);
    }

    /// The rooms file of replicas that are started from now on.
    pub(crate) fn use_rooms(&self, rooms: &str) {
        std::fs::write(self.files.path().join("rooms.yaml"), rooms).unwrap();
    }

    /// The state directory of replicas with an embedded store.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.files.path().join("state")
    }

    /// Puts these keys into the keys file, the first to sign: for replicas that are started from now on.
    pub(crate) fn use_keys(&self, keys: &[&SigningKey]) {
        write_keys(keys, &self.files.path().join("keys.yaml"));
    }
}

impl Replica {
    /// `kill -9`, and waits for its end.
    pub(crate) fn kill9(&self) {
        if let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGTERM, and waits for its end, which must be an orderly one.
    pub(crate) async fn terminate(&self) {
        // Kept where `drop` finds it, should it not end.
        let with = |what: fn(&mut Child) -> Option<std::process::ExitStatus>| {
            what(self.child.lock().unwrap_or_else(PoisonError::into_inner).as_mut().expect("it runs"))
        };
        with(|child| {
            signal("TERM", child.id());
            None
        });
        let ended = || std::future::ready(with(|child| child.try_wait().unwrap()));
        let status = until("the drain is over", SOON, ended).await;
        assert!(status.success(), "{} ended with {status}:\n{}", self.role, self.log());
    }

    /// The sum of a metric over all its labels; 0 where it is not there.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (status, text) = self.admin("/metrics").await;
        assert_eq!(status, 200, "{} tells no metrics", self.role);
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        samples.sum()
    }

    /// Fails the test if the process has ended.
    pub(crate) fn must_run(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = child.as_mut().and_then(|child| child.try_wait().unwrap());
        assert!(ended.is_none(), "{} ended with {ended:?}:\n{}", self.role, self.log());
    }

    /// Status and text of a page of the admin listener; status 0 while it does not answer.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
        match client.get(format!("http://127.0.0.1:{}{path}", self.admin)).send().await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
            Err(_) => (0, String::new()),
        }
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn until_ready(&self) {
        let deadline = Instant::now() + SOON;
        loop {
            let (status, text) = self.admin("/readyz").await;
            if status == 200 {
                return;
            }
            self.must_run();
            assert!(Instant::now() < deadline, "{} is not ready: {text}\n{}", self.role, self.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let text = self.log();
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(30)..];
            eprintln!("--- the end of {}:\n{}\n---", self.log.display(), last.join("\n"));
        }
    }
}
