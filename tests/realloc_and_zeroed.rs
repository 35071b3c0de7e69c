//! `realloc` and `alloc_zeroed` are booked as documented.
//!
//! Two tests in one file: each counts its own thread alone.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::hint::black_box;

use alloc_ladder::assert::measure;
use alloc_ladder::{CountingAlloc, Tally};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

#[test]
fn a_realloc_is_a_new_block_of_the_new_size_and_a_realloc_besides() {
    let measured = measure(|| {
        let mut grown = black_box(Vec::<u8>::with_capacity(100));
        grown.reserve_exact(1000);
        grown.push(1);
        grown.shrink_to_fit();
        grown
    });
    let expected = Tally {
        blocks: 3,
        bytes: 100 + 1000 + 1,
        freed_blocks: 2,
        freed_bytes: 100 + 1000,
        reallocs: 2,
        realloc_old_bytes: 100 + 1000,
        realloc_new_bytes: 1000 + 1,
    };
    assert_eq!(measured.snapshot.total(), expected);
    // Sizes 1, 100 and 1000 in the buckets that end at 2, 128 and 1024.
    let filled: Vec<_> = measured.snapshot.sizes().iter().enumerate().filter(|(_, blocks)| **blocks > 0).collect();
    assert_eq!(filled, [(1, &1), (7, &1), (10, &1)]);
    assert_eq!(measured.snapshot.total().live_bytes(), 1);
    assert_eq!(measured.snapshot.total().live_blocks(), 1);
}

#[test]
#[expect(unsafe_code, reason = "a zeroed block with a chosen alignment")]
fn a_zeroed_block_is_a_block() {
    let measured = measure(|| {
        let layout = Layout::from_size_align(5000, 64).expect("a layout");
        // SAFETY: the layout's size is not zero; the block is read within its size and freed once with that layout.
        unsafe {
            let block = alloc_zeroed(layout);
            assert!(!block.is_null());
            assert_eq!(*black_box(block).add(4999), 0);
            dealloc(block, layout);
        }
        black_box(vec![0u64; 20])
    });
    let expected = Tally { blocks: 2, bytes: 5160, freed_blocks: 1, freed_bytes: 5000, ..Tally::default() };
    assert_eq!(measured.snapshot.total(), expected);
}
