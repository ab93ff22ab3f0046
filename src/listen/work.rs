//! What a connection is at: whether a request is in work on it, which the end waits for, or none is whole yet.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::Service;

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
#[derive(Clone, Debug)]
pub(super) struct Accounted<S> {
    inner: S,
    work: Arc<Work>,
}

impl<S> Accounted<S> {
    pub(super) fn new(inner: S, work: Arc<Work>) -> Self {
        Self { inner, work }
    }
}

impl<S, B> Service<Request<Incoming>> for Accounted<S>
where
    S: Service<Request<Arriving>, Response = Response<B>>,
{
    type Response = Response<Answer<B>>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let open = Open::new(&self.work);
        let request = request.map(|body| {
            let unfinished = (!body.is_end_stream()).then(|| Unfinished::new(&self.work));
            Arriving { body, unfinished }
        });
        Answering { inner: self.inner.call(request), open: Some(open) }
    }
}

pin_project! {
    /// Answers a request.
    pub(super) struct Answering<F> {
        #[pin]
        inner: F,
        open: Option<Open>,
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Answer<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.inner.poll(cx));
        let open = this.open.take();
        Poll::Ready(answered.map(|answer| answer.map(|body| Answer { body, _open: open })))
    }
}

pin_project! {
    /// An answer's body. Its request is open until this is dropped.
    pub(super) struct Answer<B> {
        #[pin]
        body: B,
        _open: Option<Open>,
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
