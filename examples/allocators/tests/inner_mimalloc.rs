//! The counters over mimalloc.

#[path = "support/over.rs"]
mod over;

use alloc_ladder::CountingAlloc;

#[global_allocator]
static ALLOC: CountingAlloc<mimalloc::MiMalloc> = CountingAlloc::wrapping(mimalloc::MiMalloc);

#[test]
fn every_block_is_counted() {
    over::every_block_is_counted();
}
