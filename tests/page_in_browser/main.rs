//! The waiting page in a real browser: it follows the stream, falls back to polling, enters by itself, and never
//! hammers the site it waits for.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/browser.rs"]
mod browser;
mod client;
mod site;
#[path = "../support/until.rs"]
mod until;

use std::time::Duration;

use anteroom::page::Lang;
use anteroom::room::standing::{Eta, Standing, Status};
use browser::{Browser, Manner};
use serde_json::json;
use site::{Site, Stream, become_, waiting};
use until::{SOON, until_true};

async fn open(site: &Site) -> Browser {
    open_with(site, Manner::default()).await
}

async fn open_with(site: &Site, manner: Manner) -> Browser {
    let browser = Browser::start(manner).await;
    browser.client.goto(&site.shop()).await.unwrap();
    browser
}

/// The expression for the text the page shows under a name.
fn shown(name: &str, text: &str) -> String {
    format!("document.querySelector('[data-anteroom={name}]').textContent === {}", json!(text))
}

const INSIDE: &str = "document.title === 'Inside'";

#[tokio::test(flavor = "multi_thread")]
async fn follows_the_stream_and_enters_by_itself() {
    let site = Site::start(waiting(17, 1_003), Stream::Live).await;
    let browser = open(&site).await;
    browser.until(&shown("position", "1,003")).await;
    browser
        .until("document.querySelector('[data-anteroom=connection]').textContent.startsWith('Live · as of ')")
        .await;
    // The policy lets the page's own style and script through.
    browser
        .until("getComputedStyle(document.querySelector('.door')).backgroundImage.includes('gradient')")
        .await;
    browser.until("document.querySelector('progress').hidden").await;

    site.now(|script| script.standing = Some(waiting(17, 3)));
    browser.until(&shown("position", "3")).await;
    browser.until(&shown("ahead", "2")).await;
    browser.until("document.title === '(3) In line · shop'").await;
    browser.until(&shown("moved", "Moved up 1,000 since you arrived at position 1,003")).await;
    browser.until("document.querySelector('progress').position.toFixed(3) === '0.997'").await;

    // What matters is told to a screen reader without waiting for the next ten seconds.
    site.now(|script| script.standing = Some(waiting(17, 1)));
    browser.until(&shown("headline", "You’re next")).await;
    browser
        .until(&shown("spoken", "You’re next. Position 1. Estimated wait: about 3 minutes (2 to 5)."))
        .await;

    site.now(|script| {
        script.standing = Some(become_(Status::Called, 17));
        script.open = true;
    });
    browser.until(INSIDE).await;
    let seen = site.seen();
    assert_eq!((seen.pages.len(), seen.streams.len(), seen.polls.len()), (2, 1, 0), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_where_there_is_no_stream() {
    let site = Site::start(waiting(17, 3), Stream::Missing).await;
    let browser = open(&site).await;
    site.now(|script| script.standing = Some(waiting(17, 2)));
    browser.until(&shown("position", "2")).await;
    browser
        .until("document.querySelector('[data-anteroom=connection]').textContent.startsWith('Checking every 1 s')")
        .await;
    // An outage in between is survived.
    let polls = site.seen().polls.len();
    site.now(|script| script.poll = 503);
    until_true("another poll", SOON, || site.seen().polls.len() > polls).await;
    browser.until(&shown("connection", "Connection lost. Trying again automatically.")).await;
    site.now(|script| {
        script.poll = 200;
        script.standing = Some(become_(Status::Called, 17));
    });
    browser.until(&shown("headline", "It’s your turn")).await;
    site.now(|script| script.open = true);
    browser.until(INSIDE).await;
    // All but the entering itself, which follows a standing at once.
    let seen = site.seen();
    assert_eq!(seen.streams.len(), 1, "{seen:?}");
    for pair in seen.polls.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(900), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_is_no_end() {
    let site = Site::start(waiting(17, 3), Stream::BreaksOff).await;
    let browser = open(&site).await;
    until_true("the stream was taken up again", SOON, || site.seen().streams.len() >= 2).await;
    site.now(|script| script.standing = Some(waiting(17, 2)));
    browser.until(&shown("position", "2")).await;
    site.now(|script| script.stream = Stream::Missing);
    site.now(|script| script.standing = Some(waiting(17, 1)));
    browser.until(&shown("position", "1")).await;
    site.assert_never_hammered();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_place_is_said_and_can_be_taken_anew() {
    let site = Site::start(waiting(17, 3), Stream::Live).await;
    let browser = open(&site).await;
    browser
        .until("document.querySelector('[data-anteroom=connection]').textContent.startsWith('Live')")
        .await;
    site.now(|script| script.standing = Some(become_(Status::Gone, 17)));
    browser.until(&shown("headline", "Your place in line is gone")).await;
    browser.until("document.title === 'Place lost · shop'").await;
    assert_eq!(site.seen().pages.len(), 1, "nobody lines up again unasked");
    site.now(|script| script.standing = Some(waiting(40, 9)));
    let again =
        "[...document.querySelectorAll('a')].filter((a) => a.checkVisibility()).map((a) => a.textContent)";
    assert_eq!(browser.value(again).await, json!(["Line up again"]));
    let link = browser.client.find(fantoccini::Locator::LinkText("Line up again")).await.unwrap();
    link.click().await.unwrap();
    browser.until(&shown("number", "40")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_ticket_loads_the_page_anew() {
    let site = Site::start(waiting(17, 3), Stream::Missing).await;
    site.now(|script| script.poll = 410);
    let browser = open(&site).await;
    until_true("a poll", SOON, || !site.seen().polls.is_empty()).await;
    site.now(|script| {
        script.standing = Some(waiting(41, 5));
        script.poll = 200;
    });
    browser.until(&shown("number", "41")).await;
    assert_eq!(site.seen().pages.len(), 2);
    site.assert_never_hammered();
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_that_do_not_help_grow_rare() {
    // The page goes on saying "waiting" while the stream says "called": a disagreement must not become a storm.
    let site = Site::start(become_(Status::Called, 17), Stream::Live).await;
    site.now(|script| script.page = Some(waiting(17, 1)));
    let _browser = open(&site).await;
    until_true("three automatic reloads", SOON, || site.seen().pages.len() >= 4).await;
    let pages = site.seen().pages;
    // Before each reload the stream is opened after at least a second; then comes the pause: none, 2 s, 4 s, each
    // ± 20 %.
    for (pair, least) in pages.windows(2).zip([1_000, 2_600, 4_200]) {
        let gap = pair[1] - pair[0];
        assert!(gap >= Duration::from_millis(least - 100), "{gap:?} is less than {least} ms");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fragment_does_not_keep_anybody_out() {
    let site = Site::start(waiting(17, 1), Stream::Live).await;
    let browser = open(&site).await;
    browser.client.goto(&format!("{}#basket", site.shop())).await.unwrap();
    site.now(|script| {
        script.standing = Some(become_(Status::Admitted, 17));
        script.open = true;
    });
    browser.until(INSIDE).await;
    assert_eq!(browser.value("location.hash").await, json!("#basket"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_served_to_somebody_called_checks_in_with_a_nonce_of_its_own() {
    let site = Site::start(waiting(17, 1), Stream::Live).await;
    site.now(|script| script.enter = 409);
    let browser = open(&site).await;
    browser.until(&shown("position", "1")).await;
    assert!(site.seen().nonces.is_empty());
    // Loaded again, the page still says so: this room lets nobody in by that.
    site.now(|script| script.standing = Some(become_(Status::Called, 17)));
    until_true("two check-ins", SOON, || site.seen().nonces.len() >= 2).await;
    assert_eq!(site.seen().pages.len(), 2, "{:?}", site.seen());
    site.now(|script| script.enter = 200);
    browser.until(INSIDE).await;
    let seen = site.seen();
    assert_eq!(seen.pages.len(), 3, "{seen:?}");
    let plain = |nonce: &String| {
        (16..=64).contains(&nonce.len())
            && nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    assert!(seen.nonces.iter().all(plain), "{seen:?}");
    let different: std::collections::HashSet<_> = seen.nonces.iter().collect();
    assert_eq!(different.len(), seen.nonces.len(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_ends_by_itself() {
    let site = Site::start(waiting(17, 3), Stream::Live).await;
    site.now(|script| script.standing = None);
    let browser = open(&site).await;
    browser.until(&shown("headline", "We’re lining you up")).await;
    until_true("another try", SOON, || site.seen().pages.len() >= 2).await;
    site.now(|script| script.standing = Some(waiting(17, 3)));
    browser.until(&shown("number", "17")).await;
    site.assert_never_hammered();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_script_the_page_refreshes_itself_and_enters() {
    let site = Site::start(waiting(17, 3), Stream::Live).await;
    let _browser = open_with(&site, Manner { scripts: false, ..Manner::default() }).await;
    until_true("two refreshes", SOON, || site.seen().pages.len() >= 3).await;
    let seen = site.seen();
    assert!(seen.streams.is_empty() && seen.polls.is_empty(), "scripts ran: {seen:?}");
    site.now(|script| script.open = true);
    let loads = site.seen().pages.len();
    until_true("the visitor is inside", SOON, || site.seen().pages.len() > loads).await;
}

/// Standings that take every turn of the wording.
fn every_wording() -> Vec<Standing> {
    let mut standings = vec![
        waiting(17, 1),
        waiting(1_234_567, 1_234_567),
        Standing { eta: None, ..waiting(17, 2) },
        become_(Status::Called, 17),
        become_(Status::Gone, 17),
    ];
    for (seconds, low, high, confidence) in [
        (0, 0, 0, 1.0),
        (12, 9, 18, 0.2),
        (32, 27, 90, 0.6),
        (60, 40, 91, 0.5),
        (90, 29, 150, 0.49),
        (3_600, 2_430, 5_400, 0.8),
        (3_600, 2_700, 5_401, 0.8),
        (9_900, 8_100, 400_000, 0.8),
        (172_799, 100_000, 300_000, 0.8),
        (172_800, 100_000, 300_000, 0.2),
    ] {
        let eta = Some(Eta { seconds, low, high, confidence });
        standings.push(Standing { eta, ..waiting(999, 1_000) });
    }
    standings
}

#[tokio::test(flavor = "multi_thread")]
async fn script_and_server_say_the_same_at_every_width() {
    let site = Site::start(waiting(17, 3), Stream::Missing).await;
    let browser = open_with(&site, Manner { width: 320, ..Manner::default() }).await;
    // The page as it came from the server next to the page after its script took in the same standing.
    let compare = r"
        const [done] = arguments;
        fetch('/shop', { headers: { 'x-test': '1' } }).then((answer) => answer.text()).then((html) => {
          const served = new DOMParser().parseFromString(html, 'text/html');
          const read = (page) => [page.title, page.body.dataset.anteroomStatus].concat(
            'headline lead position ahead waiting number eta eta_note'.split(' ').map((name) => {
              const element = page.querySelector(`[data-anteroom=${name}]`);
              return element.textContent + (element.dataset.length || '');
            }));
          const overflow = document.documentElement.scrollWidth - innerWidth;
          done({ served: read(served), shown: read(document), overflow, width: innerWidth });
        });";
    for lang in [Lang::En, Lang::Ko] {
        for standing in every_wording() {
            site.now(|script| {
                script.standing = Some(standing.clone());
                script.lang = lang;
            });
            // As after many reloads that did not help: a called visitor stays long enough to be read.
            browser
                .value(
                    "sessionStorage.setItem('anteroom:shop', JSON.stringify({ reloads: 9, at: Date.now() }))",
                )
                .await;
            browser.client.goto(&site.shop()).await.unwrap();
            let found = browser.client.execute_async(compare, Vec::new()).await.unwrap();
            let what = format!("{} {standing:?}", lang.as_str());
            let (mut served, mut shown) = (found["served"].clone(), found["shown"].clone());
            if standing.status != Status::Waiting {
                // What is hidden in the other states keeps its last text.
                for texts in [&mut served, &mut shown] {
                    texts.as_array_mut().unwrap().truncate(5);
                }
            }
            assert_eq!(served, shown, "{what}");
            assert_eq!(found["width"], json!(320), "{what}");
            assert!(found["overflow"].as_i64().unwrap() <= 0, "scrolls sideways: {what}: {found}");
        }
    }
}
