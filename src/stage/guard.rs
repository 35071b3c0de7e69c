//! Entering a stage: a guard around synchronous code, and a future that enters on every poll.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::Stage;
use super::current::{CURRENT, UNSTAGED, WINDOW, current};
use super::scope::Scope;

impl Stage {
    /// Enters the stage until the guard is dropped, keeping the current RPC method.
    ///
    /// ```
    /// use alloc_ladder::Stage;
    /// let _guard = Stage::Marshal.enter();
    /// assert_eq!(alloc_ladder::stage::current().stage(), Stage::Marshal);
    /// ```
    #[inline]
    #[must_use = "the stage is left when the guard is dropped"]
    pub fn enter(self) -> StageGuard {
        // Where no guard is entered yet, the method is the one the resolver knows.
        current().with_stage(self).enter()
    }
}

impl Scope {
    /// Enters the scope until the guard is dropped.
    #[inline]
    #[must_use = "the scope is left when the guard is dropped"]
    pub fn enter(self) -> StageGuard {
        if UNSTAGED {
            return StageGuard { previous: Scope::NONE, window: None, not_send: PhantomData };
        }
        StageGuard { previous: CURRENT.replace(self), window: WINDOW.replace(None), not_send: PhantomData }
    }
}

/// Leaves a stage when dropped. Not `Send`: a guard must never be held across an `.await`.
#[derive(Debug)]
pub struct StageGuard {
    previous: Scope,
    window: Option<Scope>,
    not_send: PhantomData<*const ()>,
}

impl Drop for StageGuard {
    #[inline]
    fn drop(&mut self) {
        if UNSTAGED {
            return;
        }
        CURRENT.set(self.previous);
        WINDOW.set(self.window);
    }
}

pin_project! {
    /// A future that enters its scope on every poll, whichever thread polls it.
    ///
    /// Without it a task that migrates between worker threads would leave its stage behind.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Staged<F> {
        scope: Scope,
        #[pin]
        future: F,
    }
}

impl<F> Staged<F> {
    /// Wraps `future` so that its polls work for `scope`.
    pub fn new(scope: Scope, future: F) -> Self {
        Staged { scope, future }
    }

    /// The scope every poll enters.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    pub(crate) fn parts(self: Pin<&mut Self>) -> (Scope, Pin<&mut F>) {
        let this = self.project();
        (*this.scope, this.future)
    }
}

impl<F: Future> Future for Staged<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (scope, future) = self.parts();
        let _guard = scope.enter();
        future.poll(cx)
    }
}

/// Adds [`staged`](FutureExt::staged) to every future.
pub trait FutureExt: Future + Sized {
    /// Charges this future's polls to `stage` of the RPC method that is current here.
    ///
    /// ```
    /// use alloc_ladder::{Stage, stage::FutureExt};
    /// let work = async { vec![0u8; 64] }.staged(Stage::Handler);
    /// # let _ = work;
    /// ```
    fn staged(self, stage: Stage) -> Staged<Self> {
        Staged::new(current().with_stage(stage), self)
    }
}

impl<F: Future> FutureExt for F {}
