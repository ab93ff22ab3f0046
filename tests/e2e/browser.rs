//! A real browser as the third visitor: it sees its position and gets in by itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use crate::harness::program::Program;
use crate::harness::visitor::plain_client;
use crate::harness::{SOON, Scene, ports, until};

/// Chromium under chromedriver; both end with it.
struct Browser {
    client: Client,
    _driver: Program,
    _profile: tempfile::TempDir,
}

impl Browser {
    async fn start(artifacts: &Path) -> Self {
        for program in ["chromedriver", "chromium"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
            assert!(found.status.success(), "there is no {program} in PATH: run `make tools`");
        }
        let port = ports::free();
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let driver = Program::start_group("chromedriver", &mut command, artifacts);
        let url = format!("http://127.0.0.1:{port}");
        let probe = plain_client();
        until("chromedriver is ready", SOON, || async {
            probe.get(format!("{url}/status")).send().await.ok().filter(|answer| answer.status() == 200)
        })
        .await;
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-breakpad",
            "--no-first-run",
            "--no-proxy-server",
            "--lang=en-GB",
            "--window-size=800,900",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let mut capabilities = Capabilities::new();
        capabilities.insert("goog:chromeOptions".into(), json!({ "args": arguments }));
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&url)
            .await
            .expect("a browser session");
        Self { client, _driver: driver, _profile: profile }
    }

    async fn text(&self) -> String {
        let script = "return document.body ? document.body.innerText : ''";
        let text = self.client.execute(script, vec![]).await;
        // While a page is being replaced there is none to ask.
        text.ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
    }

    async fn keep_screenshot(&self, file: &Path) {
        let image = self.client.screenshot().await.unwrap();
        std::fs::write(file, image).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_sees_its_position_and_gets_in_by_itself() {
    let limits = [("capacity", "2"), ("session_ttl", "5m"), ("claim_ttl", "60s")];
    let scene = Scene::with("a_browser_sees_its_position_and_gets_in_by_itself", |c| c.limits(&limits)).await;
    let (first, second) = (scene.inside().await, scene.inside().await);
    let (front, _) = scene.in_line().await;
    let browser = Browser::start(&scene.artifacts).await;

    browser.client.goto(&scene.ports.url("/shop")).await.unwrap();
    let words = |text: &str, word: &str| text.split(|c: char| !c.is_alphanumeric()).any(|each| each == word);
    until("the page shows position 2", SOON, || async { words(&browser.text().await, "2").then_some(()) })
        .await;
    browser.keep_screenshot(&scene.artifacts.join("waiting.png")).await;

    // A mark that a reload would wipe out: the page follows the line without one.
    browser.client.execute("window.stayed = true", vec![]).await.unwrap();
    first.leave().await;
    front.enters().await;
    until("the page shows position 1", SOON, || async { words(&browser.text().await, "1").then_some(()) })
        .await;
    let stayed = browser.client.execute("return window.stayed === true", vec![]).await.unwrap();
    assert_eq!(stayed, json!(true), "the page reloaded to show a new position");
    browser.keep_screenshot(&scene.artifacts.join("moved-up.png")).await;

    second.leave().await;
    until("the browser is in the shop", Duration::from_secs(30), || async {
        browser.text().await.contains("You are in the shop").then_some(())
    })
    .await;
    browser.keep_screenshot(&scene.artifacts.join("inside.png")).await;
    browser.client.clone().close().await.unwrap();
}
