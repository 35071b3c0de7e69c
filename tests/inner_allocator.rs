//! The counting allocator wraps any allocator and passes each of the four methods on as it is.

#![expect(unsafe_code, reason = "an allocator to wrap")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use alloc_ladder::assert::measure;
use alloc_ladder::{CountingAlloc, assert_allocs};

/// Asks the system and remembers which of its methods were called for blocks of 4,001 bytes and more.
struct Inner {
    calls: [AtomicU64; 4],
}

impl Inner {
    fn call(&self, method: usize, size: usize) {
        if size > 4000 {
            self.calls[method].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn calls(&self) -> [u64; 4] {
        self.calls.each_ref().map(|calls| calls.load(Ordering::Relaxed))
    }
}

// SAFETY: every method hands its arguments unchanged to the same method of `System`.
unsafe impl GlobalAlloc for &'static Inner {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.call(0, layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.call(1, layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        self.call(2, new_size);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.call(3, layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(block, layout) }
    }
}

static INNER: Inner = Inner { calls: [const { AtomicU64::new(0) }; 4] };

#[global_allocator]
static ALLOC: CountingAlloc<&'static Inner> = CountingAlloc::wrapping(&INNER);

#[test]
fn each_method_reaches_the_same_method_of_the_inner_allocator() {
    let measured = measure(|| {
        let before = INNER.calls();
        let mut plain = black_box(Vec::<u8>::with_capacity(5000));
        let zeroed = black_box(vec![0u8; 6000]);
        plain.reserve_exact(7000);
        drop((plain, zeroed));
        let after = INNER.calls();
        [0, 1, 2, 3].map(|method| after[method] - before[method])
    });
    let calls = assert_allocs!(measured, blocks == 3, bytes == 18_000, reallocs == 1, freed_blocks == 3);
    assert_eq!(calls, [1, 1, 1, 2]);
}
