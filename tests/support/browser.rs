//! A headless Chromium of the test's own: started by `chromedriver` on a free port, with a profile of its own, and
//! gone when the test is, also when it fails.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fantoccini::wd::WindowHandle;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// How long anything the browser should do may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One browser at a time: several at once make each other slow.
static TURN: Mutex<()> = Mutex::const_new(());

/// What a browser is like.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// The width of the screen in CSS pixels.
    pub(crate) width: u32,
    /// Whether scripts run.
    pub(crate) scripts: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { width: 1_200, scripts: true }
    }
}

/// A running browser; dropping it ends its processes.
pub(crate) struct Browser {
    pub(crate) client: Client,
    /// Held for its drop.
    _driver: Driver,
    _turn: MutexGuard<'static, ()>,
}

/// A running chromedriver and the profile it gives its browser; dropping it ends both.
struct Driver {
    process: Child,
    profile: TempDir,
}

impl Browser {
    /// A browser that looks at this page.
    pub(crate) async fn at(url: &str) -> Self {
        let browser = Self::start(Manner::default()).await;
        browser.client.goto(url).await.unwrap();
        browser
    }

    /// Waits for its turn, then starts.
    pub(crate) async fn start(manner: Manner) -> Self {
        let turn = TURN.lock().await;
        let chromium = find("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"]);
        let chromedriver = find("CHROMEDRIVER", &["chromedriver"]);
        let (driver, port) = Driver::start(&chromedriver);
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
            "--disable-breakpad",
            "--no-proxy-server",
            "--lang=en-GB",
        ]
        .map(String::from)
        .to_vec();
        arguments.push(format!("--user-data-dir={}", driver.profile.path().display()));
        let mut options = json!({
            "binary": chromium,
            "args": arguments,
            "mobileEmulation": { "deviceMetrics": { "width": manner.width, "height": 640, "pixelRatio": 1 } },
        });
        if !manner.scripts {
            options["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
        }
        let capabilities = json!({ "goog:chromeOptions": options }).as_object().unwrap().clone();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("chromium starts");
        Self { client, _driver: driver, _turn: turn }
    }

    /// What an expression comes to in the page.
    pub(crate) async fn value(&self, expression: &str) -> serde_json::Value {
        self.client.execute(&format!("return {expression}"), Vec::new()).await.unwrap_or_default()
    }

    /// What an asynchronous function's body comes to in the page, or the error it throws; `found` is its argument.
    pub(crate) async fn run(&self, body: &str, found: serde_json::Value) -> serde_json::Value {
        let script = format!(
            "const [found, done] = arguments;
             (async () => {{ {body} }})().then((value) => done(value ?? null), (error) => done(`thrown: ${{error}}`))"
        );
        self.client.execute_async(&script, vec![found]).await.unwrap()
    }

    /// Waits until an expression is true in the page.
    pub(crate) async fn until(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(expression).await != json!(true) {
            assert!(
                Instant::now() < deadline,
                "never came true: {expression}; the page says: {}",
                self.text().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Title and text of the page; empty while one page replaces another.
    pub(crate) async fn text(&self) -> String {
        let text = self.value("document.title + '\\n' + document.body.innerText").await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Opens another tab of the same profile, and turns to it.
    pub(crate) async fn open_tab(&self, url: &str) -> WindowHandle {
        let tab = self.client.new_window(true).await.unwrap().handle;
        self.client.switch_to_window(tab.clone()).await.unwrap();
        self.client.goto(url).await.unwrap();
        tab
    }

    /// Closes this tab as a visitor does, and turns to another.
    pub(crate) async fn close_tab(&self, other: WindowHandle) {
        self.client.close_window().await.unwrap();
        self.client.switch_to_window(other).await.unwrap();
    }

    /// Keeps what the page looks like.
    pub(crate) async fn keep_screenshot(&self, file: &Path) {
        let image = self.client.screenshot().await.unwrap();
        std::fs::write(file, image).unwrap();
    }
}

impl Driver {
    /// A driver, and the port it chose. It wants one that is free for IPv4 and IPv6 alike, and gives up where the first it
    /// tries is not.
    fn start(chromedriver: &Path) -> (Self, u16) {
        let start = || {
            let mut command = Command::new(chromedriver);
            command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null());
            let process = command.spawn().expect("chromedriver starts");
            let mut driver = Self { process, profile: tempfile::tempdir().unwrap() };
            let port = driver.port()?;
            Some((driver, port))
        };
        std::iter::repeat_with(start).take(32).flatten().next().expect("chromedriver finds a port")
    }

    /// The port it chose, from what it says at its start; `None`: it has ended.
    fn port(&mut self) -> Option<u16> {
        let output = self.process.stdout.take().unwrap();
        let (tell, told) = mpsc::channel();
        // On a thread of its own, which reads on to the end: a driver whose output nobody takes would block.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let port = line.split_once("started successfully on port ");
                if let Some(port) = port.and_then(|(_, port)| port.trim_end_matches('.').parse().ok()) {
                    tell.send(port).ok();
                }
            }
        });
        match told.recv_timeout(PATIENCE) {
            Ok(port) => Some(port),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("chromedriver says nothing of its port"),
        }
    }
}

impl Drop for Driver {
    /// Ends the driver, then the browser, which outlives a killed driver: every process that was given our profile.
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        let ours = format!("--user-data-dir={}", self.profile.path().display());
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if command.split(|byte| *byte == 0).any(|argument| argument == ours.as_bytes()) {
                let pid = process.file_name();
                Command::new("kill").arg("-KILL").arg(pid).stderr(Stdio::null()).status().ok();
            }
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
