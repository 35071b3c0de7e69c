//! The line that makes jemalloc a program's allocator, as the ladders' `switch` has it.

use std::hint::black_box;

use tikv_jemalloc_ctl::{epoch, stats};

#[rustfmt::skip]
#[global_allocator] static ALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[test]
fn the_line_makes_it_the_programs_allocator() {
    let block = black_box(vec![1u8; 1 << 20]);
    // The figures are those of the last epoch.
    epoch::advance().expect("jemalloc keeps figures");
    assert!(stats::allocated::read().expect("jemalloc keeps figures") >= block.len());
}
