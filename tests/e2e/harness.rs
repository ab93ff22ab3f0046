//! What a test through Envoy needs: a [`Scene`] of service, backend and Envoy on ports of their own, and visitors.
//!
//! - `doors` has nginx and Caddy in Envoy's place, from `PATH`.
//! - `ENVOY_BIN` names the Envoy, else `.tools/envoy`, which `make tools` installs.
//! - `ANTEROOM_BIN` names another service binary than the one built with these tests.
//! - Logs are kept in `$ANTEROOM_ARTIFACTS`, else `artifacts/`, in a folder for each test.

pub(crate) mod backend;
#[path = "../support/collector.rs"]
pub(crate) mod collector;
pub(crate) mod config;
pub(crate) mod doors;
pub(crate) mod ports;
pub(crate) mod program;
pub(crate) mod sse;
pub(crate) mod tokens;
pub(crate) mod visitor;

#[path = "../support/browser.rs"]
pub(crate) mod browser;
#[path = "../support/free_port.rs"]
mod free_port;
#[path = "../support/until.rs"]
mod until;

pub(crate) use self::until::{SOON, until, until_true};

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use self::backend::Backend;
use self::config::EnvoyConfig;
use self::ports::Ports;
use self::program::Program;
use self::tokens::SigningKey;
use self::visitor::Visitor;

/// The folder of this package: where `envoy/`, `.tools/` and `artifacts/` are.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The service's binary.
pub(crate) fn anteroom() -> PathBuf {
    std::env::var_os("ANTEROOM_BIN").map_or_else(|| env!("CARGO_BIN_EXE_anteroom").into(), PathBuf::from)
}

/// Envoy's binary; fails the test in one clear line where there is none.
pub(crate) fn envoy() -> PathBuf {
    let path = std::env::var_os("ENVOY_BIN").map_or_else(|| root().join(".tools/envoy"), PathBuf::from);
    assert!(path.is_file(), "no Envoy at {}: run `make tools`, or set ENVOY_BIN", path.display());
    path
}

/// The folder for what this test leaves behind, empty at its start.
pub(crate) fn artifacts(test: &str) -> PathBuf {
    let all = std::env::var_os("ANTEROOM_ARTIFACTS").map_or_else(|| root().join("artifacts"), PathBuf::from);
    let own = all.join("e2e").join(test);
    if own.exists() {
        std::fs::remove_dir_all(&own).unwrap();
    }
    std::fs::create_dir_all(&own).unwrap();
    own
}

/// Service, backend and Envoy, wired together. All end with it, also when the test panics; then their logs are shown.
pub(crate) struct Scene {
    // Fields are dropped in this order: the proxy first, so that its log is not full of the others' absence.
    proxy: Program,
    service: Option<Program>,
    pub(crate) backend: Backend,
    pub(crate) ports: Ports,
    /// The Envoy configuration in force.
    pub(crate) envoy_yaml: PathBuf,
    /// Where logs and screenshots are kept.
    pub(crate) artifacts: PathBuf,
    /// The key that the service signs with.
    pub(crate) key: SigningKey,
    files: tempfile::TempDir,
    /// Settings of the service beside those that all scenes share.
    flags: Vec<String>,
}

impl Scene {
    /// The scene as `envoy/envoy.yaml` has it.
    pub(crate) async fn new(test: &str) -> Self {
        Self::with(test, |config| config).await
    }

    /// As [`Scene::with`], for pages of another origin: that of the backend, which is told here.
    pub(crate) async fn with_origin(
        test: &str,
        change: impl FnOnce(EnvoyConfig, &str) -> EnvoyConfig,
    ) -> Self {
        let backend = Backend::start().await;
        let origin = backend.origin();
        Self::set(test, backend, &[], |config| change(config, &origin)).await
    }

    /// The scene with changes to `envoy/envoy.yaml`. `test` names the folder of its logs.
    pub(crate) async fn with(test: &str, change: impl FnOnce(EnvoyConfig) -> EnvoyConfig) -> Self {
        Self::with_flags(test, &[], change).await
    }

    /// As [`Scene::with`], with further settings of the service.
    pub(crate) async fn with_flags(
        test: &str,
        flags: &[&str],
        change: impl FnOnce(EnvoyConfig) -> EnvoyConfig,
    ) -> Self {
        Self::set(test, Backend::start().await, flags, change).await
    }

    async fn set(
        test: &str,
        backend: Backend,
        flags: &[&str],
        change: impl FnOnce(EnvoyConfig) -> EnvoyConfig,
    ) -> Self {
        let envoy_bin = envoy();
        let scene = Self::start("envoy", test, backend, flags, |ports, files| {
            let envoy_yaml = files.join("envoy.yaml");
            std::fs::write(&envoy_yaml, change(EnvoyConfig::shipped()).text(ports)).unwrap();
            let mut command = Command::new(envoy_bin);
            command.arg("-c").arg(&envoy_yaml);
            // Without hot restart nothing is shared between the Envoys of tests that run side by side.
            command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]);
            command.args(["--file-flush-interval-msec", "100"]);
            command
        });
        scene.await
    }

    /// The scene behind a proxy: `command` writes its configuration into the folder given, and says how to start it.
    pub(crate) async fn behind(
        name: &'static str,
        test: &str,
        flags: &[&str],
        command: impl FnOnce(&Ports, &Path) -> Command,
    ) -> Self {
        Self::start(name, test, Backend::start().await, flags, command).await
    }

    async fn start(
        name: &'static str,
        test: &str,
        backend: Backend,
        flags: &[&str],
        command: impl FnOnce(&Ports, &Path) -> Command,
    ) -> Self {
        let artifacts = artifacts(test);
        let files = tempfile::tempdir().unwrap();
        let ports = Ports::choose(backend.port);
        let envoy_yaml = files.path().join("envoy.yaml");
        let key = SigningKey::fresh("e2e");
        key.write(&files.path().join("keys.yaml"));
        let mut command = command(&ports, files.path());

        let flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
        let service = start_service(&ports, files.path(), &artifacts, &flags);
        // nginx starts others, which a killed one would leave behind.
        let start = if name == "nginx" { Program::start_group } else { Program::start };
        let proxy = start(name, &mut command, &artifacts);
        let mut scene =
            Self { proxy, service: Some(service), backend, ports, envoy_yaml, artifacts, key, files, flags };
        scene.wait_ready().await;
        scene
    }

    async fn wait_ready(&mut self) {
        let mut ready = vec![self.ports.admin_url("/readyz"), self.ports.url("/healthz")];
        if self.envoy_yaml.exists() {
            ready.push(format!("http://127.0.0.1:{}/ready", self.ports.envoy_admin));
        }
        let client = visitor::plain_client();
        for url in ready {
            let deadline = Instant::now() + SOON;
            while !client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
                self.proxy.must_run();
                if let Some(service) = &mut self.service {
                    service.must_run();
                }
                assert!(Instant::now() < deadline, "{url} does not answer 200 within {SOON:?}");
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
    }

    /// A new visitor with an empty cookie jar.
    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::new(self.ports.public)
    }

    /// A new visitor with this address, of the loopback range.
    pub(crate) fn visitor_from(&self, address: [u8; 4]) -> Visitor {
        Visitor::from(address.into(), self.ports.public)
    }

    /// A new visitor who has asked for `/shop` and was let in.
    pub(crate) async fn inside(&self) -> Visitor {
        let visitor = self.visitor();
        assert_eq!(visitor.get("/shop").await.status, 200, "there should be room for one more");
        visitor
    }

    /// A new visitor who has asked for `/shop` and waits, with the position told.
    pub(crate) async fn in_line(&self) -> (Visitor, u64) {
        let visitor = self.visitor();
        let answer = visitor.get("/shop").await;
        assert_eq!(answer.status, 429, "{}", answer.text);
        let position = answer.json()["position"].as_u64().expect("a position");
        (visitor, position)
    }

    /// Envoy, or what stands in its place.
    pub(crate) fn proxy(&self) -> &Program {
        &self.proxy
    }

    /// The running service.
    pub(crate) fn service(&mut self) -> &mut Program {
        self.service.as_mut().expect("the service was killed and not started again")
    }

    /// `kill -9`, without a chance to say goodbye.
    pub(crate) fn kill_service(&mut self) {
        self.service.take().expect("the service runs").kill();
    }

    /// Starts the service again on the same ports, state directory and keys, and waits until all is ready.
    pub(crate) async fn restart_service(&mut self) {
        assert!(self.service.is_none(), "the service still runs");
        self.service = Some(start_service(&self.ports, self.files.path(), &self.artifacts, &self.flags));
        self.wait_ready().await;
    }

    /// What the service has logged so far.
    pub(crate) fn service_log(&self) -> String {
        std::fs::read_to_string(self.artifacts.join("anteroom.log")).unwrap()
    }

    /// What Envoy has logged so far: its access log.
    pub(crate) fn envoy_log(&self) -> String {
        std::fs::read_to_string(self.artifacts.join("envoy.log")).unwrap()
    }

    /// The sum of a metric over all its labels; 0 where it is not there.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = visitor::plain_client().get(self.ports.admin_url("/metrics")).send().await.unwrap();
        let text = text.text().await.unwrap();
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        samples.sum()
    }
}

fn start_service(ports: &Ports, files: &Path, artifacts: &Path, flags: &[String]) -> Program {
    let mut command = Command::new(anteroom());
    // A variable of the developer's shell must not change what is tested.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ANTEROOM_") {
            command.env_remove(name);
        }
    }
    command.arg("serve");
    for (flag, port) in [
        ("--authz-listen", ports.authz),
        ("--grpc-listen", ports.grpc),
        ("--http-listen", ports.http),
        ("--admin-listen", ports.admin),
    ] {
        command.arg(flag).arg(format!("127.0.0.1:{port}"));
    }
    command.arg("--state-dir").arg(files.join("state"));
    command.arg("--keys").arg(files.join("keys.yaml"));
    command.args(["--store", "memory", "--cookie-secure", "false", "--tick", "100ms", "--drain", "5s"]);
    command.args(["--log-format", "human"]);
    // Patience for a busy machine, as Envoy is given: what is tested is what is answered, not how fast.
    command.args(["--check-budget", "4s", "--store-budget", "2s"]);
    // Where the scene has one.
    let rooms = files.join("rooms.yaml");
    if rooms.exists() {
        command.arg("--rooms").arg(rooms);
    }
    command.args(flags);
    Program::start("anteroom", &mut command, artifacts)
}
