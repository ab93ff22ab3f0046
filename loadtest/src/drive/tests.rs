//! What the generator must not hide: a service that stands still, refuses, or answers wrongly.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::h2::head::Head;
use crate::schedule::Schedule;

/// What a server of a test does.
#[derive(Clone, Copy, Default)]
struct Manner {
    /// Stands still for so long at its hundredth request.
    pause: Duration,
    /// Answers every second request with this.
    wrong: Option<u16>,
}

/// A server on a thread of its own, which ends with the test process.
fn server(manner: Manner) -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let asked = Arc::new(AtomicU64::new(0));
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let asked = asked.clone();
                let answer = service_fn(move |_: Request<Incoming>| {
                    let count = asked.fetch_add(1, Ordering::Relaxed) + 1;
                    if count == 100 {
                        // The whole thread: nobody is answered meanwhile.
                        std::thread::sleep(manner.pause);
                    }
                    let status = manner.wrong.filter(|_| count.is_multiple_of(2)).unwrap_or(200);
                    let body = Full::new(Bytes::from_static(b"yes"));
                    std::future::ready(Ok::<_, Infallible>(
                        Response::builder().status(status).body(body).unwrap(),
                    ))
                });
                let server = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(socket), answer));
            }
        });
    });
    told.recv().unwrap()
}

/// Asks the same on a schedule, or at once.
struct Plain {
    schedule: Option<Schedule>,
    sent: u64,
}

impl Script for Plain {
    fn due(&mut self) -> Option<u64> {
        self.schedule.map_or(Some(0), |schedule| schedule.due(self.sent))
    }

    fn next(&mut self, ask: &mut Ask) {
        ask.tag = self.sent;
        self.sent += 1;
    }

    fn answered(&mut self, _tag: u64, answer: &Answer, _at: u64) -> Result<usize, String> {
        if answer.status == 200 && answer.body == b"yes" {
            Ok(0)
        } else {
            Err(format!("HTTP {}", answer.status))
        }
    }
}

const LENGTH: Duration = Duration::from_millis(600);

fn run(manner: Manner, rate: Option<f64>, streams: usize) -> Outcome {
    let address = server(manner);
    let open = || Connection::open(address, Head::get("/")).unwrap();
    let mut pools = [Pool::new(vec![open(), open()], streams)];
    let schedule = rate.map(|rate| Schedule::new(rate, nanos(LENGTH)));
    let span = Span { warm_up: Duration::ZERO, length: LENGTH, open: rate.is_some() };
    drive(&mut Plain { schedule, sent: 0 }, &mut pools, span).unwrap()
}

#[test]
fn a_service_that_stands_still_shows_in_the_percentiles() {
    // 600 requests in 600 ms. At the hundredth all stands still for 300 ms, in which 300 more fall due: half of all
    // wait, some 150 ms in the mean. Whoever counts from when a request was sent, and sends none meanwhile, sees one.
    for streams in [500, 1] {
        let outcome = run(Manner { pause: Duration::from_millis(300), wrong: None }, Some(1_000.0), streams);
        let latencies = &outcome.latencies[0];
        assert_eq!(
            (outcome.sent, latencies.len(), outcome.wrong),
            (600, 600, 0),
            "every one is sent and counts"
        );
        assert!(
            latencies.value_at_quantile(0.75) >= 60_000_000,
            "p75 {} ns",
            latencies.value_at_quantile(0.75)
        );
        assert!(latencies.max() >= 290_000_000, "max {} ns", latencies.max());
        // With one stream for each connection nearly all of these could not even be sent in time.
        assert!(streams > 1 || outcome.held >= 200, "held up: {}", outcome.held);
    }
}

#[test]
fn wrong_answers_are_counted_and_the_run_goes_on() {
    let outcome = run(Manner { wrong: Some(503), ..Manner::default() }, None, 5);
    assert!(outcome.answers > 10, "{}", outcome.answers);
    assert_eq!(outcome.wrong, outcome.answers / 2);
    assert_eq!(outcome.reasons, ["HTTP 503"]);
    assert!(outcome.latencies[0].len() <= outcome.answers - outcome.wrong);
}
