//! One call, from its request to the end of its answer, and what tonic is about to make of it.

use std::cell::Cell;

use http::Uri;

use super::task;
use crate::method::{OpenCall, Proposal};
use crate::{Method, Side};

/// An open call, and what is to be done when it ends.
#[derive(Debug)]
pub(super) struct Call {
    _open: OpenCall,
    /// Of a path without a row: held until the answer's body ends, because that is charged to the lent row too.
    proposal: Option<Proposal>,
    served: bool,
}

impl Call {
    pub(super) fn served(method: Method, proposal: Option<Proposal>) -> Call {
        Call { _open: OpenCall::new(method), proposal, served: true }
    }

    pub(super) fn made(method: Method, proposal: Option<Proposal>) -> Call {
        Call { _open: OpenCall::new(method), proposal, served: false }
    }

    /// The call succeeded: its path gets its row, if it has none.
    pub(super) fn answered(&mut self) {
        if let Some(proposal) = self.proposal.take() {
            proposal.accept();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.served {
            // The task hyper spawned for it ends with the answer.
            task::end_call();
        } else {
            // tonic may have refused the answer, and made no `Streaming` of it.
            making_streaming(false);
        }
    }
}

thread_local! {
    /// tonic makes a `Streaming` next: it asks a decoder for its settings then too, and not for a message.
    static MAKING: Cell<bool> = const { Cell::new(false) };
}

/// Tells the thread's next decoder whether it is asked by a `Streaming` that is being made; returns what was told
/// before.
pub(super) fn making_streaming(making: bool) -> bool {
    MAKING.replace(making)
}

/// What the thread's decoder was told; it is told no second time.
pub(super) fn is_making_streaming() -> bool {
    MAKING.take()
}

thread_local! {
    /// The call that a layer on this thread is handing on.
    static PASSING: Cell<Option<Passing>> = const { Cell::new(None) };
}

/// Which call a layer hands on, so that the same layer below it knows that the call is counted already.
///
/// Layers hand on the request's URI as it is, so its place in memory tells one call from another without a look at its
/// bytes. Told on the thread and not in the request's extensions, because those allocate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    side: Side,
    path: usize,
    inside: bool,
}

impl Passing {
    /// A call that reaches a layer of `side`.
    pub(super) fn of(side: Side, uri: &Uri) -> Passing {
        let path = uri.path().as_ptr() as usize;
        let inside = PASSING.get().is_some_and(|outer| outer.side == side && outer.path == path);
        Passing { side, path, inside }
    }

    /// A layer of the same side counts the call already.
    pub(super) fn is_inside_another(&self) -> bool {
        self.inside
    }

    /// Does what hands the call on.
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.inside {
            return work();
        }
        /// Goes back to the outer call, also where `work` panics.
        struct Back(Option<Passing>);
        impl Drop for Back {
            fn drop(&mut self) {
                PASSING.set(self.0);
            }
        }
        let _back = Back(PASSING.replace(Some(*self)));
        work()
    }
}
