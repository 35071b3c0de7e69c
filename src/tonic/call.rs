//! One call, from its request to the end of its answer, and what tonic is about to make of it.

use std::cell::Cell;

use super::task;
use crate::Method;
use crate::method::OpenCall;

/// An open call, and what is to be done when it ends.
#[derive(Debug)]
pub(super) struct Call {
    _open: OpenCall,
    served: bool,
}

impl Call {
    pub(super) fn served(method: Method) -> Call {
        Call { _open: OpenCall::new(method), served: true }
    }

    pub(super) fn made(method: Method) -> Call {
        Call { _open: OpenCall::new(method), served: false }
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
