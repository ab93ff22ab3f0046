//! The Envoy that is shipped, before several processes, with a backend behind it.

use std::path::{Path, PathBuf};
use std::process::Command;

use config::EnvoyConfig;
use ports::Ports;
use program::Program;
use serde_json::Value;

use crate::fleet::Fleet;
use crate::redis::ports as free_port;
use crate::redis::ports::free;
use crate::redis::{SOON, until};

// They know more than is needed here.
#[allow(dead_code)]
#[path = "../e2e/harness/backend.rs"]
mod backend;
#[allow(dead_code)]
#[path = "../e2e/harness/config.rs"]
mod config;
#[allow(dead_code)]
#[path = "../e2e/harness/ports.rs"]
mod ports;
#[path = "../e2e/harness/program.rs"]
mod program;
#[allow(dead_code)]
#[path = "../e2e/harness/sse.rs"]
pub(crate) mod sse;
#[allow(dead_code)]
#[path = "../e2e/harness/visitor.rs"]
pub(crate) mod visitor;

/// Where `config` looks for `envoy/`.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A running Envoy; it ends with this.
pub(crate) struct Envoy {
    pub(crate) port: u16,
    admin: u16,
    program: Program,
    _backend: backend::Backend,
    _files: tempfile::TempDir,
}

impl Envoy {
    /// Before the client listeners of these processes of a fleet, in turn; Checks go to the first of the fleet.
    pub(crate) async fn before(fleet: &Fleet, streams: &[usize]) -> Self {
        Self::start(fleet, &[0], streams).await
    }

    /// Before all listeners of all replicas of a fleet, in turn. The limits of `/shop` are those of the rooms file.
    pub(crate) async fn before_all(fleet: &Fleet) -> Self {
        let all: Vec<_> = (0..fleet.replicas().len()).collect();
        Self::start(fleet, &all, &all).await
    }

    async fn start(fleet: &Fleet, checks: &[usize], clients: &[usize]) -> Self {
        let binary = std::env::var_os("ENVOY_BIN").map_or_else(|| root().join(".tools/envoy"), PathBuf::from);
        assert!(binary.is_file(), "no Envoy at {}: run `make tools`, or set ENVOY_BIN", binary.display());
        let backend = backend::Backend::start().await;
        let replica = |index: &usize| &fleet.replicas()[*index];
        let authz: Vec<_> = checks.iter().map(|index| replica(index).authz).collect();
        let http: Vec<_> = clients.iter().map(|index| replica(index).http).collect();
        let grpc: Vec<_> = clients.iter().map(|index| replica(index).grpc).collect();
        let ports = Ports {
            public: free(),
            backend: backend.port,
            authz: authz[0],
            grpc: grpc[0],
            http: http[0],
            admin: free(),
            envoy_admin: free(),
        };
        let mut text = EnvoyConfig::shipped().limits(&[]).text(&ports);
        for all in [authz, http, grpc] {
            let endpoints: String = all.iter().copied().map(endpoint).collect();
            assert_eq!(text.matches(&endpoint(all[0])).count(), 1, "one endpoint of a listener");
            text = text.replace(&endpoint(all[0]), &endpoints);
        }
        let files = tempfile::tempdir().unwrap();
        let config = files.path().join("envoy.yaml");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(binary);
        command.arg("-c").arg(&config);
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]);
        let program = Program::start("envoy", &mut command, fleet.artifacts());
        let (port, admin) = (ports.public, ports.envoy_admin);
        let mut envoy = Self { port, admin, program, _backend: backend, _files: files };
        until("Envoy is ready", SOON, || {
            envoy.program.must_run();
            let answer = visitor::plain_client().get(format!("http://127.0.0.1:{admin}/ready")).send();
            async { answer.await.ok().filter(|answer| answer.status() == 200) }
        })
        .await;
        envoy
    }

    /// Waits until every replica passes its health checks.
    pub(crate) async fn until_all_healthy(&self) {
        self.until_unhealthy(0).await;
    }

    /// Waits until so many of the replicas' listeners fail their health checks, each counted by itself.
    pub(crate) async fn until_unhealthy(&self, count: usize) {
        until(&format!("Envoy sees {count} listeners fail"), SOON, || async {
            let url = format!("http://127.0.0.1:{}/clusters?format=json", self.admin);
            let told: Value = visitor::plain_client().get(url).send().await.unwrap().json().await.unwrap();
            let clusters = told["cluster_statuses"].as_array().unwrap();
            let hosts = clusters.iter().flat_map(|cluster| cluster["host_statuses"].as_array().unwrap());
            let health = hosts.map(|host| &host["health_status"]).collect::<Vec<_>>();
            assert!(health.len() >= 4, "Envoy tells no health: {told}");
            let is_bad = |health: &&Value| {
                ["failed_active_health_check", "pending_active_hc"].iter().any(|flag| health[flag] == true)
            };
            (health.into_iter().filter(is_bad).count() == count).then_some(())
        })
        .await;
    }
}

/// An endpoint as `envoy/envoy.yaml` writes it.
fn endpoint(port: u16) -> String {
    format!(
        "        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n"
    )
}
