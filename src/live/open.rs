//! What is live, by the row that allocated it, and how many calls are open: what one of them holds.
//!
//! The counters cannot say it: they book a release where it happens, and a connection's buffers are released by the
//! call that reads them. Samples remember who allocated.

use crate::Method;
use crate::method::MethodName;
use crate::sampled::{Estimate, Live};

/// A method and what its open calls hold.
pub(super) struct Open {
    pub(super) method: MethodName,
    pub(super) calls: u64,
    /// At most how many bytes of one message arrived on one of its streams; 0 where none is read.
    pub(super) largest_received: u64,
    /// What the method's rows allocated and nobody freed; `None` without the sampler.
    pub(super) live: Option<Estimate>,
}

impl Open {
    /// Live bytes for each open call, which is a mean; `None` where no call is open.
    pub(super) fn bytes_per_call(&self) -> Option<f64> {
        let live = self.live.filter(|_| self.calls > 0)?;
        Some(live.bytes / self.calls as f64)
    }

    /// Whether a table for people has something to say about it.
    pub(super) fn is_something(&self) -> bool {
        self.calls > 0 || self.live.is_some_and(|live| live.samples > 0)
    }
}

/// Every method that has a row, so that no figure vanishes when it falls to zero; calls whose path has none are of
/// [`Method::NONE`].
pub(super) fn methods(heap: &Live) -> impl Iterator<Item = Open> {
    Method::rows().map(|method| {
        let own = heap.rows.iter().filter(|(scope, _)| scope.method() == method);
        let live: Estimate = own.map(|(_, live)| *live).sum();
        Open {
            method: method.name(),
            calls: method.open_calls(),
            largest_received: method.largest_received(),
            live: (heap.every_bytes > 0).then_some(live),
        }
    })
}
