//! What jemalloc says of itself, below the counters of a program with the endpoints.

#[path = "../../../tests/support/http.rs"]
mod http;
#[path = "support/keeps.rs"]
mod keeps;

use alloc_ladder::CountingAlloc;

#[global_allocator]
static ALLOC: CountingAlloc<tikv_jemallocator::Jemalloc> = CountingAlloc::wrapping(tikv_jemallocator::Jemalloc);

#[test]
fn its_figures_are_shown() {
    keeps::its_figures_are_shown("jemalloc");
}
