//! Serving HTTP/1 and HTTP/2 (without TLS) on a listener, until it is drained.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::Body;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::task::{JoinError, JoinSet, coop, yield_now};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::accept::{Accepted, Acceptor, Conn};
use super::backlog::Backlog;
use super::progress::Stream;
use super::work::{Accounted, Arriving};
use super::{BACKLOG, Bound, Limits};
use crate::drain::{Phase, Shutdown};
use crate::telemetry::metrics::ListenerMetrics;

/// The largest head of a request, in bytes; HTTP/1's buffer and HTTP/2's header list. As much as Envoy lets through
/// (`max_request_headers_kb: 60`).
const MAX_HEAD: u32 = 64 * 1024;
/// How much of an answer is held for a client that reads slowly, in bytes for each HTTP/2 stream.
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// How many HTTP/2 streams of a connection may have been taken back by the client before they were looked at, whatever
/// else is allowed: as many clients of a proxy may hang up within a moment in which this process gets no turn.
const MIN_RESETS: u32 = 10_000;

/// How often a connection is looked at while the end waits for it. At the second look with nothing done for the client in
/// between it is closed: a whole request that was on its way at closing has come in by then.
const LOOK: Duration = Duration::from_millis(500);

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The client or HTTP ended it, or it panicked.
    Ended,
    /// It was closed with a request on it that had not come in whole, or with nobody there to say goodbye.
    Unfinished,
}

/// Serves until the drain is over.
///
/// At closing it stops listening, tells clients to go elsewhere (GOAWAY, `connection: close`) and finishes what is under
/// way: requests that have come in whole, and their answers. Connections without such are closed about a second later,
/// and when time is up the rest is cut off; how many were is warned of, once. Streams that never end by themselves
/// should end at closing. When it returns, or is dropped, it leaves no task behind. It cannot fail.
pub async fn serve_http<S, B>(
    bound: Bound,
    service: S,
    limits: Limits,
    metrics: ListenerMetrics,
    shutdown: Shutdown,
) -> Result<(), Infallible>
where
    S: Service<Request<Arriving>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let address = bound.local_addr().clone();
    let mut shares = bound.workers.shares();
    let mut acceptor = Acceptor::new(bound, limits, metrics);
    let streams = TaskTracker::new();
    let mut connections = JoinSet::new();
    let closed = CancellationToken::new();
    let mut closing = pin!(shutdown.closing());
    let mut take_up = |accepted: Accepted, connections: &mut JoinSet<Ending>| {
        let (runtime, share) = shares.next();
        let (service, streams, shutdown) = (service.clone(), streams.clone(), shutdown.clone());
        // One for each: it is looked at whenever the connection does anything, behind a lock of its own.
        let closed = closed.child_token();
        let serving = async move {
            let ending = match accepted.here() {
                Ok(conn) => serve(conn, service, limits, streams, shutdown, closed).await,
                Err(error) => {
                    tracing::error!(%error, "an accepted connection cannot be served; is the limit on open files too low?");
                    Ending::Ended
                }
            };
            drop(share);
            ending
        };
        connections.spawn_on(serving, runtime);
    };
    loop {
        tokio::select! {
            biased;
            // First: however many come, the end is heard of.
            () = &mut closing => break,
            Some(ended) = connections.join_next() => { ending(ended); }
            accepted = acceptor.accept() => take_up(accepted, &mut connections),
        }
    }
    // Who has connected by now is served; who comes meanwhile, on and on, does not keep us.
    for _ in 0..BACKLOG {
        if !coop::has_budget_remaining() {
            // Without it nobody would seem to be there.
            yield_now().await;
        }
        let Some(accepted) = acceptor.accept().now_or_never() else { break };
        take_up(accepted, &mut connections);
    }
    drop(acceptor);
    // Only now: a proxy that is told to go elsewhere connects anew at once. If that is refused it asks another replica;
    // a connection that nobody takes up any more would look like a crash to it.
    closed.cancel();
    let mut unfinished = 0;
    let finished = async {
        while let Some(ended) = connections.join_next().await {
            unfinished += usize::from(ending(ended) == Ending::Unfinished);
        }
    };
    tokio::select! {
        biased;
        () = finished => {}
        () = shutdown.reached(Phase::Over) => {}
    }
    let late = connections.len();
    connections.shutdown().await;
    streams.close();
    streams.wait().await;
    if let Some(told) = told(unfinished, late) {
        tracing::warn!(%address, "{told}");
    }
    Ok(())
}

/// How many connections were cut off, in words; `None` if none was.
fn told(unfinished: usize, late: usize) -> Option<String> {
    let (noun, verb) = if unfinished + late == 1 { ("connection", "was") } else { ("connections", "were") };
    let why = match (unfinished, late) {
        (0, 0) => return None,
        (_, 0) => "without a whole request".to_owned(),
        (0, _) => "not done when time was up".to_owned(),
        _ => format!("{unfinished} without a whole request, {late} not done when time was up"),
    };
    Some(format!("{} {noun} {verb} cut off: {why}", unfinished + late))
}

fn ending(ended: Result<Ending, JoinError>) -> Ending {
    ended.unwrap_or_else(|lost| {
        tracing::error!(%lost, "a connection's task panicked");
        Ending::Ended
    })
}

async fn serve<S, B>(
    conn: Conn,
    service: S,
    limits: Limits,
    streams: TaskTracker,
    shutdown: Shutdown,
    closed: CancellationToken,
) -> Ending
where
    S: Service<Request<Arriving>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let gone = CancellationToken::new();
    let streams = Streams { tracker: streams, gone: Arc::new(gone.clone()), backlog: conn.backlog() };
    let builder = builder(limits, streams);
    // Its streams end with the connection, however that ends.
    let _gone = gone.drop_guard();
    let work = conn.work();
    let remote = limits.tell_remote.then(|| conn.remote());
    let service = Accounted::new(service, work.clone(), shutdown, remote);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(conn), service));
    let heard = Instant::now() + LOOK;
    let closing = async {
        closed.cancelled().await;
        // Who has just connected has a request on its way, and would be hung up on before a word was heard.
        sleep_until(heard).await;
    };
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = closing => {
            connection.as_mut().graceful_shutdown();
            let given_up = async {
                let mut before = None;
                loop {
                    sleep(LOOK).await;
                    let now = work.done();
                    if now.is_some() && now == before {
                        return;
                    }
                    before = now;
                }
            };
            tokio::select! {
                biased;
                served = connection => served,
                () = given_up => return Ending::Unfinished,
            }
        }
    };
    if let Err(error) = served {
        // Clients hang up all the time: nothing an operator could do about.
        tracing::debug!(%error, "connection ended");
    }
    Ending::Ended
}

fn builder(limits: Limits, streams: Streams) -> Builder<Streams> {
    let mut builder = Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_buf_size(MAX_HEAD as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams_per_connection)
        .max_header_list_size(MAX_HEAD)
        .max_send_buf_size(MAX_SEND_BUFFER)
        // Guards against clients that open and reset streams without end. Ours is a proxy, whose one connection carries
        // thousands of visitors: when many of them hang up at once, closing it would hit all the others.
        .max_pending_accept_reset_streams(limits.max_streams_per_connection.max(MIN_RESETS) as usize)
        .max_local_error_reset_streams(None)
        .keep_alive_interval(limits.keepalive)
        .keep_alive_timeout(limits.keepalive_answer);
    builder
}

/// Runs a connection's HTTP/2 streams: counted, so that the end can wait for them.
#[derive(Clone)]
struct Streams {
    tracker: TaskTracker,
    gone: Arc<CancellationToken>,
    backlog: Arc<Backlog>,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Default + Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.tracker.spawn(Stream::new(stream, self.backlog.wait(), self.gone.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn who_was_cut_off_is_told_in_whole_sentences() {
        let said = |unfinished, late| told(unfinished, late).unwrap_or_default();
        assert_eq!(said(0, 0), "");
        assert_eq!(said(1, 0), "1 connection was cut off: without a whole request");
        assert_eq!(said(0, 2), "2 connections were cut off: not done when time was up");
        assert_eq!(
            said(2, 1),
            "3 connections were cut off: 2 without a whole request, 1 not done when time was up"
        );
    }
}
