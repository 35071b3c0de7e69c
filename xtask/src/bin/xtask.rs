//! `cargo xtask`: the command, with the verbs of this repository.

use alloc_ladder::CountingAlloc;

/// Counts what the command itself holds, for `cargo xtask speed`.
#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

fn main() -> std::process::ExitCode {
    cargo_alloc_ladder::xtask()
}
