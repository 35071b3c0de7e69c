//! For one deterministic program the counting allocator and dhat count the same blocks and bytes.
//!
//! Both ask the system for memory, so one allocator can pass calls to either: the program runs once under each, and
//! blocks that outlive a run may be freed by the other.

#![expect(unsafe_code, reason = "an allocator that chooses between two")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::hint::black_box;
use std::rc::Rc;

use alloc_ladder::assert::measure;
use alloc_ladder::{CountingAlloc, Stage};

/// Passes every call to dhat or to the counting allocator.
struct Either {
    counting: CountingAlloc,
    dhat: dhat::Alloc,
}

thread_local! {
    /// Whether this thread's calls go to dhat, which counts every thread's.
    static USE_DHAT: Cell<bool> = const { Cell::new(false) };
}

#[global_allocator]
static ALLOC: Either = Either { counting: CountingAlloc::new(), dhat: dhat::Alloc };

impl Either {
    fn chosen(&self) -> &dyn GlobalAlloc {
        if USE_DHAT.get() { &self.dhat } else { &self.counting }
    }
}

// SAFETY: every method hands its arguments to the same method of an allocator that asks `System` with them unchanged,
// so it does not matter which of the two a block came from.
unsafe impl GlobalAlloc for Either {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { self.chosen().alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { self.chosen().alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { self.chosen().dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { self.chosen().realloc(block, layout, new_size) }
    }
}

/// Allocates in every way: zeroed, grown, shrunk, shared, over-aligned, in stages, across a reallocation.
fn program() -> usize {
    #[repr(align(256))]
    struct Aligned([u8; 256]);

    let mut kept: Vec<Box<dyn Fn() -> usize>> = Vec::new();
    for round in 1..=50usize {
        let _guard = Stage::ALL[round % Stage::ALL.len()].enter();
        let mut text = String::new();
        for word in 0..round {
            text.push_str("word");
            text.push_str(&word.to_string());
        }
        text.shrink_to_fit();
        let zeroed = vec![0u32; round * 7];
        let shared: Rc<[u32]> = zeroed.into();
        let aligned = Box::new(Aligned([round as u8; 256]));
        kept.push(Box::new(move || text.len() + shared.len() + usize::from(aligned.0[255])));
        if round % 3 == 0 {
            drop(kept.swap_remove(round / 3));
        }
    }
    let tree: BTreeMap<usize, String> = (0..200).map(|key| (key * 37 % 200, key.to_string())).collect();
    // A hasher without a seed: the table grows alike every time.
    let table: HashMap<usize, Vec<u8>, BuildHasherDefault<std::hash::DefaultHasher>> =
        (0..100).map(|key| (key, vec![1; key])).collect();
    let sum = kept.iter().map(|count| count()).sum::<usize>();
    black_box(sum + tree.len() + table.len())
}

#[test]
#[cfg_attr(miri, ignore = "dhat walks the stack at every allocation, which Miri cannot")]
fn blocks_and_bytes_equal_dhats() {
    // What is set up once per process or thread is set up before either counts.
    let first = program();
    let counted = measure(program);
    assert_eq!(counted.value, first);
    let counted = counted.snapshot.total();

    let profiler = dhat::Profiler::builder().testing().build();
    USE_DHAT.set(true);
    program();
    let before = dhat::HeapStats::get();
    let value = program();
    let after = dhat::HeapStats::get();
    USE_DHAT.set(false);
    drop(profiler);
    assert_eq!(value, first);
    let dhat = (after.total_blocks - before.total_blocks, after.total_bytes - before.total_bytes);
    assert_eq!((counted.blocks, counted.bytes), dhat);
    assert_eq!((counted.live_blocks(), counted.live_bytes()), (0, 0));
    assert!(counted.reallocs > 50, "the program is meant to reallocate: {counted:?}");
}
