//! The lines that give a program another allocator, as the ladders' `switch` has them.
#![cfg(any(feature = "jemalloc", feature = "mimalloc"))]

use std::hint::black_box;

#[cfg(feature = "jemalloc")]
#[rustfmt::skip]
#[global_allocator] static ALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(not(feature = "jemalloc"))]
#[rustfmt::skip]
#[global_allocator] static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[test]
fn the_line_makes_it_the_programs_allocator() {
    let block = black_box(vec![1u8; 1 << 20]);
    assert!(is_its_own(&block));
}

/// Whether the allocator knows of the block.
#[cfg(feature = "jemalloc")]
fn is_its_own(block: &[u8]) -> bool {
    use tikv_jemalloc_ctl::{epoch, stats};

    // The figures are those of the last epoch.
    epoch::advance().expect("jemalloc keeps figures");
    stats::allocated::read().expect("jemalloc keeps figures") >= block.len()
}

/// Whether the allocator knows of the block.
#[cfg(not(feature = "jemalloc"))]
#[expect(unsafe_code, reason = "mimalloc is asked in C")]
fn is_its_own(block: &[u8]) -> bool {
    // SAFETY: the function looks at the address alone.
    unsafe { libmimalloc_sys::mi_is_in_heap_region(block.as_ptr().cast()) }
}
