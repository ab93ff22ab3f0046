//! A headless Chromium of the test's own: started by `chromedriver` on a free port, with a profile of its own, and
//! gone when the test is, also when it fails.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tempfile::TempDir;

/// How long anything the browser should do may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a browser is like.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// The width of the screen in CSS pixels.
    pub(crate) width: u32,
    /// Whether scripts run.
    pub(crate) scripts: bool,
}

/// A running browser; dropping it ends its processes.
pub(crate) struct Browser {
    pub(crate) client: Client,
    driver: Child,
    profile: TempDir,
}

impl Browser {
    pub(crate) async fn start(manner: Manner) -> Self {
        let chromium = find("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"]);
        let chromedriver = find("CHROMEDRIVER", &["chromedriver"]);
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new(chromedriver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let port = port_of(&mut driver);
        let mut arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]
        .map(String::from)
        .to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let mut options = json!({
            "binary": chromium,
            "args": arguments,
            "mobileEmulation": { "deviceMetrics": { "width": manner.width, "height": 640, "pixelRatio": 1 } },
        });
        if !manner.scripts {
            options["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
        }
        let capabilities = json!({ "goog:chromeOptions": options }).as_object().unwrap().clone();
        // From here on a failure must end the driver too, so it already belongs to a value that does that.
        let mut unborn = Unborn { driver: Some(driver), profile: Some(profile) };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("chromium starts");
        Self { client, driver: unborn.driver.take().unwrap(), profile: unborn.profile.take().unwrap() }
    }

    /// What an expression comes to in the page.
    pub(crate) async fn value(&self, expression: &str) -> serde_json::Value {
        self.client.execute(&format!("return {expression}"), Vec::new()).await.unwrap_or_default()
    }

    /// Waits until an expression is true in the page.
    pub(crate) async fn until(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(expression).await != json!(true) {
            if Instant::now() > deadline {
                let page = self.value("document.title + '\\n' + document.body.innerText").await;
                panic!("never came true: {expression}; the page says: {}", page.as_str().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Waits until `condition` holds on the test's side.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end(&mut self.driver, self.profile.path());
    }
}

/// A driver whose session does not exist yet.
struct Unborn {
    driver: Option<Child>,
    profile: Option<TempDir>,
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let (Some(driver), Some(profile)) = (&mut self.driver, &self.profile) {
            end(driver, profile.path());
        }
    }
}

/// Ends the driver, then the browser, which outlives a killed driver: every process that was given our profile.
fn end(driver: &mut Child, profile: &Path) {
    drop(driver.kill());
    drop(driver.wait());
    let ours = format!("--user-data-dir={}", profile.display());
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if command.split(|byte| *byte == 0).any(|argument| argument == ours.as_bytes()) {
            let pid = process.file_name();
            drop(Command::new("kill").arg("-KILL").arg(pid).stderr(Stdio::null()).status());
        }
    }
}

/// The port a driver chose, from what it says at its start.
fn port_of(driver: &mut Child) -> u16 {
    let output = driver.stdout.take().unwrap();
    let (tell, told) = mpsc::channel();
    // On a thread of its own, which reads on to the end: a driver whose output nobody takes would block.
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let port = line
                .split_once("started successfully on port ")
                .and_then(|(_, port)| port.trim_end_matches('.').parse().ok());
            if let Some(port) = port {
                tell.send(port).ok();
            }
        }
    });
    match told.recv_timeout(PATIENCE) {
        Ok(port) => port,
        Err(_) => {
            drop(driver.kill());
            drop(driver.wait());
            panic!("chromedriver did not say which port it listens on");
        }
    }
}

/// A program from the environment variable or the PATH.
fn find(variable: &str, names: &[&str]) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        return path.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    found.into_iter().find(|program| program.is_file()).unwrap_or_else(|| {
        panic!("{} is missing: run `make tools`, or name the program in {variable}", names[0])
    })
}
