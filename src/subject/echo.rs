//! `Echo`: put's messages come back on the stream they went out on, so that both sides send and both receive.
//!
//! A step of put is about one direction. Here a side may receive as one step has it and send as another, which tonic's
//! `Grpc` and the steps' do not have within one call: each direction is made by itself, of the parts that the two are
//! made of.

mod client;
mod server;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;
use tokio_stream::Stream;

/// Holds a stream to so many messages that have not come back. A sender that waits for nothing fills the windows, and what
/// waits in them to be read keeps the buffers it was received in.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: u32,
    waiting: Option<Waker>,
}

impl Turns {
    /// So many at a time.
    pub fn of(count: u32) -> Turns {
        Turns(Arc::new(Mutex::new(State { free: count, waiting: None })))
    }

    /// A message came back.
    pub fn back(&self) {
        let waiting = {
            let mut state = self.lock();
            state.free += 1;
            state.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    fn poll_take(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        match state.free.checked_sub(1) {
            Some(free) => {
                state.free = free;
                Poll::Ready(())
            }
            None => {
                state.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pin_project! {
    /// A stream whose items wait for their turns, where there are any.
    #[derive(Debug)]
    pub struct InTurn<S> {
        #[pin]
        inner: S,
        turns: Option<Turns>,
    }
}

impl<S> InTurn<S> {
    /// Each item of `inner` takes a turn.
    pub fn new(inner: S, turns: Option<Turns>) -> Self {
        InTurn { inner, turns }
    }
}

impl<S: Stream> Stream for InTurn<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        let Some(turns) = this.turns else { return this.inner.poll_next(cx) };
        ready!(turns.poll_take(cx));
        let item = this.inner.poll_next(cx);
        if !matches!(item, Poll::Ready(Some(_))) {
            turns.back();
        }
        item
    }
}
