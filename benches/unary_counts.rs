//! What one `CreateUser` call allocates on every step of the unary ladder, client and server together: the `allocs/op`
//! and `B/op` of the talk's `BenchmarkUnary`, exact. Its times are in `benches/unary.rs`, which says why they are apart.
//!
//! Connecting and warming up cancel out: a run of many calls less a run of few.

#[path = "support/unary.rs"]
mod unary;

use std::io::{self, Write as _};

use alloc_ladder::{CountingAlloc, Snapshot, Stage};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::new();

const FEW: u64 = 100;
const MORE: u64 = 2000;

fn counted(running: &unary::Running, calls: u64) -> Snapshot {
    let before = Snapshot::of_process();
    running.calls(calls);
    Snapshot::of_process() - before
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{:<22} {:>10} {:>10}", "step", "allocs/op", "B/op")?;
    let stages = Stage::ALL.into_iter().filter(|stage| *stage != Stage::Instrument);
    for stage in stages.clone() {
        write!(out, " {:>21}", format!("{stage} B/op"))?;
    }
    writeln!(out)?;
    for (step, tuning) in unary::steps() {
        let running = unary::Running::start(tuning);
        // The process's first calls allocate what later ones share.
        counted(&running, FEW);
        let few = counted(&running, FEW);
        let more = counted(&running, FEW + MORE) - few;
        let per_call = |count: u64| count as f64 / MORE as f64;
        let total = more.total_without_instrument();
        assert!(total.blocks > MORE, "{}: {} blocks in {MORE} calls", step.name, total.blocks);
        write!(out, "{:<22} {:>10.2} {:>10.0}", step.name, per_call(total.blocks), per_call(total.bytes))?;
        for stage in stages.clone() {
            write!(out, " {:>21.0}", per_call(more.stage(stage).bytes))?;
        }
        writeln!(out)?;
    }
    out.flush()
}
