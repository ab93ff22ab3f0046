//! The page of a refusal: why a browser's request is not let in. No script, and nothing of its own to load.

use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Lang, compact, escape};
use crate::room::decision::Refusal;

/// From here on the time to wait is told in minutes: two of them, in seconds.
const MINUTES_FROM: u64 = 120;

/// The words of both languages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wording {
    ko: Words,
    en: Words,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    again: String,
    seconds: String,
    minutes: String,
    denied: Reason,
    sign_in: Reason,
    sign_in_again: Reason,
    user_unknown: Reason,
    limited: Reason,
    no_key: Reason,
    repeated: Reason,
    outage: Reason,
    error: Reason,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    title: String,
    lead: String,
}

#[expect(clippy::expect_used, reason = "the words are part of the program; a test reads them")]
static WORDING: LazyLock<Wording> = LazyLock::new(|| {
    // A part of the program, which a test reads.
    serde_json::from_str(include_str!("../../web/refusals.json")).expect("the built-in words are sound")
});

static STYLE: LazyLock<String> = LazyLock::new(|| compact::style(include_str!("../../web/refusal.css")));

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self'"
    )
});

/// The page as HTML; `None`: the request could not be understood or answered, which is none of its sender's fault. It says
/// no more than the problem document: neither which entry of the deny list, nor what is wrong with a token.
pub fn render(lang: Lang, refusal: Option<&Refusal>) -> String {
    let words = match lang {
        Lang::Ko => &WORDING.ko,
        Lang::En => &WORDING.en,
    };
    // Whether it is worth sending the same again.
    let (reason, again) = match refusal {
        Some(Refusal::Denied) => (&words.denied, false),
        Some(Refusal::NoUser | Refusal::NoSubject) => (&words.sign_in, false),
        Some(Refusal::BadToken) => (&words.sign_in_again, false),
        Some(Refusal::UserUnknown) => (&words.user_unknown, true),
        Some(Refusal::Limited(_)) => (&words.limited, true),
        Some(Refusal::NoKey) => (&words.no_key, false),
        Some(Refusal::Repeated) => (&words.repeated, false),
        Some(Refusal::Outage) => (&words.outage, true),
        None => (&words.error, true),
    };
    let mut lead = reason.lead.clone();
    if let Some(Refusal::Limited(limited)) = refusal {
        lead.push(' ');
        lead.push_str(&when(words, limited.retry_after.div_ceil(1_000_000).max(1)));
    }
    // An empty reference is the page itself.
    let link = || format!("<p><a href=\"\">{}</a></p>", escape::html(&words.again));
    include_str!("../../web/refusal.html")
        .replace("{{lang}}", lang.as_str())
        .replace("{{style}}", &STYLE)
        .replace("{{title}}", &escape::html(&reason.title))
        .replace("{{lead}}", &escape::html(&lead))
        .replace("{{again}}", &if again { link() } else { String::new() })
}

/// The `Content-Security-Policy` of every such page: its own style, by its digest, and nothing else.
pub fn content_security_policy() -> &'static str {
    &POLICY
}

fn when(words: &Words, seconds: u64) -> String {
    let (text, count) = match seconds {
        MINUTES_FROM.. => (&words.minutes, seconds.div_ceil(60)),
        _ => (&words.seconds, seconds),
    };
    text.replace("{count}", &count.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::decision::Limited;

    fn limited(seconds: u64) -> Refusal {
        let quota = "5/s".parse().unwrap();
        let (scope, counts) = ("ip", "for each ip");
        Refusal::Limited(Limited { scope, counts, quota, retry_after: seconds * 1_000_000, reset: 1 })
    }

    #[test]
    fn every_refusal_has_a_whole_page_in_both_languages() {
        let reasons = [
            None,
            Some(Refusal::Denied),
            Some(Refusal::NoUser),
            Some(Refusal::BadToken),
            Some(Refusal::UserUnknown),
            Some(Refusal::NoSubject),
            Some(limited(5)),
            Some(Refusal::NoKey),
            Some(Refusal::Repeated),
            Some(Refusal::Outage),
        ];
        for reason in reasons {
            for lang in [Lang::Ko, Lang::En] {
                let page = render(lang, reason.as_ref());
                assert!(page.contains(&format!("<html lang=\"{}\">", lang.as_str())), "{page}");
                assert!(
                    !page.contains("{{") && !page.contains("{count}") && !page.contains("<script"),
                    "{page}"
                );
                assert!(page.len() < 4_096, "{} bytes: {page}", page.len());
                let korean = page.chars().any(|c| ('가'..='힣').contains(&c));
                assert_eq!(korean, lang == Lang::Ko, "{page}");
            }
        }
    }

    #[test]
    fn a_limit_says_when_to_come_back_and_a_refusal_for_good_does_not_invite_to() {
        assert!(render(Lang::En, Some(&limited(119))).contains("in 119 s."));
        assert!(render(Lang::En, Some(&limited(121))).contains("in 3 min."));
        assert!(render(Lang::Ko, Some(&limited(7))).contains("7초 뒤에"));
        assert!(render(Lang::En, Some(&Refusal::Outage)).contains("<a href=\"\">Try again</a>"));
        assert!(!render(Lang::En, Some(&Refusal::Denied)).contains("<a "));
    }

    #[test]
    fn the_colours_are_those_of_the_waiting_page() {
        let waiting = include_str!("../../web/waiting.css");
        let colours =
            include_str!("../../web/refusal.css").lines().filter(|line| line.trim().starts_with("--"));
        let unknown: Vec<_> = colours.filter(|line| !waiting.contains(line.trim())).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn the_policy_allows_the_style_that_is_there() {
        let page = render(Lang::En, None);
        let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        let digest = BASE64_STANDARD.encode(Sha256::digest(style.as_bytes()));
        assert!(content_security_policy().contains(&format!("style-src 'sha256-{digest}'")));
    }
}
