//! The JavaScript client in a real browser, at a site that does what the test says.

use std::time::Duration;

use anteroom::room::standing::Status;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::site::{Site, Stream, become_, waiting};
use crate::until::{SOON, until_true};

/// A page that watches its place: what was told is in `told`, the end in `end`.
async fn watching(site: &Site, options: Value) -> Browser {
    let browser = Browser::at(&site.blank()).await;
    let started = browser.run(WATCH, options).await;
    assert_eq!(started, json!("watching"));
    browser
}

const WATCH: &str = "
    const { Anteroom } = await import('/anteroom/v1/anteroom.js');
    window.line = new Anteroom({ room: 'shop', ...found });
    window.told = [];
    window.abort = new AbortController();
    line.watch((standing) => told.push(standing), abort)
      .then((standing) => (window.end = standing.status), (error) => (window.end = error.kind ?? error.name));
    return 'watching';";

#[tokio::test(flavor = "multi_thread")]
async fn the_client_follows_the_stream_to_its_end() {
    let site = Site::start(waiting(17, 3), Stream::Live).await;
    let browser = watching(&site, json!({})).await;
    browser.until("told.at(-1)?.position === 3").await;
    site.now(|script| script.standing = Some(waiting(17, 2)));
    browser.until("told.at(-1)?.position === 2").await;
    site.now(|script| script.standing = Some(become_(Status::Called, 17)));
    browser.until("window.end === 'called'").await;
    let seen = site.seen();
    assert_eq!((seen.streams.len(), seen.polls.len()), (1, 0), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_polls_where_there_is_no_stream_and_waits_as_told() {
    let site = Site::start(waiting(17, 3), Stream::Missing).await;
    let browser = watching(&site, json!({ "ticket": "the.ticket" })).await;
    browser.until("told.at(-1)?.position === 3").await;
    assert!(site.seen().tickets.iter().all(|ticket| ticket == "the.ticket"), "{:?}", site.seen());
    // An outage that says how long it takes, and one that does not.
    site.now(|script| (script.poll, script.retry_after) = (503, Some(3)));
    let polls = site.seen().polls.len();
    until_true("two polls in the outage", SOON, || site.seen().polls.len() >= polls + 2).await;
    let seen = site.seen().polls;
    let gap = seen[polls + 1] - seen[polls];
    assert!(gap >= Duration::from_millis(2_900), "asked again after {gap:?}");
    site.now(|script| (script.poll, script.retry_after) = (500 + 4, None));
    let polls = site.seen().polls.len();
    until_true("another poll", SOON, || site.seen().polls.len() > polls).await;
    site.now(|script| {
        script.poll = 200;
        script.standing = Some(waiting(17, 1));
    });
    browser.until("told.at(-1)?.position === 1").await;
    site.now(|script| script.standing = Some(become_(Status::Gone, 17)));
    browser.until("window.end === 'gone'").await;
    assert_eq!(browser.value("[line.ticket ?? null, line.standing.status]").await, json!([null, "gone"]));
    site.assert_never_hammered();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_takes_a_broken_stream_up_again() {
    let site = Site::start(waiting(17, 3), Stream::BreaksOff).await;
    let browser = watching(&site, json!({})).await;
    until_true("three streams", SOON, || site.seen().streams.len() >= 3).await;
    browser.value("abort.abort()").await;
    browser.until("window.end === 'AbortError'").await;
    let seen = site.seen();
    assert_eq!(
        (&seen.last_ids[..2], seen.polls.len()),
        (&[String::new(), "3".to_owned()][..], 0),
        "{seen:?}"
    );
    site.assert_never_hammered();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_gives_up_only_what_waiting_cannot_mend() {
    for (status, kind) in [(401, "no_token"), (404, "no_room")] {
        let site = Site::start(waiting(17, 3), Stream::Missing).await;
        site.now(|script| script.poll = status);
        let browser = watching(&site, json!({})).await;
        browser.until(&format!("window.end === '{kind}'")).await;
        assert_eq!(site.seen().polls.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_checks_in_with_another_nonce_each_time() {
    let site = Site::start(become_(Status::Called, 17), Stream::Live).await;
    site.now(|script| script.enter = 409);
    let browser = watching(&site, json!({})).await;
    browser.until("window.end === 'called'").await;
    browser
        .value("void line.enter().then((now) => (window.inside = now.status), (error) => (window.inside = error.status))")
        .await;
    until_true("two check-ins", SOON, || site.seen().nonces.len() >= 2).await;
    site.now(|script| script.enter = 200);
    browser.until("window.inside === 'admitted'").await;
    let nonces = site.seen().nonces;
    assert!(nonces.iter().all(|nonce| nonce.len() == 36), "{nonces:?}");
    assert!(nonces.windows(2).all(|pair| pair[0] != pair[1]), "{nonces:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_say_when_they_are_left_while_waiting() {
    // The client, with its token in the body, as a beacon has no headers.
    let site = Site::start(waiting(17, 3), Stream::Live).await;
    let browser = watching(&site, json!({ "ticket": "the.ticket" })).await;
    browser.until("told.length > 0").await;
    browser.client.goto("about:blank").await.unwrap();
    until_true("a farewell", SOON, || !site.seen().farewells.is_empty()).await;
    assert_eq!(site.seen().farewells, [json!({ "ticket": "the.ticket" }).to_string()]);

    // The waiting page, with its cookies. Loading itself to enter it says nothing.
    browser.client.goto(&site.shop()).await.unwrap();
    browser
        .until("document.querySelector('[data-anteroom=connection]').textContent.startsWith('Live')")
        .await;
    site.now(|script| {
        script.standing = Some(become_(Status::Called, 17));
        script.open = true;
    });
    browser.until("document.title === 'Inside'").await;
    site.now(|script| {
        script.standing = Some(waiting(18, 3));
        script.open = false;
    });
    browser.client.goto(&site.shop()).await.unwrap();
    browser
        .until("document.querySelector('[data-anteroom=connection]').textContent.startsWith('Live')")
        .await;
    assert_eq!(site.seen().farewells.len(), 1, "{:?}", site.seen());
    browser.client.goto("about:blank").await.unwrap();
    until_true("another farewell", SOON, || site.seen().farewells.len() == 2).await;
}
