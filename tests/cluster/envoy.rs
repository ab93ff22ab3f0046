//! The Envoy that is shipped, before the client listeners of several processes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use config::EnvoyConfig;
use ports::Ports;
use program::Program;

use crate::fleet::Fleet;
use crate::redis::ports as free_port;
use crate::redis::ports::free;
use crate::redis::{SOON, until};

// Both know more than is needed here.
#[allow(dead_code)]
#[path = "../e2e/harness/config.rs"]
mod config;
#[allow(dead_code)]
#[path = "../e2e/harness/ports.rs"]
mod ports;
#[path = "../e2e/harness/program.rs"]
mod program;

/// Where `config` looks for `envoy/`.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A running Envoy; it ends with this.
pub(crate) struct Envoy {
    pub(crate) port: u16,
    program: Program,
    // Nobody listens there: what is watched here never gets to a backend.
    _backend: TcpListener,
    _files: tempfile::TempDir,
}

impl Envoy {
    /// Before the client listeners of these processes of a fleet, in turn.
    pub(crate) async fn before(fleet: &Fleet, streams: &[usize]) -> Self {
        let binary = std::env::var_os("ENVOY_BIN").map_or_else(|| root().join(".tools/envoy"), PathBuf::from);
        assert!(binary.is_file(), "no Envoy at {}: run `make tools`, or set ENVOY_BIN", binary.display());
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let http: Vec<_> = streams.iter().map(|index| fleet.replicas()[*index].http).collect();
        let ports = Ports {
            public: free(),
            backend: backend.local_addr().unwrap().port(),
            authz: fleet.replicas()[0].authz,
            grpc: free(),
            http: http[0],
            admin: free(),
            envoy_admin: free(),
        };
        let endpoint = |port| {
            format!(
                "        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n"
            )
        };
        let endpoints: String = http.iter().copied().map(endpoint).collect();
        let text = EnvoyConfig::shipped().text(&ports);
        assert_eq!(text.matches(&endpoint(http[0])).count(), 1, "one endpoint of the client listener");
        let files = tempfile::tempdir().unwrap();
        let config = files.path().join("envoy.yaml");
        std::fs::write(&config, text.replace(&endpoint(http[0]), &endpoints)).unwrap();
        let mut command = Command::new(binary);
        command.arg("-c").arg(&config);
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]);
        let program = Program::start("envoy", &mut command, fleet.artifacts());
        let mut envoy = Self { port: ports.public, program, _backend: backend, _files: files };
        let ready = format!("http://127.0.0.1:{}/ready", ports.envoy_admin);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        until("Envoy is ready", SOON, || {
            envoy.program.must_run();
            let answer = client.get(&ready).send();
            async { answer.await.ok().filter(|answer| answer.status() == 200) }
        })
        .await;
        envoy
    }
}
