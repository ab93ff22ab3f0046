//! A visitor who watches as a browser does: comes back when told, with what was heard last, and checks every word.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::door::{Door, Tokens, Told};
use crate::redis::{SOON, until};

/// How old what is told may be: a tick of each of two processes, a stream's cadence, and a busy machine.
const STALE: Duration = Duration::from_secs(4);
/// When to come back where nobody has said it.
const UNTOLD: Duration = Duration::from_secs(3);

/// What all of them know together.
pub(super) struct Knowledge {
    /// When the first of them got a place.
    pub(super) begun: Instant,
    /// Calls in a second, and at one moment.
    pub(super) rate: f64,
    pub(super) burst: f64,
    called: Mutex<Vec<(Instant, u64)>>,
    returns: Mutex<Vec<Instant>>,
    refused: Mutex<u64>,
}

impl Knowledge {
    pub(super) fn new(rate: f64, burst: f64) -> Self {
        let (called, returns, refused) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { begun: Instant::now(), rate, burst, called, returns, refused }
    }

    /// Fails the test if a visitor of this rank among all who joined cannot be at that position now.
    fn check(&self, rank: u64, position: u64) {
        let calls = self.burst + self.rate * self.begun.elapsed().as_secs_f64();
        let least = rank.saturating_sub(calls.ceil() as u64 + 1).max(1);
        let called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        let long_ago = called.iter().filter(|(at, _)| at.elapsed() > STALE);
        let ahead = rank - long_ago.map(|(_, rank)| *rank).max().unwrap_or(0).min(rank - 1);
        assert!((least..=ahead).contains(&position), "{rank} is told {position}, not {least} to {ahead}");
    }

    /// Somebody of this rank is called and knows it.
    pub(super) fn enters(&self, rank: u64) {
        self.called.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), rank));
    }

    /// How many know that they are called.
    pub(super) fn called(&self) -> usize {
        self.called.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The highest rank of those who know that they are called.
    pub(super) fn last_called(&self) -> u64 {
        let called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        called.iter().map(|(_, rank)| *rank).max().unwrap_or(0)
    }

    /// Whether all up to this rank know that they are called.
    pub(super) fn all_called(&self, last: u64) -> bool {
        let called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        called.iter().filter(|(_, rank)| *rank <= last).count() as u64 == last
    }

    /// When streams were asked for again, each once for every time it broke off, since the last call.
    pub(super) fn take_returns(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.returns.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many times somebody asked in vain and had to come again.
    pub(super) fn refused(&self) -> u64 {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One visitor.
pub(super) struct Watcher<'a> {
    pub(super) knowledge: &'a Knowledge,
    pub(super) url: &'a str,
    pub(super) tokens: Tokens,
    /// Among all who joined, from 1.
    pub(super) rank: u64,
    /// Who lets them in.
    pub(super) door: Door,
    last: Option<u64>,
    retry: Duration,
    unread: String,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(knowledge: &'a Knowledge, url: &'a str, tokens: Tokens, rank: u64, door: Door) -> Self {
        Self { knowledge, url, tokens, rank, door, last: None, retry: UNTOLD, unread: String::new() }
    }

    /// Watches until called, and enters.
    pub(super) async fn watch(mut self) {
        // A connection of their own, as visitors have.
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        while !self.hears_of_the_call(&client).await {
            let jitter = rand::rng().random_range(1.0..=1.1);
            sleep(self.retry.mul_f64(jitter)).await;
            self.knowledge.returns.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        }
        self.knowledge.enters(self.rank);
        // Another process may learn a tick later that they were called.
        let answer = until("who is called may enter", STALE, || async {
            let answer = self.door.check("shop", &self.tokens).await;
            assert!(matches!(answer.told, Told::Inside | Told::Waiting(_)), "{answer:?}");
            (answer.told == Told::Inside).then_some(answer)
        })
        .await;
        assert_eq!(answer.tokens.place(), self.tokens.place(), "and is the one who waited");
    }

    /// One stream, to its end: whether the call was heard of.
    async fn hears_of_the_call(&mut self, client: &reqwest::Client) -> bool {
        let ticket = self.tokens.ticket.as_deref().unwrap();
        let mut request = client.get(self.url).header("x-anteroom-ticket", ticket);
        if let Some(last) = self.last {
            request = request.header("last-event-id", last);
        }
        let answer = timeout(SOON, request.send()).await.expect("an answer, be it a refusal");
        let Ok(mut answer) = answer else { return self.was_refused() };
        if answer.status() != 200 {
            // Envoy, where nobody is behind it. Whoever is behind it knows this visitor.
            assert_eq!(answer.status(), 503, "{:?}", answer.text().await);
            return self.was_refused();
        }
        self.unread.clear();
        // To the end, clean or cut: what counts is that it is over.
        while let Ok(Some(bytes)) = timeout(SOON, answer.chunk()).await.expect("streams say something") {
            self.unread.push_str(std::str::from_utf8(&bytes).unwrap());
            while let Some(end) = self.unread.find("\n\n") {
                let word: String = self.unread.drain(..end + 2).collect();
                if self.hears(&word) {
                    return true;
                }
            }
        }
        false
    }

    fn was_refused(&mut self) -> bool {
        *self.knowledge.refused.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        false
    }

    /// Takes in a word: whether it is the call.
    fn hears(&mut self, word: &str) -> bool {
        let mut data = None;
        for line in word.lines() {
            match line.split_once(": ") {
                Some(("retry", retry)) => self.retry = Duration::from_millis(retry.parse().unwrap()),
                Some(("data", text)) => data = Some(serde_json::from_str::<Value>(text).unwrap()),
                _ => {}
            }
        }
        let Some(told) = data else { return false };
        let number = self.tokens.place().map(|(_, number)| number);
        assert_eq!(told["number"].as_u64(), number, "the number is kept: {told}");
        if told["status"] == "called" {
            return true;
        }
        assert_eq!(told["status"], "waiting", "the place is kept: {told}");
        let position = told["position"].as_u64().unwrap();
        self.knowledge.check(self.rank, position);
        assert!(
            self.last.is_none_or(|last| position <= last),
            "{} rises from {:?}: {told}",
            self.rank,
            self.last
        );
        self.last = Some(position);
        false
    }
}
