//! The study's programs, on the allocator of the instrument that the environment names.

use alloc_ladder::driver::instrument;
use alloc_ladder::subject::program;

#[global_allocator]
static GLOBAL: instrument::Global = instrument::GLOBAL;

fn main() -> anyhow::Result<()> {
    instrument::start();
    program::run()
}
