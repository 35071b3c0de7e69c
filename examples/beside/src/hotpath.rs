//! The study's server with hotpath, which writes what each measured function allocated to `hotpath.json` of the current
//! folder when it ends. One function is measured, `main`: hotpath sees no stacks.

use alloc_ladder::subject::program;

#[global_allocator]
static GLOBAL: hotpath::CountingAllocator = hotpath::CountingAllocator::new();

fn main() -> anyhow::Result<()> {
    let builder = hotpath::HotpathGuardBuilder::new("main").format(hotpath::Format::Json);
    let _guard = builder.output_path("hotpath.json").report("functions-alloc").build();
    program::run()
}
