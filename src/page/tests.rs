//! What every rendered page must be: complete, escaped, self-contained, small, readable.

use std::collections::BTreeMap;

use super::*;
use crate::room::standing::Eta;

const NONCE: &str = "bm9uY2Utbm9uY2U=";
/// What a rendered page may weigh, in bytes.
const MAX_PAGE_BYTES: usize = 18 * 1_024;

fn standing(status: Status) -> Standing {
    let eta = Some(Eta { seconds: 180, low: 120, high: 300, confidence: 0.8 });
    let position = if status == Status::Waiting { 1_234 } else { 0 };
    let room = RoomName::parse("shop").unwrap();
    Standing { status, room, number: 5_678, position, waiting: 9_999, eta, poll_after: 7 }
}

/// Every state in every language, by name.
fn every_page(page: &Page) -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let room = RoomName::parse("shop").unwrap();
    for lang in [Lang::Ko, Lang::En] {
        for status in [Status::Waiting, Status::Called, Status::Admitted, Status::Gone] {
            let html = page.render(lang, &View::Standing(&standing(status)), NONCE);
            pages.insert(format!("{} {}", status.as_str(), lang.as_str()), html);
        }
        let hold = View::Hold { room: &room, retry_after: 3 };
        pages.insert(format!("hold {}", lang.as_str()), page.render(lang, &hold, NONCE));
    }
    pages
}

#[test]
fn a_waiting_visitor_reads_everything_without_script() {
    let pages = every_page(&Page::builtin());
    let en = &pages["waiting en"];
    for said in [
        "<html lang=\"en\">",
        "<title>(1,234) In line · shop</title>",
        "You’re in line",
        ">1,234</p>",
        ">1,233<",
        ">9,999<",
        ">5,678<",
        ">about 3 minutes (2 to 5)<",
        "<noscript><meta http-equiv=\"refresh\" content=\"7\"></noscript>",
        "This page refreshes itself every 7 s.",
        "Keep this tab open.",
        "data-anteroom-status=\"waiting\"",
    ] {
        assert!(en.contains(said), "{said:?} is missing");
    }
    let ko = &pages["waiting ko"];
    for said in [
        "<html lang=\"ko\">",
        "순서를 기다리고 있어요",
        ">1,233명<",
        ">5,678번<",
        ">약 3분 (2~5분)<",
        "7초마다",
    ] {
        assert!(ko.contains(said), "{said:?} is missing");
    }
}

#[test]
fn every_state_says_what_it_is() {
    let pages = every_page(&Page::builtin());
    for (name, headline) in [
        ("called en", "It’s your turn"),
        ("admitted en", "It’s your turn"),
        ("gone en", "Your place in line is gone"),
        ("hold en", "We’re lining you up"),
        ("called ko", "차례가 됐어요"),
        ("gone ko", "대기 순서가 만료됐어요"),
        ("hold ko", "줄을 준비하고 있어요"),
    ] {
        assert!(pages[name].contains(&format!("data-anteroom=\"headline\">{headline}</h1>")), "{name}");
    }
    // A forgotten tab without script must not line up again and again.
    assert!(pages["gone en"].contains("content=\"86400\""));
    assert!(pages["hold en"].contains("content=\"3\""));
    assert!(pages["hold en"].contains(r#"{"poll_after":3,"room":"shop","status":"hold"}"#));
}

#[test]
fn next_in_line_and_no_estimate_are_said_honestly() {
    let next = Standing { position: 1, waiting: 1, eta: None, ..standing(Status::Waiting) };
    let html = Page::builtin().render(Lang::En, &View::Standing(&next), NONCE);
    for said in [
        "You’re next",
        ">nobody<",
        "data-anteroom=\"waiting\">1<",
        ">not known yet<",
        "Nobody is being let in right now.",
    ] {
        assert!(html.contains(said), "{said:?} is missing");
    }
    let mut rough = standing(Status::Waiting);
    rough.eta = Some(Eta { seconds: 180, low: 60, high: 600, confidence: 0.2 });
    let html = Page::builtin().render(Lang::En, &View::Standing(&rough), NONCE);
    assert!(html.contains(">Still a rough guess."));
}

#[test]
fn a_refresh_is_never_at_once() {
    let eager = Standing { poll_after: 0, ..standing(Status::Waiting) };
    let html = Page::builtin().render(Lang::En, &View::Standing(&eager), NONCE);
    assert!(html.contains("http-equiv=\"refresh\" content=\"1\""));
}

#[test]
fn no_resource_from_outside() {
    for (name, html) in every_page(&Page::builtin()) {
        let html = html.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http:", "https:", "//", "@import", "url(", "src=", "srcset", "<iframe", "<object"] {
            assert!(!html.contains(outside), "{name}: {outside}");
        }
        for link in html.split("href=\"").skip(1) {
            assert!(link.starts_with("data:image/svg+xml,") || link.starts_with('"'), "{name}: {link:.40}");
        }
    }
}

#[test]
fn every_page_is_small_and_whole() {
    for (name, html) in every_page(&Page::builtin()) {
        assert!(html.len() < MAX_PAGE_BYTES, "{name}: {} bytes", html.len());
        assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"), "{name}");
        assert!(!html.contains("{{") && !html.contains("}}\""), "{name}: a placeholder is left");
        assert_eq!(html.matches("<h1").count(), 1, "{name}");
        assert_eq!(html.matches("aria-live=\"polite\"").count(), 1, "{name}");
        assert_eq!(html.matches(&format!("nonce=\"{NONCE}\"")).count(), 2, "{name}");
        assert_eq!(html.matches("<script").count(), html.matches("</script>").count(), "{name}");
        assert_eq!(html.matches("<style").count(), html.matches("</style>").count(), "{name}");
    }
}

/// The text of the data block with this id, as a JSON parser behind an HTML parser would get it.
fn data(html: &str, id: &str) -> serde_json::Value {
    let (_, rest) = html.split_once(&format!("id=\"{id}\">")).unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn the_script_starts_from_the_same_standing() {
    let shown = standing(Status::Waiting);
    let html = Page::builtin().render(Lang::Ko, &View::Standing(&shown), NONCE);
    assert_eq!(data(&html, "anteroom-state"), serde_json::json!(shown));
    assert_eq!(data(&html, "anteroom-strings")["people_one"], "1명");
}

#[test]
fn what_is_filled_in_cannot_break_out() {
    let page = Page::from_template("<p title=\"{{nonce}}\">{{nonce}}</p>{{state_json}}").unwrap();
    let hostile = "\"><script>alert(1)</script>";
    let html = page.render(Lang::En, &View::Standing(&standing(Status::Waiting)), hostile);
    assert!(!html.contains("<script"), "{html}");
    let policy = content_security_policy("x'; script-src *\r\nset-cookie: a=b");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'nonce-xscript-srcset-cookiea=b';"),
        "{policy}"
    );
    assert!(!policy.contains(['\r', '\n', '*']));
}

#[test]
fn the_policy_allows_what_the_page_needs_and_nothing_else() {
    assert_eq!(
        content_security_policy(NONCE),
        "default-src 'none'; script-src 'nonce-bm9uY2Utbm9uY2U='; style-src 'nonce-bm9uY2Utbm9uY2U='; \
         img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    );
    for (name, html) in every_page(&Page::builtin()) {
        // The policy would block these without a word.
        for blocked in [" style=\"", " onclick", " onload", "javascript:", "<form"] {
            assert!(!html.contains(blocked), "{name}: {blocked}");
        }
    }
}

#[test]
fn the_example_of_the_documentation_works() {
    let page = Page::from_template(include_str!("../../web/example-template.html")).unwrap();
    let html = &every_page(&page)["waiting en"];
    for said in ["You’re in line", "about 3 minutes (2 to 5)", "content=\"7\"", "new EventSource"] {
        assert!(html.contains(said), "{said:?} is missing");
    }
}

#[test]
fn every_placeholder_and_label_is_documented_and_used() {
    let docs = include_str!("../../docs/page.md");
    let builtin = include_str!("../../web/waiting.html");
    for (name, _) in template::SLOTS {
        assert!(docs.contains(&format!("`{{{{{name}}}}}`")), "{name} is not in docs/page.md");
        assert!(builtin.contains(&format!("{{{{{name}}}}}")), "{name} is not used by the page");
    }
    for label in Wording::of(Lang::En).labels() {
        assert!(docs.contains(&format!("`{label}`")), "{label} is not in docs/page.md");
        assert!(builtin.contains(&format!("{{{{text.{label}}}}}")), "{label} is not used by the page");
    }
}

/// The custom properties of the light and of the dark scheme.
fn colours() -> [BTreeMap<&'static str, [f64; 3]>; 2] {
    let css = include_str!("../../web/waiting.css");
    let mut schemes = css.split(":root {").skip(1).map(|block| {
        let declarations = block.split_once('}').unwrap().0.split(';');
        let pairs = declarations.filter_map(|line| line.trim().strip_prefix("--")?.split_once(": #"));
        pairs.map(|(name, hex)| (name, rgb(hex))).collect()
    });
    let light: BTreeMap<_, _> = schemes.next().unwrap();
    let mut dark = light.clone();
    // What the dark scheme does not set anew stays as it is in the light one.
    dark.extend(schemes.next().unwrap());
    [light, dark]
}

fn rgb(hex: &str) -> [f64; 3] {
    assert_eq!(hex.len(), 6, "write colours with six digits: {hex}");
    [0, 2, 4].map(|at| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0)
}

/// WCAG 2.2, "relative luminance".
fn luminance(colour: [f64; 3]) -> f64 {
    let linear = colour.map(|c| if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) });
    0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}

/// WCAG 2.2, "contrast ratio".
fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn contrast_is_wcag_aa_in_both_schemes() {
    assert!((contrast(rgb("000000"), rgb("ffffff")) - 21.0).abs() < 1e-9);
    let text = [
        ("ink", "paper"),
        ("soft", "paper"),
        ("accent", "paper"),
        ("on-accent", "accent"),
        ("on-door", "door"),
        ("on-door", "door-edge"),
        ("on-door-soft", "door"),
        ("on-door-soft", "door-edge"),
        ("on-glow", "glow"),
    ];
    // Not text: the focus ring, the progress bar, the knob of the door.
    let shapes = [("accent", "paper"), ("accent", "track"), ("glow", "door"), ("glow", "door-edge")];
    for (scheme, name) in colours().iter().zip(["light", "dark"]) {
        for (pairs, least) in [(&text[..], 4.5), (&shapes[..], 3.0)] {
            for (front, ground) in pairs {
                let ratio = contrast(scheme[front], scheme[ground]);
                assert!(ratio >= least, "{name}: {front} on {ground} is {ratio:.2}, wants {least}");
            }
        }
    }
}

#[test]
fn no_colour_outside_the_checked_ones() {
    let css = include_str!("../../web/waiting.css");
    let rules = css.rsplit_once("* { box-sizing").unwrap().1;
    assert!(!rules.contains('#') && !rules.contains("rgb") && !rules.contains("hsl"));
}
