//! The JavaScript client through Envoy: the example, the fallback to polling, and tokens kept by the client.

use fantoccini::Locator;
use serde_json::json;

use crate::harness::browser::Browser;
use crate::harness::{SOON, Scene, until_true};

const LIMITS: [(&str, &str); 3] = [("capacity", "2"), ("session_ttl", "5m"), ("claim_ttl", "60s")];

/// Presses the button with this id.
pub(crate) async fn press(browser: &Browser, id: &str) {
    browser.client.find(Locator::Id(id)).await.unwrap().click().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_waits_enters_buys_and_leaves() {
    let scene = Scene::with("the_example_waits_enters_buys_and_leaves", |c| c.limits(&LIMITS)).await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let browser = Browser::at(&scene.ports.url("/open/spa")).await;

    let before = scene.backend.requests();
    press(&browser, "buy").await;
    browser.until("document.getElementById('says').textContent.startsWith('Position 1 of 1')").await;
    let (behind, position) = scene.in_line().await;
    assert_eq!((position, scene.backend.requests()), (2, before), "who waits reaches no backend");
    browser.keep_screenshot(&scene.artifacts.join("waiting.png")).await;

    first.leave().await;
    browser.until("document.getElementById('says').textContent === 'You are inside.'").await;
    browser.until("document.getElementById('answer').textContent.includes('x-anteroom-number')").await;
    browser.keep_screenshot(&scene.artifacts.join("inside.png")).await;
    // The pass holds for the next request as well.
    press(&browser, "buy").await;
    until_true("another request", SOON, || scene.backend.requests() == before + 2).await;

    assert_eq!(behind.standing().await["position"], 1);
    press(&browser, "leave").await;
    browser.until("document.getElementById('says').textContent === 'Goodbye.'").await;
    behind.enters().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_streams_the_client_polls() {
    let scene = Scene::with("without_streams_the_client_polls", |config| {
        // The route of streams, and the first of the client API's: what it finds is refused.
        let stream = "- match: { safe_regex: { regex: \"/anteroom/v1/rooms/[^/]+/stream\" } }\n";
        let refused = "- match: { safe_regex: { regex: \"/anteroom/v1/rooms/[^/]+/stream\" } }\n                direct_response: { status: 403 }\n                typed_per_filter_config: { envoy.filters.http.ext_authz: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, disabled: true } }\n              - match: { path: /a-stream-that-nobody-asks-for }\n";
        config.limits(&LIMITS).replace(stream, refused)
    })
    .await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let browser = Browser::at(&scene.ports.url("/open/spa")).await;
    press(&browser, "buy").await;
    browser.until("document.getElementById('says').textContent.startsWith('Position 1 of 1')").await;
    first.leave().await;
    browser.until("document.getElementById('says').textContent === 'You are inside.'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_is_cached_and_its_errors_have_a_kind() {
    let scene = Scene::with("the_client_is_cached_and_its_errors_have_a_kind", |c| c.limits(&LIMITS)).await;
    let (_first, _second) = (scene.inside().await, scene.inside().await);
    let visitor = scene.visitor();
    let path = "/anteroom/v1/anteroom.js";
    let script = visitor.get(path).await;
    assert_eq!((script.status, script.header("content-type")), (200, "text/javascript; charset=utf-8"));
    assert_eq!(script.header("cache-control"), "public, max-age=3600");
    let tag = script.header("etag");
    let again = visitor.send(reqwest::Method::GET, path, &[("if-none-match", tag)]).await;
    assert_eq!((again.status, again.text.as_str()), (304, ""));

    let browser = Browser::at(&scene.ports.url("/open/blank")).await;
    let found = browser
        .run(
            "const { Anteroom } = await import('/anteroom/v1/anteroom.js');
             const kind = (doing) => doing.then((done) => done.status, (error) => `${error.kind} ${error.status}`);
             const line = new Anteroom({ room: 'shop', storage: sessionStorage });
             const found = [await kind(line.position()), await kind(new Anteroom({ room: 'nowhere' }).join())];
             found.push(await kind(line.join()), await kind(line.enter()));
             // Found again after a reload: the tokens, not a new place.
             const again = new Anteroom({ room: 'shop', storage: sessionStorage });
             found.push((await again.join()).number === line.standing.number, document.cookie);
             // A request of one's own that has to wait says so, with the standing.
             found.push(await again.fetch('/shop/basket').catch((e) => [e.kind, e.standing.position, e.retryAfter > 0]));
             await again.leave();
             found.push(await kind(again.position()));
             return found;",
            json!(null),
        )
        .await;
    let expected = json!([
        "no_token 401",
        "no_room 404",
        "waiting",
        "not_called 403",
        true,
        "",
        ["waiting", 1, true],
        "no_token 401"
    ]);
    assert_eq!(found, expected);
}
