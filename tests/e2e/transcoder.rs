//! gRPC as JSON through `envoy/transcoder.yaml`.

use std::process::Command;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::program::Program;
use crate::harness::visitor::plain_client;
use crate::harness::{SOON, Scene, envoy, ports, root, until};

/// Where the service's description is kept for Envoy.
const DESCRIPTOR: &str = "envoy/anteroom.v1.pb";

#[test]
fn the_description_is_that_of_the_service() {
    let all = FileDescriptorSet::decode(anteroom::pb::FILE_DESCRIPTOR_SET).unwrap();
    let ours = all.file.into_iter().filter(|file| file.package() == "anteroom.v1").collect();
    let built = FileDescriptorSet { file: ours }.encode_to_vec();
    let kept = root().join(DESCRIPTOR);
    if std::env::var_os("ANTEROOM_RENEW").is_some() {
        std::fs::write(&kept, &built).unwrap();
    }
    let same = std::fs::read(kept).is_ok_and(|kept| kept == built);
    assert!(same, "{DESCRIPTOR} is not what proto/ says: run ANTEROOM_RENEW=1 make e2e ONLY=the_description");
}

/// Envoy with the transcoder before this scene's service, and its address.
async fn transcoder(scene: &Scene) -> (Program, String) {
    let (public, admin) = (ports::free(), ports::free());
    let mut text = std::fs::read_to_string(root().join("envoy/transcoder.yaml")).unwrap();
    for (default, port) in [(8080, public), (9901, admin), (50052, scene.ports.grpc)] {
        let stated = format!("port_value: {default} }}");
        assert_eq!(
            text.matches(&stated).count(),
            1,
            "envoy/transcoder.yaml should state {stated:?} exactly once"
        );
        text = text.replace(&stated, &format!("port_value: {port} }}"));
    }
    let yaml = scene.artifacts.join("transcoder.yaml");
    std::fs::write(&yaml, text).unwrap();
    let mut command = Command::new(envoy());
    // The description's path is relative to the package's folder.
    command.current_dir(root()).arg("-c").arg(&yaml);
    command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]);
    let mut program = Program::start("transcoder", &mut command, &scene.artifacts);
    let client = plain_client();
    until("the transcoder is ready", SOON, || async {
        let ready = client.get(format!("http://127.0.0.1:{admin}/ready")).send().await;
        ready.is_ok_and(|answer| answer.status() == 200).then_some(())
    })
    .await;
    program.must_run();
    (program, format!("http://127.0.0.1:{public}"))
}

fn request(at: &str, method: &str, message: &Value) -> RequestBuilder {
    plain_client().post(format!("{at}/anteroom.v1.WaitingRoom/{method}")).json(message)
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn call(at: &str, method: &str, message: Value) -> (u16, Value) {
    answer(request(at, method, &message)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_joins_watches_enters_and_leaves() {
    let scene = Scene::new("json_joins_watches_enters_and_leaves").await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let (_transcoder, at) = transcoder(&scene).await;

    let (status, joined) = call(&at, "Join", json!({ "room": "shop" })).await;
    let standing = &joined["standing"];
    assert_eq!((status, &standing["status"]), (200, &json!("STATUS_WAITING")), "{joined}");
    // As the file says: 64-bit numbers are strings.
    assert_eq!(standing["position"], "1");
    let ticket = joined["ticket"].as_str().unwrap().to_owned();
    let shown = json!({ "room": "shop", "ticket": ticket });

    let (status, refused) = call(&at, "Enter", shown.clone()).await;
    assert_eq!((status, &refused["code"]), (400, &json!(9)), "{refused}");
    let (status, refused) = call(&at, "GetPosition", json!({ "room": "shop", "ticket": "none" })).await;
    assert_eq!((status, &refused["code"]), (401, &json!(16)), "{refused}");
    let by_header =
        request(&at, "GetPosition", &json!({ "room": "shop" })).header("x-anteroom-ticket", &ticket);
    let (status, told) = answer(by_header).await;
    assert_eq!((status, &told["standing"]["position"]), (200, &json!("1")), "{told}");

    let mut stream = request(&at, "WatchPosition", &shown).timeout(SOON * 2).send().await.unwrap();
    let mut text = String::new();
    let mut first = Some(first);
    while let Some(bytes) = stream.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        if text.contains("STATUS_WAITING")
            && let Some(first) = first.take()
        {
            first.leave().await;
        }
    }
    let events: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert!(events.iter().all(|line| line.starts_with("data: {")), "bare data lines: {text}");
    assert!(events.last().unwrap().contains("STATUS_CALLED"), "{text}");

    let (status, entered) = call(&at, "Enter", shown.clone()).await;
    assert_eq!((status, &entered["standing"]["status"]), (200, &json!("STATUS_ADMITTED")), "{entered}");
    let pass = entered["pass"].as_str().unwrap();
    let inside = scene.visitor().send(Method::GET, "/shop", &[("x-anteroom-pass", pass)]).await;
    assert_eq!(inside.status, 200);
    let (status, left) = call(&at, "Leave", json!({ "room": "shop", "ticket": ticket, "pass": pass })).await;
    assert_eq!((status, left), (200, json!({})));
    scene.visitor().enters().await;
}
