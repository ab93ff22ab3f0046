//! Fetching, by tokio's own time: when, how often, and what holds while it fails.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;

use super::super::settings::JwksSource;
use super::super::signer::{ISSUER, Signer, jwks};
use super::*;
use crate::telemetry::metrics::identity::IdentityMetrics;

/// What an issuer answers next; the last one for good.
#[derive(Clone)]
enum Says {
    Keys(String),
    Status,
    Garbage,
    Nothing,
}

struct Script {
    says: Mutex<VecDeque<Says>>,
    looks: Mutex<Vec<Instant>>,
}

#[async_trait]
impl Source for Arc<Script> {
    async fn read(&self) -> Result<Bytes, FetchError> {
        self.looks.lock().push(Instant::now());
        let says = {
            let mut says = self.says.lock();
            if says.len() > 1 { says.pop_front() } else { says.front().cloned() }
        };
        match says {
            Some(Says::Keys(text)) => Ok(text.into()),
            Some(Says::Garbage) => Ok("<html>".into()),
            Some(Says::Status) => Err(FetchError::Status(StatusCode::INTERNAL_SERVER_ERROR)),
            Some(Says::Nothing) | None => std::future::pending().await,
        }
    }
}

/// An issuer that is tended, and what it was asked.
fn issuer(says: impl IntoIterator<Item = Says>) -> (Arc<Issuer>, Arc<Script>, Clock) {
    let settings = IssuerSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec!["a".to_owned()],
        jwks: JwksSource::Url { url: "https://id.example.com/jwks".parse().unwrap(), roots: None },
        algorithms: vec![Algorithm::ES256],
        leeway: Duration::from_secs(30),
        refresh: Duration::from_mins(10),
        stale: Duration::from_hours(24),
        type_claim: "t".to_owned(),
    };
    let clock = Clock::starting_at(1_000_000);
    let says = Mutex::new(says.into_iter().collect());
    let script = Arc::new(Script { says, looks: Mutex::default() });
    let metrics = IdentityMetrics::unregistered().issuer(ISSUER);
    let issuer = Arc::new(Issuer::new(settings, Box::new(script.clone()), clock, metrics));
    let tended = issuer.clone();
    tokio::spawn(async move { tended.tend().await });
    (issuer, script, clock)
}

fn keys(signers: &[&Signer]) -> Says {
    Says::Keys(jwks(signers))
}

fn outline(kid: &str) -> Outline {
    Outline { algorithm: Algorithm::ES256, kid: Some(kid.to_owned()), issuer: ISSUER.to_owned() }
}

impl Issuer {
    fn found(&self, kid: &str) -> Found {
        self.find(&outline(kid), self.clock.now_ms()).unwrap()
    }

    /// Whether a key is found, after asking for it if that is worth it.
    async fn finds(&self, kid: &str) -> bool {
        if matches!(self.found(kid), Found::MustAsk) {
            self.asked().await;
        }
        matches!(self.found(kid), Found::Key(_))
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_ahead_of_time_and_no_sooner() {
    let (issuer, script, _) = issuer([keys(&[&Signer::es256("a")])]);
    assert!(issuer.finds("a").await);
    tokio::time::sleep(Duration::from_hours(1)).await;
    let looks = script.looks.lock().clone();
    assert!((6..=8).contains(&looks.len()), "{}", looks.len());
    for pair in looks.windows(2) {
        let pause = pair[1] - pair[0];
        assert!((Duration::from_mins(8)..=Duration::from_mins(10)).contains(&pause), "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_fetched_at_once_and_made_up_ones_at_a_limited_rate() {
    let (old, new) = (Signer::es256("old"), Signer::other_es256("new"));
    let (issuer, script, _) = issuer([keys(&[&old]), keys(&[&old, &new])]);
    assert!(issuer.finds("old").await);
    assert!(matches!(issuer.found("new"), Found::Unknown), "fetched a moment ago");
    tokio::time::sleep(REST).await;
    // A crowd shares one look.
    let crowd: Vec<_> = (0..100)
        .map(|_| {
            let issuer = issuer.clone();
            tokio::spawn(async move { issuer.finds("new").await })
        })
        .collect();
    for visitor in crowd {
        assert!(visitor.await.unwrap());
    }
    assert_eq!(script.looks.lock().len(), 2);
    // A minute of made-up names: once in ten seconds.
    for step in 0..600 {
        assert!(!issuer.finds(&format!("made-up-{step}")).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let looks = script.looks.lock().len();
    assert!((7..=9).contains(&looks), "{looks}");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_cannot_be_asked_is_tolerated_for_as_long_as_is_said() {
    for bad in [Says::Status, Says::Garbage, Says::Keys("{\"keys\": []}".to_owned()), Says::Nothing] {
        let (issuer, script, clock) = issuer([keys(&[&Signer::es256("a")]), bad]);
        assert!(issuer.finds("a").await);
        let begun = clock.now_ms();
        tokio::time::sleep(Duration::from_hours(23)).await;
        assert!(matches!(issuer.found("a"), Found::Key(_)));
        assert!(script.looks.lock().len() < 23 * 90, "at most some 90 looks an hour");
        tokio::time::sleep(Duration::from_hours(2)).await;
        assert!(clock.now_ms() - begun > 24 * 3_600_000);
        assert!(!issuer.finds("a").await);
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_was_never_reached_is_unavailable_and_no_reason_to_wait() {
    let (issuer, script, _) = issuer([Says::Nothing, Says::Status, keys(&[&Signer::es256("a")])]);
    tokio::task::yield_now().await;
    assert!(matches!(issuer.found("a"), Found::MustAsk), "the first look has just begun");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(matches!(issuer.found("a"), Found::Unavailable), "it hangs");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(matches!(issuer.found("a"), Found::Unavailable), "it has failed");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(matches!(issuer.found("a"), Found::Key(_)), "tried again");
    assert_eq!(script.looks.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_taken_back_is_found_no_more() {
    let (issuer, _, _) = issuer([keys(&[&Signer::es256("a")]), keys(&[&Signer::other_es256("b")])]);
    assert!(issuer.finds("a").await);
    let Found::Key(key) = issuer.found("a") else { panic!("a key") };
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(issuer.finds("b").await && !issuer.finds("a").await);
    assert!(!key.holds(0), "and what it has vouched for ends");
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_that_the_issuer_does_not_use_is_no_reason_to_ask() {
    let (issuer, _, clock) = issuer([keys(&[&Signer::es256("a")])]);
    let outline = Outline { algorithm: Algorithm::HS256, ..outline("a") };
    assert_eq!(issuer.find(&outline, clock.now_ms()).unwrap_err(), Refusal::Algorithm);
}
