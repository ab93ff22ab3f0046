//! The client: so many requests always in flight, each answer checked, each latency counted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cpu;

/// What is asked, where, and what a right answer is.
pub(crate) struct Target {
    /// For the report.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What is asked, always the same.
    pub(crate) request: Request<Full<Bytes>>,
    /// What is wrong with an answer, if anything. Asked about the first answer of each stream of requests, and about
    /// every one that differs from the one before it.
    pub(crate) check: fn(&Answer) -> Result<(), String>,
}

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
}

/// How hard to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: u16,
    /// Requests in flight on each connection.
    pub(crate) streams: u16,
    /// How long to ask before it counts.
    pub(crate) warm_up: Duration,
    /// How long it counts.
    pub(crate) length: Duration,
}

/// What one round came to.
pub(crate) struct Round {
    /// Answers per second.
    pub(crate) rate: f64,
    pub(crate) latencies: Latencies,
    /// CPU time of the servers' threads for each answer; `None` where the system does not tell.
    pub(crate) cpu: Option<Duration>,
}

/// What one asker came to.
#[derive(Default)]
struct Asked {
    /// Of the answers that count.
    latencies: Latencies,
    /// All answers, those of the warm-up included.
    answers: u32,
}

/// Why a round cannot count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    #[error("{name}: cannot connect to {address}: {error}")]
    Connect { name: &'static str, address: SocketAddr, error: std::io::Error },
    #[error("{name}: {error}; every request should be answered")]
    Broken { name: &'static str, error: hyper::Error },
    #[error("{name} answered wrongly: {why}")]
    Wrong { name: &'static str, why: String },
    #[error("{name}: a task of the client was lost: {error}")]
    Lost { name: &'static str, error: tokio::task::JoinError },
}

/// Asks `target` for one round.
pub(crate) async fn round(target: &Target, load: Load) -> Result<Round, RoundError> {
    let name = target.name;
    let mut connections = JoinSet::new();
    let mut askers = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..load.connections {
        senders.push(connect(target, &mut connections).await?);
    }
    let cpu_before = cpu::used();
    let from = Instant::now() + load.warm_up;
    let until = from + load.length;
    for sender in senders {
        for _ in 0..load.streams {
            let asker = Asker { name, sender: sender.clone(), check: target.check };
            askers.spawn(asker.ask(target.request.clone(), from, until));
        }
    }
    let mut sum = Asked::default();
    while let Some(asked) = askers.join_next().await {
        let asked = asked.map_err(|error| RoundError::Lost { name, error })??;
        sum.latencies.add(&asked.latencies);
        sum.answers += asked.answers;
    }
    let cpu =
        cpu::used().zip(cpu_before).map(|(after, before)| after.saturating_sub(before) / sum.answers.max(1));
    let rate = sum.latencies.count() as f64 / load.length.as_secs_f64();
    Ok(Round { rate, latencies: sum.latencies, cpu })
}

async fn connect(
    target: &Target,
    connections: &mut JoinSet<()>,
) -> Result<SendRequest<Full<Bytes>>, RoundError> {
    let Target { name, address, .. } = *target;
    let failed = |error| RoundError::Connect { name, address, error };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| RoundError::Broken { name, error })?;
    connections.spawn(async move {
        // Whoever asks over it hears of its end.
        let _ = connection.await;
    });
    Ok(sender)
}

/// One request after another on one connection.
struct Asker {
    name: &'static str,
    sender: SendRequest<Full<Bytes>>,
    check: fn(&Answer) -> Result<(), String>,
}

impl Asker {
    async fn ask(
        mut self,
        request: Request<Full<Bytes>>,
        from: Instant,
        until: Instant,
    ) -> Result<Asked, RoundError> {
        let name = self.name;
        let mut asked = Asked::default();
        let mut known: Option<Bytes> = None;
        let mut begun = Instant::now();
        loop {
            let answer =
                self.once(request.clone()).await.map_err(|error| RoundError::Broken { name, error })?;
            let ended = Instant::now();
            let is_known = known.as_ref() == Some(&answer.body)
                && answer.status == StatusCode::OK
                && answer.trailers.get("grpc-status").is_none_or(|status| status == "0");
            if !is_known {
                (self.check)(&answer).map_err(|why| RoundError::Wrong { name, why })?;
                known = Some(answer.body);
            }
            asked.answers += 1;
            if ended >= until {
                return Ok(asked);
            }
            if ended >= from {
                asked.latencies.note(ended - begun);
            }
            begun = ended;
        }
    }

    async fn once(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        self.sender.ready().await?;
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Answer { status: parts.status, trailers, body: body.to_bytes() })
    }
}

/// Latencies in buckets a thirty-second apart: any number of them in little room.
#[derive(Clone)]
pub(crate) struct Latencies {
    buckets: Vec<u64>,
}

/// Buckets for each doubling.
const STEPS: u64 = 32;
/// 58 doublings above the two rows of those below 64 ns: every number of 64 bits has its bucket.
const BUCKETS: usize = 60 * 32;

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS] }
    }
}

impl Latencies {
    fn note(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The latency that this part of all (0 to 1) stayed within, to 3 %; zero where there are none.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a part of a count
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let wanted = (self.count() as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return Duration::from_nanos(upper_end(index));
            }
        }
        Duration::ZERO
    }
}

#[allow(clippy::cast_possible_truncation)] // below 60 × 32
fn bucket(nanos: u64) -> usize {
    let doublings = u64::from(nanos.max(STEPS).ilog2()) - 5;
    (doublings * STEPS + (nanos >> doublings)) as usize
}

fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let doublings = bucket / STEPS - 1;
    let end = (u128::from(bucket % STEPS + STEPS + 1) << doublings) - 1;
    u64::try_from(end).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_everything_within_three_percent() {
        for nanos in (0..5_000).chain((13..64).map(|bits| (1 << bits) + 12_345)).chain([u64::MAX]) {
            let end = upper_end(bucket(nanos));
            assert!(nanos <= end && end - nanos <= nanos / 32, "{nanos}: {end}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_noted() {
        let mut latencies = Latencies::default();
        for micros in 1..=1_000 {
            latencies.note(Duration::from_micros(micros));
        }
        let p99 = latencies.quantile(0.99).as_secs_f64() * 1e6;
        assert!((990.0..1_030.0).contains(&p99), "{p99}");
        assert_eq!(latencies.count(), 1_000);
        assert_eq!(Latencies::default().quantile(0.5), Duration::ZERO);
    }
}
