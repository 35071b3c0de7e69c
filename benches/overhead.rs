//! What counting costs: nanoseconds per allocation and its free, for every instrument and for its neighbours.
//!
//! Each allocator is called directly through `GlobalAlloc`; none of them is this program's global allocator, so what
//! criterion does beside is neither counted nor slowed down. An iteration is one block of [`BLOCK_BYTES`] allocated
//! and freed; with two threads each thread makes one, and the time is the slower thread's. The system allocator's own
//! time is in every figure: subtract the first row. `realloc` and `alloc_zeroed` are not measured here.
//!
//! Whoever counts is asked for its own count after every timed run: a block for every pair, or the row measures nothing.
//! divan's counters are read by its harness alone, so a process of its own asks it before anything is timed. What is
//! idle (`tracking-allocator-off`, `dhat-idle`) has no count to ask for.
//!
//! ```text
//! cargo bench --bench overhead
//! cargo bench --bench overhead --features driver,retained
//! ALLOC_LADDER_INSTRUMENT=count cargo bench --bench overhead --features driver,retained -- driver
//! ```
//!
//! The second has the `retained` instrument's ledger behind tracking-allocator, where the first has a tracker that counts
//! blocks: a process has one tracker for its life. It also has the driver's allocator, which is one of several, as the
//! variable says: the difference to the allocator it forwards to is what having the choice costs.

#![expect(unsafe_code, reason = "calling an allocator is unsafe, and calling allocators is all this program does")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use alloc_ladder::stage::current;
use alloc_ladder::{CountingAlloc, Snapshot, Stage};
use criterion::{Criterion, criterion_group};
use tracking_allocator::AllocationRegistry;

/// Small enough for the allocator's fastest path, so that the instrument's share is as large as it gets.
const BLOCK_BYTES: usize = 64;
const THREADS: [usize; 2] = [1, 2];

static COUNTING: CountingAlloc = CountingAlloc::new();
static DIVAN: divan::AllocProfiler = divan::AllocProfiler::system();
static STATS: stats_alloc::StatsAlloc<System> = stats_alloc::StatsAlloc::system();
static TRACKING: tracking_allocator::Allocator<System> = tracking_allocator::Allocator::system();
static DHAT: dhat::Alloc = dhat::Alloc;

/// Allocates and frees `pairs` blocks.
fn pairs(alloc: &impl GlobalAlloc, pairs: u64) {
    let layout = Layout::new::<[u8; BLOCK_BYTES]>();
    for _ in 0..pairs {
        // SAFETY: the layout's size is not zero, and each block is freed once, by its allocator, with its layout.
        unsafe {
            let block = black_box(alloc.alloc(layout));
            assert!(!block.is_null(), "out of memory");
            alloc.dealloc(block, layout);
        }
    }
}

/// The time `threads` threads take to make `count` pairs each, from when all of them stand ready.
fn timed(alloc: &(impl GlobalAlloc + Sync), threads: usize, count: u64) -> Duration {
    let ready = Barrier::new(threads);
    let one = || {
        // The first block sets up what a thread keeps for itself.
        pairs(alloc, 1);
        ready.wait();
        let start = Instant::now();
        pairs(alloc, count);
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let own = one();
        others.into_iter().map(|other| other.join().expect("no thread panics")).fold(own, Duration::max)
    })
}

/// What an allocator says that it allocated so far; `None` for one that does not count.
type Counted = Option<fn() -> u64>;

/// One row for each number of threads.
fn bench(c: &mut Criterion, name: &str, alloc: &(impl GlobalAlloc + Sync), counted: Counted) {
    let mut group = c.benchmark_group("pair");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for threads in THREADS {
        group.bench_function(format!("{name}/{threads}"), |b| {
            b.iter_custom(|count| {
                let blocks = || counted.map(|counted| counted());
                let before = blocks();
                let elapsed = timed(alloc, threads, count);
                let expected = before.map(|before| before + (count + 1) * threads as u64);
                assert_eq!(blocks(), expected, "{name} counts every block");
                elapsed
            });
        });
    }
    group.finish();
}

/// The allocator that is chosen at the first allocation.
#[cfg(feature = "driver")]
fn bench_chosen(c: &mut Criterion) {
    use alloc_ladder::driver::instrument::{GLOBAL, Global, chosen};

    static CHOSEN: Global = GLOBAL;
    bench(c, &format!("driver-{}", chosen().name()), &CHOSEN, None);
}

#[cfg(not(feature = "driver"))]
fn bench_chosen(_: &mut Criterion) {}

/// What [`CountingAlloc`] counted, which is freed as well and has the right size.
fn counting() -> u64 {
    let total = Snapshot::of_process().total();
    assert_eq!((total.freed_blocks, total.bytes), (total.blocks, total.blocks * BLOCK_BYTES as u64));
    total.blocks
}

/// What divan's harness reports of [`PAIRS`] pairs.
mod divan_counts {
    use std::process::Command;

    use super::{DIVAN, pairs};

    /// Set in the environment of the process that runs divan's harness.
    const ASKED: &str = "OVERHEAD_ASKS_DIVAN";
    const PAIRS: u64 = 1000;

    #[divan::bench]
    fn pairs_of_divan() {
        pairs(&DIVAN, PAIRS);
    }

    /// Whether this process is the one that is asked; the answer is divan's table, on stdout.
    pub(super) fn answered() -> bool {
        let asked = std::env::var_os(ASKED).is_some();
        if asked {
            divan::Divan::default().color(false).sample_count(1).sample_size(1).run_benches();
        }
        asked
    }

    pub(super) fn check() {
        let program = std::env::current_exe().expect("this program has a file");
        let output = Command::new(program).env(ASKED, "1").output().expect("this program starts");
        let table = String::from_utf8(output.stdout).expect("divan's table is text");
        for what in ["alloc:", "dealloc:"] {
            let mut lines =
                table.lines().skip_while(|line| !line.trim_start_matches(['│', ' ']).starts_with(what)).skip(1);
            let counts = lines.next().unwrap_or_default().trim_start_matches(['│', ' ']).split_whitespace().next();
            assert_eq!(counts.and_then(|count| count.parse().ok()), Some(PAIRS), "divan counts every block:\n{table}");
        }
    }
}

/// The tracker behind tracking-allocator: its name and what it counted.
#[cfg(all(feature = "driver", feature = "retained"))]
fn track() -> (&'static str, Counted) {
    let counted = || {
        let rows = alloc_ladder::driver::retained::Ledger::install().read();
        rows.iter().flat_map(|row| &row.freed_by).map(|freed| freed.blocks).sum()
    };
    // The first call makes the ledger known.
    counted();
    ("retained", Some(counted))
}

/// The least that a tracker can do.
#[cfg(not(all(feature = "driver", feature = "retained")))]
fn track() -> (&'static str, Counted) {
    use std::sync::atomic::{AtomicU64, Ordering};
    use tracking_allocator::{AllocationGroupId, AllocationTracker};

    static BLOCKS: AtomicU64 = AtomicU64::new(0);

    struct Blocks;

    impl AllocationTracker for Blocks {
        fn allocated(&self, _: usize, _: usize, _: usize, _: AllocationGroupId) {
            BLOCKS.fetch_add(1, Ordering::Relaxed);
        }

        fn deallocated(&self, _: usize, _: usize, _: usize, _: AllocationGroupId, _: AllocationGroupId) {}
    }

    AllocationRegistry::set_global_tracker(Blocks).expect("no tracker was set before");
    ("tracking-allocator", Some(|| BLOCKS.load(Ordering::Relaxed)))
}

fn allocators(c: &mut Criterion) {
    divan_counts::check();
    bench(c, "system", &System, None);
    bench_chosen(c);
    bench(c, "counting", &COUNTING, Some(counting));
    bench(c, "divan", &DIVAN, None);
    bench(c, "stats-alloc", &STATS, Some(|| STATS.stats().allocations as u64));
    bench(c, "tracking-allocator-off", &TRACKING, None);
    let (tracker, counted) = track();
    AllocationRegistry::enable_tracking();
    bench(c, tracker, &TRACKING, counted);
    AllocationRegistry::disable_tracking();
    bench(c, "dhat-idle", &DHAT, None);
    // As `stacks` has it, but that it writes no file.
    let profiler = dhat::Profiler::builder().trim_backtraces(Some(64)).testing().build();
    bench(c, "dhat", &DHAT, Some(|| dhat::HeapStats::get().total_blocks));
    drop(profiler);
}

/// What a seam costs where nothing is allocated: entering a stage and leaving it.
fn stages(c: &mut Criterion) {
    c.bench_function("stage/enter-and-leave", |b| {
        b.iter(|| {
            let _guard = black_box(Stage::Marshal).enter();
            assert_eq!(current().stage(), Stage::Marshal);
        });
    });
}

criterion_group!(benches, allocators, stages);

fn main() {
    if divan_counts::answered() {
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
