//! What is counted of users and their tokens, and of the keys that verify them.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::handles::{By, counter, counters, gauge};
use super::label::{Label, label};
use super::spread::Spread;

label! {
    /// What a user's token came to that was not remembered.
    IdentityLabel {
        /// It proves a user.
        Verified => "verified",
        /// Longer than any token.
        TooLong => "too_long",
        /// No token, or not one that says all it has to.
        Malformed => "malformed",
        /// With a header that names keys of its own, or of another kind.
        Header => "header",
        /// Of nobody known here.
        UnknownIssuer => "unknown_issuer",
        /// Not what the issuer signs with.
        Algorithm => "algorithm",
        /// Of a key that the issuer does not have.
        UnknownKey => "unknown_key",
        /// Forged or cut.
        BadSignature => "bad_signature",
        /// Meant for somebody else.
        OtherAudience => "other_audience",
        /// Over.
        Expired => "expired",
        /// Before its time.
        NotYet => "not_yet",
        /// Not known: the issuer's keys cannot be fetched.
        Unavailable => "unavailable",
    }
}

label! {
    /// How a look at an issuer's keys ended.
    FetchLabel {
        /// With keys.
        Fetched => "fetched",
        /// Without a connection, or the file could not be read.
        Unreachable => "unreachable",
        /// Not in time.
        Timeout => "timeout",
        /// With another status than 200.
        Status => "status",
        /// With something that holds no key that could be used.
        Unusable => "unusable",
    }
}

type ByIssuer = Family<[(&'static str, String); 1], Gauge>;

/// The handles. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct IdentityMetrics {
    handles: Arc<Handles>,
}

#[derive(Debug)]
struct Handles {
    answers: By<IdentityLabel, Counter>,
    remembered: Counter<u64, Spread>,
    kept: Gauge,
    fetches: Family<[(&'static str, String); 2], Counter>,
    keys: ByIssuer,
    fetched_at: ByIssuer,
}

impl IdentityMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let handles = Handles {
            answers: counters(
                registry,
                "identity_tokens",
                "Users' tokens that were not remembered, by what they came to",
                "result",
            ),
            remembered: counter(
                registry,
                "identity_remembered",
                "Users' tokens whose signature had been checked before",
            ),
            kept: gauge(registry, "identity_kept", "Verified tokens that are remembered"),
            fetches: Family::default(),
            keys: Family::default(),
            fetched_at: Family::default(),
        };
        registry.register(
            "identity_fetches",
            "Looks at the keys of an issuer, by how they ended",
            handles.fetches.clone(),
        );
        registry.register("identity_keys", "Keys of an issuer that may verify", handles.keys.clone());
        registry.register(
            "identity_keys_fetched_timestamp_seconds",
            "When the keys of an issuer were fetched last, seconds since the epoch",
            handles.fetched_at.clone(),
        );
        Self { handles: Arc::new(handles) }
    }

    /// Handles that nobody exports, for programs without metrics.
    pub fn unregistered() -> Self {
        Self::register(&mut Registry::default())
    }

    /// A token that was not remembered came to this.
    pub fn answered(&self, label: IdentityLabel) {
        self.handles.answers.of(label).inc();
    }

    /// A token was remembered.
    pub fn remembered(&self) {
        self.handles.remembered.inc();
    }

    /// So many tokens are remembered.
    pub fn set_kept(&self, tokens: usize) {
        self.handles.kept.set(i64::try_from(tokens).unwrap_or(i64::MAX));
    }

    /// The handles of an issuer; there are as many as are configured.
    pub fn issuer(&self, issuer: &str) -> IssuerMetrics {
        IssuerMetrics { handles: self.handles.clone(), issuer: issuer.to_owned() }
    }
}

/// What is counted of one issuer.
#[derive(Clone, Debug)]
pub struct IssuerMetrics {
    handles: Arc<Handles>,
    issuer: String,
}

impl IssuerMetrics {
    /// A look at its keys has ended.
    pub fn fetched(&self, label: FetchLabel) {
        let labels = [("issuer", self.issuer.clone()), ("result", label.as_str().to_owned())];
        self.handles.fetches.get_or_create_owned(&labels).inc();
    }

    /// It has so many keys, fetched at `now`, milliseconds since the epoch.
    pub fn holds(&self, keys: usize, now: u64) {
        let labels = [("issuer", self.issuer.clone())];
        self.handles.keys.get_or_create_owned(&labels).set(i64::try_from(keys).unwrap_or(i64::MAX));
        let seconds = i64::try_from(now / 1_000).unwrap_or(i64::MAX);
        self.handles.fetched_at.get_or_create_owned(&labels).set(seconds);
    }
}
