//! Tabs that are closed, reloaded and doubled: who has gone frees the place, who is still there keeps it.

use std::time::Duration;

use fantoccini::wd::WindowHandle;
use serde_json::json;

use crate::client::press;
use crate::harness::browser::Browser;
use crate::harness::visitor::Visitor;
use crate::harness::{SOON, Scene, until};

const LIMITS: [(&str, &str); 3] = [("capacity", "1"), ("session_ttl", "5m"), ("claim_ttl", "60s")];

/// A room that is full, a browser that waits with `path` before a plain visitor, and the browser's first tab.
async fn waiting_at(test: &str, path: &str, waits: &str) -> (Scene, Visitor, Visitor, Browser, WindowHandle) {
    let scene = Scene::with(test, |config| config.limits(&LIMITS)).await;
    let inside = scene.inside().await;
    // The first tab stays, or the browser would end with the tab that is closed.
    let browser = Browser::at(&scene.ports.url("/open/blank")).await;
    let home = browser.client.window().await.unwrap();
    browser.open_tab(&scene.ports.url(path)).await;
    if path == SPA {
        press(&browser, "buy").await;
    }
    browser.until(waits).await;
    let (behind, position) = scene.in_line().await;
    assert_eq!(position, 2);
    (scene, inside, behind, browser, home)
}

const SPA: &str = "/open/spa";
const SPA_FIRST: &str = "document.getElementById('says').textContent.startsWith('Position 1 ')";
const PAGE_FIRST: &str = "document.querySelector('[data-anteroom=position]')?.textContent === '1' \
                          && document.querySelector('[data-anteroom=connection]').textContent.startsWith('Live')";
const NUMBER: &str = "document.querySelector('[data-anteroom=number]').textContent";

async fn is_at(visitor: &Visitor, position: u64, within: Duration) {
    until("the one behind has moved", within, || async {
        (visitor.standing().await["position"] == position).then_some(())
    })
    .await;
}

/// Whoever is behind does not move up, although the grace has passed.
async fn stays_second(visitor: &Visitor) {
    let calm = tokio::time::Instant::now() + GRACE;
    until("the grace has passed", GRACE * 2, || async {
        assert_eq!(visitor.standing().await["position"], 2, "the place in front was given up");
        (tokio::time::Instant::now() > calm).then_some(())
    })
    .await;
}

/// More than it takes until a place whose page went away is given up (at most 27 s).
const GRACE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_tab_of_the_waiting_page_gives_up_its_place() {
    let test = "a_closed_tab_of_the_waiting_page_gives_up_its_place";
    let (_scene, _inside, behind, browser, home) = waiting_at(test, "/shop", PAGE_FIRST).await;
    browser.close_tab(home).await;
    is_at(&behind, 1, GRACE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_tab_of_an_app_gives_up_its_place() {
    let test = "a_closed_tab_of_an_app_gives_up_its_place";
    let (_scene, _inside, behind, browser, home) = waiting_at(test, SPA, SPA_FIRST).await;
    browser.close_tab(home).await;
    is_at(&behind, 1, GRACE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_place_and_number() {
    let test = "a_reload_keeps_place_and_number";
    let (_scene, inside, behind, browser, _home) = waiting_at(test, "/shop", PAGE_FIRST).await;
    let number = browser.value(NUMBER).await;
    browser.client.refresh().await.unwrap();
    browser.until(PAGE_FIRST).await;
    assert_eq!(browser.value(NUMBER).await, number);
    stays_second(&behind).await;
    assert_eq!(browser.value(NUMBER).await, number);
    // And it is the browser's turn first.
    inside.leave().await;
    browser.until("document.title === 'You are in the shop'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tabs_one_may_be_closed() {
    let test = "of_two_tabs_one_may_be_closed";
    let (scene, _inside, behind, browser, home) = waiting_at(test, "/shop", PAGE_FIRST).await;
    let number = browser.value(NUMBER).await;
    let first = browser.client.window().await.unwrap();
    browser.open_tab(&scene.ports.url("/shop")).await;
    browser.until(PAGE_FIRST).await;
    assert_eq!(browser.value(NUMBER).await, number, "two tabs of one visitor are one place");
    browser.close_tab(first).await;
    stays_second(&behind).await;
    // The last one closed is the end of it.
    browser.close_tab(home).await;
    is_at(&behind, 1, GRACE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_frees_place_and_slot_at_once() {
    let test = "leaving_frees_place_and_slot_at_once";
    let (_scene, inside, behind, browser, _home) = waiting_at(test, SPA, SPA_FIRST).await;
    press(&browser, "leave").await;
    is_at(&behind, 1, SOON).await;

    // Back in line, in, and out for good with the tab: only an app that says so ends its session by that.
    browser
        .run(
            "const { Anteroom } = await import('/anteroom/v1/anteroom.js');
             window.shop = new Anteroom({ room: 'shop', leaveOnHide: 'session' });
             await shop.join();
             shop.watch().then(() => shop.enter());",
            json!(null),
        )
        .await;
    inside.leave().await;
    behind.enters().await;
    behind.leave().await;
    browser.until("shop.standing.status === 'admitted'").await;
    let last = behind;
    assert_eq!(last.get("/shop").await.status, 429);
    browser.client.goto("about:blank").await.unwrap();
    last.enters().await;
}
