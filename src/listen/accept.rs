//! Accepting connections: within a bound, through bad moments, and none that only sits there.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::backlog::Backlog;
use super::work::Work;
use super::{Bound, Limits, Remote, Socket};
use crate::telemetry::metrics::{ListenerMetrics, Open};

/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait after the first failed attempt to accept; doubled up to the second.
const BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Accepts connections.
#[derive(Debug)]
pub(super) struct Acceptor {
    bound: Bound,
    limits: Limits,
    metrics: ListenerMetrics,
    slots: Arc<Semaphore>,
    // Kept here, so that a cancelled `accept` does not cut the wait short.
    not_before: Option<Instant>,
    backoff: Duration,
}

impl Acceptor {
    pub(super) fn new(bound: Bound, limits: Limits, metrics: ListenerMetrics) -> Self {
        let slots = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
        Self { bound, limits, metrics, slots, not_before: None, backoff: BACKOFF }
    }

    /// The next connection. Cancelling it loses none.
    pub(super) async fn accept(&mut self) -> Accepted {
        loop {
            if let Some(time) = self.not_before {
                sleep_until(time).await;
                self.not_before = None;
            }
            match accept_from(&self.bound.socket).await {
                Ok(stream) => {
                    self.backoff = BACKOFF;
                    match Arc::clone(&self.slots).try_acquire_owned() {
                        Ok(slot) => {
                            let (limits, open) = (self.limits, self.metrics.connection_opened());
                            return Accepted { stream, limits, open, slot };
                        }
                        // Closed at once: a client that is refused can go elsewhere, one that hangs cannot.
                        Err(_) => self.metrics.connection_refused(),
                    }
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.metrics.accept_failed();
        let of_one_connection = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::Interrupted
        );
        if of_one_connection {
            return;
        }
        // Out of file descriptors or memory: trying again at once would only burn what is left.
        if self.backoff == BACKOFF {
            let address = self.bound.local_addr();
            tracing::error!(%address, %error, "connections cannot be accepted; is the limit on open files too low?");
        }
        self.not_before = Some(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }
}

async fn accept_from(socket: &Socket) -> io::Result<Unserved> {
    match socket {
        Socket::Tcp(listener) => {
            let (stream, peer) = listener.accept().await?;
            // Answers are small and awaited: never hold one back to fill a packet.
            stream.set_nodelay(true)?;
            Ok(Unserved::Tcp(stream.into_std()?, peer))
        }
        Socket::Unix { listener, .. } => listener.accept().await?.0.into_std().map(Unserved::Unix),
    }
}

/// A socket that belongs to no runtime yet.
#[derive(Debug)]
enum Unserved {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

/// A connection on its way to the thread that serves it.
#[derive(Debug)]
pub(super) struct Accepted {
    stream: Unserved,
    limits: Limits,
    open: Open,
    slot: OwnedSemaphorePermit,
}

impl Accepted {
    /// The connection, from now on driven by the runtime that this is called in.
    pub(super) fn here(self) -> io::Result<Conn> {
        let Self { stream, limits, open, slot } = self;
        let (stream, remote) = match stream {
            Unserved::Tcp(stream, peer) => (Peer::Tcp(TcpStream::from_std(stream)?), Remote(Some(peer))),
            Unserved::Unix(stream) => (Peer::Unix(UnixStream::from_std(stream)?), Remote(None)),
        };
        Ok(Conn::new(stream, remote, limits, open, slot))
    }
}

#[derive(Debug)]
enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// An accepted connection. It fails by itself when the client does not say which protocol it speaks, or
/// does not read what it is sent, for too long; HTTP servers have no time limit for either.
#[derive(Debug)]
pub(super) struct Conn {
    stream: Peer,
    remote: Remote,
    write_stall: Duration,
    // Until the protocol is clear: when that is too late, and how much of the preface has come.
    undecided: Option<(Pin<Box<Sleep>>, usize)>,
    // While a write waits for the client to read.
    stalled: Option<Pin<Box<Sleep>>>,
    work: Arc<Work>,
    backlog: Arc<Backlog>,
    _open: Open,
    _slot: OwnedSemaphorePermit,
}

impl Conn {
    fn new(stream: Peer, remote: Remote, limits: Limits, open: Open, slot: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            remote,
            write_stall: limits.write_stall,
            undecided: Some((Box::pin(sleep(limits.header_read)), 0)),
            stalled: None,
            work: Arc::default(),
            backlog: Arc::default(),
            _open: open,
            _slot: slot,
        }
    }

    /// Who is at its other end.
    pub(super) fn remote(&self) -> Remote {
        self.remote
    }

    /// What is being done on it.
    pub(super) fn work(&self) -> Arc<Work> {
        self.work.clone()
    }

    /// Its streams that have had no turn yet: while there are many, nothing is read.
    pub(super) fn backlog(&self) -> Arc<Backlog> {
        self.backlog.clone()
    }

    /// Takes note of what the client said first.
    fn heard(&mut self, bytes: &[u8]) {
        let Some((_, matched)) = &mut self.undecided else { return };
        let rest = &PREFACE[*matched..];
        if bytes.is_empty() || bytes.len() >= rest.len() || !rest.starts_with(bytes) {
            // The end, HTTP/2, or HTTP/1, where the time for a request's head takes over.
            self.undecided = None;
        } else {
            *matched += bytes.len();
        }
    }

    /// Passes on how a write went, and fails it once it has waited for too long.
    fn wrote<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.work.wrote(written.is_ready());
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let write_stall = self.write_stall;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(write_stall)));
        timer.as_mut().poll(cx).map(|()| Err(timed_out("the client does not read")))
    }
}

fn timed_out(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

macro_rules! on_stream {
    ($conn:expr, $stream:ident => $call:expr) => {
        match &mut $conn.stream {
            Peer::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Peer::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.backlog.poll_room(cx));
        let before = buffer.filled().len();
        let read = on_stream!(self, stream => stream.poll_read(cx, buffer));
        if self.undecided.is_none() {
            return read;
        }
        if read.is_ready() {
            self.heard(&buffer.filled()[before..]);
            return read;
        }
        match &mut self.undecided {
            Some((timer, _)) => timer.as_mut().poll(cx).map(|()| Err(timed_out("the client says nothing"))),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = on_stream!(self, stream => stream.poll_write(cx, bytes));
        self.wrote(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = on_stream!(self, stream => stream.poll_write_vectored(cx, slices));
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        // Both can, but h2 then sends every body of 256 bytes and more by itself, otherwise only those of 1,024 and more:
        // for the answers to passes, of some 700, it is one system call for twenty of them. Three quarters of the CPU.
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::Listen;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::metrics::label::ListenerLabel;

    #[tokio::test(start_paused = true)]
    async fn running_out_of_files_is_counted_and_backs_off_and_is_got_over() {
        let metrics = Metrics::new(0);
        let listen: Listen = "127.0.0.1:0".parse().unwrap();
        let bound = listen.bind("--test").await.unwrap();
        let listener = metrics.listener(ListenerLabel::Client);
        let mut acceptor = Acceptor::new(bound, Limits::default(), listener);
        // ECONNABORTED concerns one connection only.
        acceptor.failed(&io::Error::from(io::ErrorKind::ConnectionAborted));
        assert_eq!(acceptor.not_before, None);
        let waits: Vec<_> = (0..10)
            .map(|_| {
                // EMFILE
                acceptor.failed(&io::Error::from_raw_os_error(24));
                acceptor.not_before.unwrap() - Instant::now()
            })
            .collect();
        assert_eq!((waits[0], waits[1], waits[9]), (BACKOFF, BACKOFF * 2, MAX_BACKOFF));
        let text = metrics.encode().unwrap();
        assert!(text.contains("anteroom_accept_errors_total{listener=\"client\"} 11\n"), "{text}");

        let Listen::Tcp(address) = *acceptor.bound.local_addr() else { panic!("not TCP") };
        let _client = std::net::TcpStream::connect(address).unwrap();
        let began = Instant::now();
        let _conn = acceptor.accept().await;
        assert!(began.elapsed() >= MAX_BACKOFF, "{:?}", began.elapsed());
        assert_eq!(acceptor.backoff, BACKOFF, "the next bad moment begins anew");
    }
}
