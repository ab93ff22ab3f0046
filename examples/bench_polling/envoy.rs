//! Envoy as a process of its own, as `envoy/envoy.yaml` has it, and what its counters tell.

use std::path::Path;
use std::process::Command;

use crate::config::EnvoyConfig;
use crate::ports::{Ports, free};
use crate::program::Program;
use crate::redis::{SOON, until};
use crate::service::{Service, used_by};

/// The running Envoy; it ends with this.
pub(crate) struct Envoy {
    program: Program,
    /// Where visitors come in.
    pub(crate) public: u16,
    admin: u16,
    _files: tempfile::TempDir,
}

/// What is told at one moment.
pub(crate) struct Reading {
    /// Requests of visitors since the start.
    pub(crate) requests: u64,
    /// Bytes sent to visitors since the start, HTTP/2's own frames included.
    pub(crate) sent: u64,
    /// Bytes that came from visitors since the start.
    pub(crate) received: u64,
    /// Resident memory, bytes.
    pub(crate) resident: u64,
    /// CPU time used since the start, seconds.
    pub(crate) cpu: f64,
}

impl Envoy {
    /// Starts it in front of the service and waits until it is ready. No backend: nobody gets that far.
    pub(crate) async fn start(binary: &Path, service: &Service) -> Self {
        let files = tempfile::tempdir().unwrap();
        let ports =
            Ports { authz: service.authz, grpc: service.grpc, http: service.http, ..Ports::choose(free()) };
        let config = files.path().join("envoy.yaml");
        std::fs::write(&config, EnvoyConfig::shipped().text(&ports)).unwrap();
        let mut command = Command::new(binary);
        command.arg("-c").arg(&config).args(["--disable-hot-restart", "--log-level", "warn"]);
        let program = Program::start("envoy", &mut command, files.path());
        let envoy = Self { program, public: ports.public, admin: ports.envoy_admin, _files: files };
        until("Envoy is ready", SOON, || async { envoy.ask("/ready").await }).await;
        envoy
    }

    /// Fails the run if it has ended.
    pub(crate) fn must_run(&mut self) {
        self.program.must_run();
    }

    /// What is told now.
    pub(crate) async fn read(&self) -> Reading {
        let stats = self.ask("/stats?filter=^http\\.public\\.downstream_").await.expect("Envoy answers");
        let counter = |name: &str| {
            let mut lines = stats.lines().filter_map(|line| line.split_once(": "));
            let (_, value) = lines
                .find(|(key, _)| key.strip_prefix("http.public.downstream_") == Some(name))
                .unwrap_or_else(|| panic!("Envoy has no counter {name}"));
            value.parse().unwrap()
        };
        let (resident, cpu) = used_by(&self.program);
        Reading {
            requests: counter("rq_total"),
            sent: counter("cx_tx_bytes_total"),
            received: counter("cx_rx_bytes_total"),
            resident,
            cpu,
        }
    }

    async fn ask(&self, path: &str) -> Option<String> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.admin)).await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }
}
