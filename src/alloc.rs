//! The counting allocator: every allocation booked on the [`Scope`](crate::stage::Scope) it happens in.
//!
//! [`CountingAlloc`] forwards all four `GlobalAlloc` methods to the allocator it wraps and adds to a thread's own
//! counters; [`Snapshot`] reads them. It knows nothing of gRPC. It does not count what the C library allocates by
//! itself, memory maps, or thread stacks; and it must not be wrapped around `dhat::Alloc`, whose own bookkeeping
//! it would count.
//!
//! # Implementation
//! Counters live in static shards: a thread borrows one on its first allocation and gives it back when it
//! ends; the counts stay, and the shard's next owner counts on, so nothing is flushed and nothing is lost. An owned
//! shard has one writer, so an update is a relaxed load and a store without a `lock` prefix. Threads beyond the
//! number of shards, and threads whose thread-locals are gone, share one overflow shard that uses `fetch_add`.
//!
//! There is no header: a block is booked where it is allocated and its release where it is freed. A `realloc` is
//! booked as dhat does (a new block of the new size) and counted as a realloc with its old and new bytes besides.
//!
//! What it costs per allocation and free is measured by `cargo bench --bench overhead`.

#![expect(unsafe_code, reason = "a global allocator cannot be written without it")]

#[cfg(any(feature = "sampled", feature = "otel"))]
pub(crate) mod aside;
pub(crate) mod settled;
mod shard;
mod snapshot;
#[cfg(feature = "recorder")]
mod switch;
mod tally;

use std::alloc::{GlobalAlloc, Layout, System};

pub use shard::SHARDS;
pub use snapshot::{Row, Snapshot};
#[cfg(feature = "live")]
pub(crate) use switch::Switch;
#[cfg(feature = "recorder")]
pub use switch::{Alloc, Mode, VARIABLE};
pub use tally::{SIZE_BUCKETS, Tally};

use crate::stage;

/// Blocks and bytes that this thread counted for a method so far, without the instrument's; `None` for a thread without
/// counters of its own. Only differences mean something.
#[cfg(feature = "tonic")]
#[inline]
pub(crate) fn spent(method: stage::Method) -> Option<(u64, u64)> {
    // The stages of a method stand in the order of their numbers.
    shard::read_blocks(stage::Scope::new(method, stage::Stage::Other).index(), stage::Stage::Instrument as usize)
}

/// Which place among [`SHARDS`] is this thread's own while it lives; `None` for threads beyond.
#[cfg(feature = "tonic")]
#[inline]
pub(crate) fn place() -> Option<usize> {
    shard::place()
}

/// How many places were ever a thread's.
pub(crate) fn places() -> usize {
    shard::places()
}

/// A global allocator that counts blocks and bytes per stage and RPC method, then asks `A` for the memory.
///
/// ```
/// use alloc_ladder::CountingAlloc;
///
/// #[global_allocator]
/// static ALLOC: CountingAlloc = CountingAlloc::new();
/// # fn main() {
/// let before = alloc_ladder::Snapshot::of_thread();
/// let block = vec![0u8; 1000];
/// let counted = alloc_ladder::Snapshot::of_thread() - before;
/// assert_eq!(counted.total_without_instrument().bytes, 1000);
/// # drop(block);
/// # }
/// ```
#[derive(Debug, Default)]
pub struct CountingAlloc<A = System> {
    inner: A,
}

impl CountingAlloc<System> {
    /// Counts and asks the system's allocator.
    pub const fn new() -> Self {
        CountingAlloc { inner: System }
    }
}

impl<A> CountingAlloc<A> {
    /// Counts and asks `inner`, which may be any allocator (mimalloc, jemalloc, …).
    pub const fn wrapping(inner: A) -> Self {
        CountingAlloc { inner }
    }
}

// SAFETY: (the invariant) every method hands its arguments unchanged to the same method of `inner` and returns its
// result unchanged; what happens beside is arithmetic on static atomics and thread-local words, which neither unwinds
// nor touches the memory handed out. It may come back to this allocator once a thread: where registering the
// thread-local destructor allocates, `shard::borrow` has set the thread's shard to the shared one before, so that the
// allocation within is counted there and borrows nothing. So `inner`'s own guarantees hold for the callers.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAlloc<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the invariant above; the caller keeps `alloc`'s contract.
        let block = unsafe { self.inner.alloc(layout) };
        if !block.is_null() {
            shard::allocated(stage::window::current_for(layout.size()), layout.size());
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the invariant above; the caller keeps `alloc_zeroed`'s contract.
        let block = unsafe { self.inner.alloc_zeroed(layout) };
        if !block.is_null() {
            shard::allocated(stage::window::current_for(layout.size()), layout.size());
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the invariant above; the caller keeps `dealloc`'s contract.
        unsafe { self.inner.dealloc(block, layout) };
        shard::freed(stage::current(), layout.size());
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the invariant above; the caller keeps `realloc`'s contract.
        let moved = unsafe { self.inner.realloc(block, layout, new_size) };
        if !moved.is_null() {
            shard::reallocated(stage::window::current_for(new_size), layout.size(), new_size);
        }
        moved
    }
}
