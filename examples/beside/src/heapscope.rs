//! The study's server with heapscope, which writes dhat's JSON to `dhat-heap.json` of the current folder when it ends. It
//! sees as deep as it can, 64 frames.

use alloc_ladder::subject::program;
use anyhow::Context;

#[global_allocator]
static GLOBAL: heapscope::Alloc = heapscope::Alloc::system();

fn main() -> anyhow::Result<()> {
    let profiler = heapscope::Profiler::builder().max_depth(heapscope::CAPTURE_DEPTH).trim_frames(false).build();
    let _profiler = profiler.context("heapscope does not start")?;
    program::run()
}
