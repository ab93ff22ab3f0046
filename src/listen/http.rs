//! Serving HTTP/1 and HTTP/2 (without TLS) on a listener, until it is drained.

use std::error::Error;

use bytes::Buf;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::accept::{Acceptor, Conn};
use super::progress::Stream;
use super::{Bound, Limits};
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

/// Time was up before all connections had ended.
#[derive(Debug, thiserror::Error)]
#[error("{connections} connections were cut off because they did not end in time")]
pub struct CutOff {
    /// How many.
    pub connections: usize,
}

/// Serves until the drain is over.
///
/// At closing it stops listening, tells clients to go elsewhere (GOAWAY, `connection: close`) and finishes
/// what is under way; when time is up the rest is cut off, which is the only error. Streams that never
/// end by themselves should end at closing. When it returns, or is dropped, it leaves no task behind.
pub async fn serve_http<S, B>(
    bound: Bound,
    service: S,
    limits: Limits,
    metrics: ListenerMetrics,
    shutdown: Shutdown,
) -> Result<(), CutOff>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut acceptor = Acceptor::new(bound, limits, metrics);
    let streams = TaskTracker::new();
    let mut connections = JoinSet::new();
    let mut closing = Box::pin(shutdown.closing());
    loop {
        tokio::select! {
            biased;
            () = &mut closing => break,
            Some(ended) = connections.join_next() => note(ended),
            conn = acceptor.accept() => {
                let service = TowerToHyperService::new(service.clone());
                connections.spawn(serve(conn, service, limits, streams.clone(), shutdown.clone()));
            }
        }
    }
    drop(acceptor);
    let finished = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    let in_time = tokio::select! {
        biased;
        () = finished => true,
        () = shutdown.reached(Phase::Over) => false,
    };
    let left = connections.len();
    connections.shutdown().await;
    streams.close();
    streams.wait().await;
    if in_time || left == 0 { Ok(()) } else { Err(CutOff { connections: left }) }
}

fn note(ended: Result<(), JoinError>) {
    if let Err(lost) = ended {
        tracing::error!(%lost, "a connection's task panicked");
    }
}

async fn serve<S, B>(
    conn: Conn,
    service: TowerToHyperService<S>,
    limits: Limits,
    streams: TaskTracker,
    shutdown: Shutdown,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let gone = CancellationToken::new();
    let builder = builder(limits, Streams { tracker: streams, gone: gone.clone() });
    // Its streams end with the connection, however that ends.
    let _gone = gone.drop_guard();
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(conn), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.closing() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        // Clients hang up all the time: nothing an operator could do about.
        tracing::debug!(%error, "connection ended");
    }
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
    gone: CancellationToken,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Default + Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.tracker.spawn(self.gone.clone().run_until_cancelled_owned(Stream::new(stream)));
    }
}
