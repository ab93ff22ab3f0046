//! What a connection is at: whether a request is in work on it, which the end waits for, or none is whole yet.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::util::Oneshot;
use tower::{Service, ServiceExt as _};

use super::Remote;
use crate::drain::{Phase, Shutdown};

/// What the parts of one connection tell about it.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Requests whose answers have not ended.
    open: AtomicU32,
    /// Those of them whose bodies still come in.
    arriving: AtomicU32,
    /// Writes so far; only whether it has changed counts.
    writes: AtomicU32,
    /// Whether something waits for the client to read.
    unread: AtomicBool,
}

impl Work {
    /// Something was written, or could not be because the client does not read.
    pub(super) fn wrote(&self, all_read: bool) {
        if all_read {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        if self.unread.load(Ordering::Relaxed) == all_read {
            self.unread.store(!all_read, Ordering::Relaxed);
        }
    }

    /// `None` while a whole request is in work, or its answer not sent. Else nothing has been done for the client
    /// between two calls with the same result.
    pub(super) fn done(&self) -> Option<u32> {
        let in_work = self.open.load(Ordering::Relaxed) > self.arriving.load(Ordering::Relaxed);
        (!in_work && !self.unread.load(Ordering::Relaxed)).then(|| self.writes.load(Ordering::Relaxed))
    }
}

/// Counts an open request until it is dropped.
#[derive(Debug)]
struct Open(Arc<Work>);

impl Open {
    fn new(work: &Arc<Work>) -> Self {
        work.open.fetch_add(1, Ordering::Relaxed);
        Self(work.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request's body that still comes in until it is dropped.
#[derive(Debug)]
struct Unfinished(Arc<Work>);

impl Unfinished {
    fn new(work: &Arc<Work>) -> Self {
        work.arriving.fetch_add(1, Ordering::Relaxed);
        Self(work.clone())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.arriving.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's body.
#[derive(Debug)]
pub struct Arriving {
    body: Incoming,
    unfinished: Option<Unfinished>,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(polled, Some(Ok(_))) || self.body.is_end_stream() {
            self.unfinished = None;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection's service, which keeps account of its requests.
#[derive(Debug)]
pub(super) struct Accounted<S> {
    inner: S,
    work: Arc<Work>,
    shutdown: Shutdown,
    /// What requests are to say about who sent them; `None`: nothing.
    remote: Option<Remote>,
}

impl<S> Accounted<S> {
    pub(super) fn new(inner: S, work: Arc<Work>, shutdown: Shutdown, remote: Option<Remote>) -> Self {
        Self { inner, work, shutdown, remote }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Accounted<S>
where
    S: Service<Request<Arriving>, Response = Response<B>> + Clone,
{
    type Response = Response<Answer<B>>;
    type Error = S::Error;
    type Future = Answering<Oneshot<S, Request<Arriving>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let open = Open::new(&self.work);
        let shutdown = (request.version() < Version::HTTP_2).then(|| self.shutdown.clone());
        let mut request = request.map(|body| {
            let unfinished = (!body.is_end_stream()).then(|| Unfinished::new(&self.work));
            Arriving { body, unfinished }
        });
        if let Some(remote) = self.remote {
            request.extensions_mut().insert(remote);
        }
        Answering { inner: self.inner.clone().oneshot(request), open: Some(open), shutdown }
    }
}

pin_project! {
    /// Answers a request.
    pub(super) struct Answering<F> {
        #[pin]
        inner: F,
        open: Option<Open>,
        // With HTTP/1 only.
        shutdown: Option<Shutdown>,
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Answer<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answered = ready!(this.inner.poll(cx));
        // HTTP/1 has no GOAWAY: what comes on a connection in the moment in which it is closed is lost, and proxies ask
        // again elsewhere only for some methods. So connections are ended before that, after an answer.
        if let Ok(answer) = &mut answered
            && this.shutdown.as_ref().is_some_and(|shutdown| shutdown.phase() >= Phase::NotReady)
        {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let open = this.open.take();
        Poll::Ready(answered.map(|answer| answer.map(|body| Answer { body, open })))
    }
}

pin_project! {
    /// An answer's body. Its request is open until this and all that came of it are dropped.
    pub(super) struct Answer<B> {
        #[pin]
        body: B,
        open: Option<Open>,
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = Unsent<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Unsent<B::Data>>, B::Error>>> {
        let this = self.project();
        let open = &*this.open;
        let hold = |data| Unsent { data, _open: open.as_ref().map(|open| Open::new(&open.0)) };
        this.body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(hold))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of an answer, which waits to be sent: behind others, or for the client to open its window. Its request is open
/// until then.
#[derive(Debug)]
pub(super) struct Unsent<D> {
    data: D,
    _open: Option<Open>,
}

impl<D: Buf> Buf for Unsent<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.data.copy_to_bytes(len)
    }
}
