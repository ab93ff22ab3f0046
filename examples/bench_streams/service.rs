//! The program under test as a process of its own, and what the system and Redis tell of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anteroom::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use anteroom::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use anteroom::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};

use crate::program::Program;
use crate::redis::server::Server;
use crate::redis::{SOON, ports, until};

/// The running program; it ends with this.
pub(crate) struct Service {
    program: Program,
    pub(crate) authz: u16,
    pub(crate) grpc: u16,
    pub(crate) http: u16,
    admin: u16,
    _files: tempfile::TempDir,
}

/// What is told at one moment.
pub(crate) struct Reading {
    /// Resident memory, bytes.
    pub(crate) resident: u64,
    /// CPU time used since the start, seconds.
    pub(crate) cpu: f64,
    /// Scripts called in Redis since its start.
    pub(crate) redis_calls: u64,
}

impl Service {
    /// Starts it over a store and waits until it is ready.
    pub(crate) async fn start(binary: &Path, store: &str, streams: u32) -> Self {
        let files = tempfile::tempdir().unwrap();
        let keys = files.path().join("keys.yaml");
        let secret = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        std::fs::write(&keys, format!("keys:\n- {{ kid: bench, alg: HS256, secret: {secret} }}\n")).unwrap();
        let [authz, grpc, http, admin] = std::array::from_fn(|_| ports::free());
        let mut command = Command::new(binary);
        command.arg("serve").arg("--store").arg(store).arg("--keys").arg(&keys);
        let listeners = [
            ("--authz-listen", authz),
            ("--grpc-listen", grpc),
            ("--http-listen", http),
            ("--admin-listen", admin),
        ];
        for (flag, port) in listeners {
            command.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        command.args(["--max-streams", &streams.to_string(), "--drain", "1s"]);
        // The client shares the machine's cores: a store call that is late because of it is no outage.
        command.args(["--store-budget", "500ms", "--check-budget", "1s"]);
        let program = Program::start("anteroom", &mut command, files.path());
        let service = Self { program, authz, grpc, http, admin, _files: files };
        until("the program is ready", SOON, || async {
            service.ask("/readyz").await.filter(|(status, _)| *status == 200)
        })
        .await;
        service
    }

    /// States the room's limits, as Envoy does with every Check.
    pub(crate) async fn state_capacity(&self, capacity: u32) {
        let mut client =
            AuthorizationClient::connect(format!("http://127.0.0.1:{}", self.authz)).await.unwrap();
        let limits =
            [("room", "shop".to_owned()), ("capacity", capacity.to_string()), ("claim_ttl", "1h".to_owned())];
        let http =
            HttpRequest { method: "GET".into(), path: "/".into(), host: "shop".into(), ..Default::default() };
        // A preflight: it states the limits and takes no place.
        let http = HttpRequest {
            method: "OPTIONS".into(),
            headers: [("origin", "http://a"), ("access-control-request-method", "GET")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..http
        };
        let question = CheckRequest {
            attributes: Some(AttributeContext {
                request: Some(Request { http: Some(http) }),
                context_extensions: limits.map(|(key, value)| (key.to_owned(), value)).into(),
                ..Default::default()
            }),
        };
        client.check(question).await.unwrap();
    }

    /// Waits until nobody watches any more.
    pub(crate) async fn until_no_streams(&self) {
        until("all streams are closed", Duration::from_mins(1), || async {
            let (_, text) = self.ask("/metrics").await?;
            let open = text.lines().filter(|line| line.starts_with("anteroom_streams_open"));
            open.map(|line| line.rsplit(' ').next()).all(|count| count == Some("0")).then_some(())
        })
        .await;
    }

    /// What is told now.
    pub(crate) fn read(&self, redis: &Server) -> Reading {
        let (resident, cpu) = used_by(&self.program);
        Reading { resident, cpu, redis_calls: redis.script_calls() }
    }

    async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.admin)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }
}

/// A program's resident memory in bytes, and its CPU time so far in seconds.
pub(crate) fn used_by(program: &Program) -> (u64, f64) {
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", program.pid())).unwrap();
    let status = of("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = resident.trim().trim_end_matches("kB").trim().parse().unwrap();
    // Behind the name, which may hold spaces: user and system time are fields 14 and 15, in ticks of 10 ms.
    let stat = of("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    (resident * 1_024, ticks / 100.0)
}
