//! A front end of another origin: tokens by header, no cookies.

use serde_json::json;

use crate::harness::Scene;
use crate::harness::browser::Browser;
use crate::harness::config::EnvoyConfig;

/// The configuration that lets this origin in.
pub(crate) fn allows(config: EnvoyConfig, origin: &str) -> EnvoyConfig {
    config.replace("exact: http://localhost:3000", &format!("exact: {origin}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_end_of_another_origin_waits_and_enters() {
    // Short enough for the pass to be renewed, after a quarter of that, while the test looks.
    let limits = [("capacity", "2"), ("session_ttl", "60s"), ("claim_ttl", "60s")];
    let scene = Scene::with_origin("a_front_end_of_another_origin_waits_and_enters", |config, origin| {
        // The client API asks the room, the protected route Envoy's filter.
        let limits = [&limits[..], &[("allow_origins", origin)]].concat();
        allows(config.limits(&limits), origin)
    })
    .await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let browser = Browser::at(&format!("{}/open/blank", scene.backend.origin())).await;
    let site = scene.ports.url("");
    let waits = browser
        .run(
            "const { Anteroom } = await import(found + '/anteroom/v1/anteroom.js');
             window.site = found;
             window.line = new Anteroom({ room: 'shop', base: found + '/anteroom/v1' });
             window.told = [];
             const standing = await line.join();
             line.watch((standing) => told.push(standing)).then((standing) => (window.end = standing.status));
             return [standing.status, standing.position, typeof line.ticket];",
            json!(site),
        )
        .await;
    assert_eq!(waits, json!(["waiting", 1, "string"]));
    browser.until("told.length > 0").await;
    first.leave().await;
    browser.until("window.end === 'called'").await;
    let inside = browser
        .run(
            "const standing = await line.enter();
             window.pass = line.pass;
             const answer = await line.fetch(site + '/shop', { headers: { accept: 'application/json' } });
             return [standing.status, (await answer.json()).title, Object.keys(line.headers)];",
            json!(null),
        )
        .await;
    assert_eq!(inside, json!(["admitted", "You are in the shop", ["x-anteroom-pass"]]));

    // Inside for longer than a pass lasts, as the renewed one comes by header where the old one came by header.
    browser
        .run(
            "window.statuses = [];
             setInterval(async () => statuses.push((await line.fetch(site + '/shop')).status), 500);",
            json!(null),
        )
        .await;
    browser.until("line.pass !== pass").await;
    let looks = browser.value("statuses.length").await;
    browser.until(&format!("statuses.length > {looks}")).await;
    assert_eq!(browser.value("statuses.every((status) => status === 200)").await, json!(true));
    // A page of an origin that nobody named gets nothing to read.
    let stranger = scene.backend.origin().replace("127.0.0.1", "localhost");
    browser.client.goto(&format!("{stranger}/open/blank")).await.unwrap();
    let refused = browser
        .run(
            "const { Anteroom } = await import(found + '/anteroom/v1/anteroom.js');
             const line = new Anteroom({ room: 'shop', base: found + '/anteroom/v1' });
             return await line.position().catch((error) => error.kind);",
            json!(site),
        )
        .await;
    assert_eq!(refused, json!("network"));
}
