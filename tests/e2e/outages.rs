//! When something is wrong: mistakes in the configuration, a service that is down, a service that drains.

use std::process::Command;
use std::time::Duration;

use crate::harness::visitor::plain_client;
use crate::harness::{SOON, Scene, anteroom, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_a_policy_is_an_error_that_names_it() {
    let scene = Scene::with("a_mistake_in_a_policy_is_an_error_that_names_it", |config| {
        config.replace("capacity: \"2\"", "capacty: \"5\"")
    })
    .await;
    for _ in 0..5 {
        assert_eq!(scene.visitor().get("/shop").await.status, 503);
    }
    assert_eq!(scene.backend.requests(), 0);
    assert_eq!(scene.visitor().get("/open").await.status, 200);

    let log = scene.service_log();
    let named: Vec<_> = log.lines().filter(|line| line.contains("capacty")).collect();
    assert_eq!(named.len(), 1, "one line per distinct mistake: {named:#?}");
    assert!(named[0].contains("shop") && named[0].contains("did you mean capacity"), "{}", named[0]);
    assert!(scene.metric("anteroom_config_errors_total").await >= 1.0);

    let check = Command::new(anteroom()).arg("check-config").arg(&scene.envoy_yaml).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout) + String::from_utf8_lossy(&check.stderr);
    assert_eq!(check.status.code(), Some(1), "{said}");
    for word in ["envoy.yaml", "capacty", "did you mean capacity", "context_extensions"] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
}

#[test]
fn the_configuration_we_ship_has_no_mistakes() {
    let file = crate::harness::root().join("envoy/envoy.yaml");
    let check = Command::new(anteroom()).arg("check-config").arg(&file).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    let valid = Command::new(crate::harness::envoy())
        .args(["--mode", "validate", "--disable-hot-restart", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stderr));
    let missing = Command::new(anteroom()).args(["check-config", "no-such-file.yaml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_service_envoy_answers_503_and_comes_back() {
    let mut scene = Scene::new("without_the_service_envoy_answers_503_and_comes_back").await;
    let inside = scene.inside().await;
    let before = scene.backend.requests();
    scene.kill_service();
    for visitor in [&scene.visitor(), &inside] {
        assert_eq!(visitor.get("/shop").await.status, 503);
    }
    assert_eq!(scene.backend.requests(), before);
    assert_eq!(scene.visitor().get("/open").await.status, 200);
    scene.restart_service().await;
    inside.enters().await;
    until("newcomers are answered", SOON, || async {
        [200, 429].contains(&scene.visitor().get("/shop").await.status).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_has_died_costs_nobody_an_error_before_envoy_notices() {
    const ENDPOINT: &str =
        "        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 50051 } } }\n";
    // Nobody listens on port 1; and without health checks Envoy never notices.
    let dead = ENDPOINT.replace("50051", "1");
    let checks = "    health_checks:\n    - grpc_health_check: {}\n      timeout: 1s\n      interval: 1s\n      \
                  no_traffic_interval: 1s\n      unhealthy_threshold: 2\n      healthy_threshold: 1\n";
    let scene = Scene::with("a_replica_that_has_died_costs_nobody_an_error_before_envoy_notices", |config| {
        config.replace(ENDPOINT, &format!("{ENDPOINT}{dead}")).replace(checks, "")
    })
    .await;
    for _ in 0..10 {
        let status = scene.visitor().get("/shop").await.status;
        assert!([200, 429].contains(&status), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains() {
    let mut scene = Scene::new("sigterm_drains").await;
    let _inside = (scene.inside().await, scene.inside().await);
    let (waiting, _) = scene.in_line().await;
    let mut stream = waiting.stream().await;
    stream.next_named("position", SOON).await;
    let client = plain_client();
    let livez = scene.ports.admin_url("/livez");
    assert_eq!(client.get(&livez).send().await.unwrap().status(), 200);

    scene.service().terminate();
    let readyz = scene.ports.admin_url("/readyz");
    until("readiness is off", SOON, || async {
        let answer = client.get(&readyz).send().await.expect("readiness goes off before the listener goes");
        (answer.status() == 503).then_some(())
    })
    .await;
    // Envoy still sends until it has noticed: what comes meanwhile is answered as ever.
    let answer = waiting.get("/shop").await;
    assert_eq!((answer.status, answer.json()["position"].as_u64()), (429, Some(1)));

    // Streams are ended rather than waited for, and the program says that all went well.
    while stream.next(SOON).await.is_some() {}
    let status = scene.service().ended(Duration::from_secs(10)).await.expect("the drain has a deadline");
    assert_eq!(status.code(), Some(0), "{}", scene.service_log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_and_a_start_cost_nobody_their_place() {
    let mut scene = Scene::new("a_drain_and_a_start_cost_nobody_their_place").await;
    let inside = (scene.inside().await, scene.inside().await);
    let (front, _) = scene.in_line().await;
    let (behind, _) = scene.in_line().await;
    scene.service().terminate();
    scene.service().ended(SOON).await.expect("the drain has a deadline");
    scene.kill_service();
    scene.restart_service().await;
    for (visitor, place) in [(&front, 1), (&behind, 2)] {
        let answer = visitor.get("/shop").await;
        assert_eq!((answer.status, answer.json()["position"].as_u64()), (429, Some(place)));
    }
    inside.0.leave().await;
    front.enters().await;
}
