//! The study's server with this project's allocator, which does what the environment says: nothing, count, sample or record
//! every stack.

use alloc_ladder::subject::program;

#[global_allocator]
static ALLOC: alloc_ladder::Alloc = alloc_ladder::Alloc::new();

fn main() -> anyhow::Result<()> {
    program::run()
}
