//! The program with a shared store: it starts without it, becomes ready with it, and stays so when it goes.

// What fails here fails a test; the lint's own exception knows only functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "../support/redis.rs"]
mod redis;

use std::fs::File;
use std::process::Stdio;

use redis::server::Server;
use redis::{SOON, ports, until};
use reqwest::StatusCode;
use tokio::process::{Child, Command};

/// A running service; it ends with this.
struct Service {
    child: Child,
    admin: u16,
    http: u16,
    files: tempfile::TempDir,
}

impl Service {
    fn start(store: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let log = File::create(files.path().join("log")).unwrap();
        let [authz, grpc, http, admin] = std::array::from_fn(|_| ports::free());
        let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom"));
        // A variable of the developer's shell must not change what is tested.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ANTEROOM_"))
        {
            command.env_remove(name);
        }
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
        command.args(["serve", "--drain", "1s", "--log", "debug"]);
        // Where others on the machine can read it, a password has no place.
        command.env("ANTEROOM_STORE", store);
        command.args(["--keys", &format!("{data}/keys.yaml"), "--rooms", &format!("{data}/rooms.yaml")]);
        for (flag, port) in [("authz", authz), ("grpc", grpc), ("http", http), ("admin", admin)] {
            command.args([format!("--{flag}-listen"), format!("127.0.0.1:{port}")]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        Self { child: command.spawn().unwrap(), admin, http, files }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.files.path().join("log")).unwrap()
    }

    async fn get(&self, port: u16, path: &str) -> Option<(StatusCode, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.ok()?;
        Some((answer.status(), answer.text().await.ok()?))
    }

    async fn admin(&self, path: &str) -> Option<(StatusCode, String)> {
        self.get(self.admin, path).await
    }

    async fn is_ready(&self) -> Option<bool> {
        Some(self.admin("/readyz").await?.0 == 200)
    }

    async fn store_up(&self) -> Option<String> {
        let (_, text) = self.admin("/metrics").await?;
        text.lines().find_map(|line| line.strip_prefix("anteroom_store_up ").map(str::to_owned))
    }

    /// Asks it to end, and waits for it.
    async fn end(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().expect("it runs").to_string();
        // Through the shell's builtin: the standard library can only send SIGKILL.
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await.unwrap();
        assert!(sent.success());
        let status =
            tokio::time::timeout(SOON, self.child.wait()).await.expect("the drain has a deadline").unwrap();
        (status.code(), self.log())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the service's log\n{}\n---", self.log());
        }
    }
}

#[tokio::test]
async fn it_starts_without_its_store_and_is_ready_once_that_has_answered() {
    let server = Server::absent();
    let service = Service::start(&server.url());
    let told = until("the store is missed", SOON, || async {
        let (status, text) = service.admin("/readyz").await?;
        (status == 503 && text.contains("store") && !text.contains("start")).then_some(text)
    })
    .await;
    assert_eq!(service.admin("/livez").await.unwrap().0, 200, "{told}");
    assert_eq!(service.store_up().await.unwrap(), "0");
    let (status, text) = service.get(service.http, "/anteroom/v1/rooms/shop/position").await.unwrap();
    assert_eq!(status, 503, "{text}");

    server.restart().await;
    until("it is ready", SOON, || async { service.is_ready().await?.then_some(()) }).await;
    until("the metric says so", SOON, || async { (service.store_up().await? == "1").then_some(()) }).await;

    server.kill9();
    until("the outage is noticed", SOON, || async { (service.store_up().await? == "0").then_some(()) }).await;
    assert_eq!(service.is_ready().await, Some(true), "passes, polls and streams go on");
    server.restart().await;
    until("it is back", SOON, || async { (service.store_up().await? == "1").then_some(()) }).await;

    let (code, log) = service.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("no store yet").count(), 1, "{log}");
    assert_eq!(log.matches("serves every room").count(), 2, "at the start and after the outage: {log}");
    assert!(!log.contains("fred"), "what happens is said in our words, once: {log}");
}

#[tokio::test]
async fn a_stores_password_is_told_to_nobody() {
    let server = Server::absent();
    let service = Service::start(&format!("redis://hunter2:hunter3@127.0.0.1:{}", server.port()));
    let told = until("the store is missed", SOON, || async {
        let (status, text) = service.admin("/readyz").await?;
        (status == 503 && text.contains(&server.port().to_string())).then_some(text)
    })
    .await;
    let (_, metrics) = service.admin("/metrics").await.unwrap();
    let (code, log) = service.end().await;
    assert_eq!(code, Some(0), "{log}");
    for text in [told, metrics, log] {
        assert!(!text.contains("hunter2") && !text.contains("hunter3"), "{text}");
    }
}
