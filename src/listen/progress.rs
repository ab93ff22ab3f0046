//! HTTP/2 streams: they end with their connection, and those that speak for a long time are cut off when their client
//! does not read.
//!
//! A body is not polled while its stream has no room to send, so it cannot notice by itself. The task that runs the
//! stream can: it is woken by the body's own timer, and sees that the body was not.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::backlog::Waiting;

/// What a long-lived body and the task that runs its stream share.
#[derive(Debug)]
struct Shared {
    /// By when the body wants to be polled.
    due: Mutex<Instant>,
    /// How long it may have to wait after that.
    stall: Duration,
}

thread_local! {
    /// Of the stream whose request is being served by this thread right now.
    static SERVED: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// A body's side.
#[derive(Debug)]
pub struct Progress(Arc<Shared>);

impl Progress {
    /// Of the stream whose request is being served. From now on it is cut off when its body was not polled for `stall`
    /// after it wanted to be. Over HTTP/1, where [`super::Limits::write_stall`] does this, it has no effect.
    pub fn of_this_stream(stall: Duration) -> Self {
        let shared = Arc::new(Shared { due: Mutex::new(Instant::now()), stall });
        SERVED.with_borrow_mut(|served| *served = Some(shared.clone()));
        Self(shared)
    }

    /// The body was polled, and wants to be again by then; it must have a timer of its own for it.
    pub fn made_until(&self, due: Instant) {
        *self.0.due.lock() = due;
    }
}

/// Runs a stream, and ends it when it is stuck.
pub(super) struct Stream<F> {
    inner: Pin<Box<F>>,
    /// Until the first turn.
    waiting: Option<Waiting>,
    /// Cancelled when the connection has ended.
    gone: Arc<CancellationToken>,
    /// Waits for that. Most streams are done in one turn: waiting from the first on would cost them four locks.
    end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    shared: Option<Arc<Shared>>,
    /// Runs while the stream is stuck.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Stream<F> {
    pub(super) fn new(inner: F, waiting: Waiting, gone: Arc<CancellationToken>) -> Self {
        let inner = Box::pin(inner);
        Self { inner, waiting: Some(waiting), gone, end: None, shared: None, patience: None }
    }
}

impl<F: Future<Output: Default>> Future for Stream<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.waiting = None;
        if self.gone.is_cancelled() {
            return Poll::Ready(F::Output::default());
        }
        // Nothing of a neighbour's may be left.
        SERVED.with_borrow_mut(|served| *served = None);
        let polled = self.inner.as_mut().poll(cx);
        if let Some(shared) = SERVED.with_borrow_mut(Option::take) {
            self.shared = Some(shared);
        }
        if polled.is_ready() {
            return polled;
        }
        let Self { gone, end, .. } = &mut *self;
        let end = end.get_or_insert_with(|| Box::pin(CancellationToken::clone(gone).cancelled_owned()));
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(F::Output::default());
        }
        let Some(shared) = &self.shared else { return Poll::Pending };
        let due = *shared.due.lock();
        if due > Instant::now() {
            self.patience = None;
            return Poll::Pending;
        }
        let late = due + shared.stall;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep_until(late)));
        if patience.deadline() != late {
            patience.as_mut().reset(late);
        }
        patience.as_mut().poll(cx).map(|()| F::Output::default())
    }
}
