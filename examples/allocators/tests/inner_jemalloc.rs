//! The counters over jemalloc.

#[path = "support/over.rs"]
mod over;

use alloc_ladder::CountingAlloc;

#[global_allocator]
static ALLOC: CountingAlloc<tikv_jemallocator::Jemalloc> = CountingAlloc::wrapping(tikv_jemallocator::Jemalloc);

#[test]
fn every_block_is_counted() {
    over::every_block_is_counted();
}
