//! One issuer: its keys, and the rounds in which they are fetched. Rounds are run by one task and shared by all who ask.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::fetch::{self, FetchError, Source};
use super::jwks::{Key, KeySet};
use super::settings::{IssuerSettings, JwksSource};
use super::token::{Outline, Refusal};
use crate::clock::Clock;
use crate::room::policy::Millis;
use crate::telemetry::metrics::identity::{FetchLabel, IssuerMetrics};

/// How long after a round an unknown key brings no other: whoever makes up keys makes no traffic.
pub(super) const REST: Duration = Duration::from_secs(10);
/// How old a running round may be for somebody to wait for its end: an issuer that hangs holds up nobody else.
const WORTH_WAITING: Duration = Duration::from_secs(1);
/// How often a file is read again.
const FILE_REFRESH: Duration = Duration::from_secs(5);
/// The pauses after rounds that failed: from, to.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// An issuer and its keys.
pub(super) struct Issuer {
    settings: IssuerSettings,
    source: Box<dyn Source>,
    keys: ArcSwap<KeySet>,
    rounds: watch::Sender<Rounds>,
    wanted: Notify,
    clock: Clock,
    metrics: IssuerMetrics,
}

/// How far fetching has come.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    /// When the running one began.
    begun: Option<Millis>,
    /// How many have ended.
    ended: u64,
    /// When the last one ended, and whether well.
    last: Option<(Millis, bool)>,
}

/// What is known of the key for a token.
#[derive(Debug)]
pub(super) enum Found {
    /// This is it.
    Key(Arc<Key>),
    /// There is none, as of late.
    Unknown,
    /// The issuer cannot be asked.
    Unavailable,
    /// The issuer has to be asked: [`Issuer::asked`].
    MustAsk,
}

impl Issuer {
    /// An issuer whose keys come from `source`; it has none before its first round.
    pub(super) fn new(
        settings: IssuerSettings,
        source: Box<dyn Source>,
        clock: Clock,
        metrics: IssuerMetrics,
    ) -> Self {
        let (keys, rounds) = (ArcSwap::default(), watch::Sender::default());
        Self { settings, source, keys, rounds, wanted: Notify::new(), clock, metrics }
    }

    /// How it is configured.
    pub(super) fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// The key for a token of this issuer.
    pub(super) fn find(&self, outline: &Outline, now: Millis) -> Result<Found, Refusal> {
        if !self.settings.algorithms.contains(&outline.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let keys = self.keys.load();
        let found = keys.find(outline.kid.as_deref(), outline.algorithm).filter(|key| key.holds(now));
        if let Some(key) = found {
            return Ok(Found::Key(key.clone()));
        }
        let rounds = *self.rounds.borrow();
        let is_within =
            |span: Duration, since: Millis| u128::from(now.saturating_sub(since)) < span.as_millis();
        Ok(match rounds {
            Rounds { begun: Some(begun), .. } if is_within(WORTH_WAITING, begun) => Found::MustAsk,
            Rounds { begun: Some(_), .. } => Found::Unavailable,
            Rounds { last: Some((ended, true)), .. } if is_within(REST, ended) => Found::Unknown,
            Rounds { last: Some((ended, false)), .. } if is_within(REST, ended) => Found::Unavailable,
            _ => Found::MustAsk,
        })
    }

    /// Waits for the end of a round: the one that runs, or else a new one.
    pub(super) async fn asked(&self) {
        let mut rounds = self.rounds.subscribe();
        let before = rounds.borrow_and_update().ended;
        self.wanted.notify_one();
        // The sender lives as long as this does.
        let _ = rounds.wait_for(|rounds| rounds.ended > before).await;
    }

    /// Fetches keys, again and again: ahead of time, after failures sooner, and when somebody shows an unknown one.
    /// Never ends by itself.
    pub(super) async fn tend(&self) {
        let mut failures = Failures::default();
        loop {
            let is_good = self.round(&mut failures).await;
            // Whoever asked meanwhile has been answered by this round.
            self.wanted.notified().now_or_never();
            let ended = Instant::now();
            let pause = self.pause(is_good, failures.in_a_row);
            let asked = async {
                self.wanted.notified().await;
                tokio::time::sleep_until(ended + REST).await;
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = asked => {}
            }
        }
    }

    /// How long until the next round. Replicas that were started together do not come together.
    fn pause(&self, is_good: bool, failures: u32) -> Duration {
        let refresh = self.settings.refresh;
        let pause = match (&self.settings.jwks, is_good) {
            (JwksSource::File(_), _) => return refresh.min(FILE_REFRESH),
            (JwksSource::Url { .. }, true) => refresh,
            (JwksSource::Url { .. }, false) => {
                let (first, longest) = PAUSES;
                first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest).min(refresh)
            }
        };
        pause.mul_f64(rand::random_range(0.8..1.0))
    }

    async fn round(&self, failures: &mut Failures) -> bool {
        self.rounds.send_modify(|rounds| rounds.begun = Some(self.clock.now_ms()));
        let looked = fetch::look(&*self.source).await;
        let read = looked.and_then(|text| Ok(KeySet::read(&text, &self.settings.algorithms)?));
        let now = self.clock.now_ms();
        let is_good = match read {
            Ok((keys, skipped)) => {
                let news = self.take_over(keys, now);
                self.metrics.fetched(FetchLabel::Fetched);
                for (index, why) in skipped.into_iter().filter(|(_, why)| news && why.is_odd()) {
                    tracing::warn!(issuer = self.settings.issuer, index, %why, "a key of the JWKS is passed over");
                }
                if failures.in_a_row > 0 || news {
                    let keys = self.keys.load().len();
                    tracing::info!(issuer = self.settings.issuer, keys, "the issuer's keys are fetched");
                }
                *failures = Failures::default();
                true
            }
            Err(error) => {
                let label = label(&error);
                self.metrics.fetched(label);
                if failures.note(label) {
                    let keys = self.keys.load().len();
                    tracing::error!(
                        issuer = self.settings.issuer,
                        keys,
                        %error,
                        "the issuer's keys could not be fetched; those fetched before go on for a while"
                    );
                }
                false
            }
        };
        self.rounds.send_modify(|rounds| {
            *rounds = Rounds { begun: None, ended: rounds.ended + 1, last: Some((now, is_good)) };
        });
        is_good
    }

    /// Puts these keys in the place of the older ones; whether anything has changed.
    fn take_over(&self, mut keys: KeySet, now: Millis) -> bool {
        let stale = u64::try_from(self.settings.stale.as_millis()).unwrap_or(u64::MAX);
        let news = keys.succeed(&self.keys.load(), now.saturating_add(stale));
        self.metrics.holds(keys.len(), now);
        self.keys.store(Arc::new(keys));
        news
    }
}

/// Rounds that failed one after the other: each kind of failure is told once.
#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    told: Vec<FetchLabel>,
}

impl Failures {
    /// Whether this one is news.
    fn note(&mut self, label: FetchLabel) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let news = !self.told.contains(&label);
        if news {
            self.told.push(label);
        }
        news
    }
}

fn label(error: &FetchError) -> FetchLabel {
    match error {
        FetchError::File(_) | FetchError::Unreachable(_) => FetchLabel::Unreachable,
        FetchError::TimedOut => FetchLabel::Timeout,
        FetchError::Status(_) => FetchLabel::Status,
        FetchError::Unusable(_) | FetchError::Encoded(_) => FetchLabel::Unusable,
    }
}

#[cfg(test)]
mod tests;
