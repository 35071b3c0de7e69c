//! What counting costs: nanoseconds per allocation and its free, for every instrument and for its neighbours.
//!
//! Each allocator is called directly through `GlobalAlloc`; none of them is this program's global allocator, so what
//! criterion does beside is neither counted nor slowed down. An iteration is one block of [`BLOCK_BYTES`] allocated
//! and freed; with two threads each thread makes one, and the time is the slower thread's. The system allocator's own
//! time is in every figure: subtract the first row. `realloc` and `alloc_zeroed` are not measured here.
//!
//! ```text
//! cargo bench --bench overhead
//! cargo bench --bench overhead --features retained
//! ALLOC_LADDER_INSTRUMENT=count cargo bench --bench overhead --features retained -- driver
//! ```
//!
//! The second has the `retained` instrument's ledger behind tracking-allocator, where the first has a tracker that does
//! nothing: a process has one tracker for its life. It also has the driver's allocator, which is one of several, as the
//! variable says: the difference to the allocator it forwards to is what having the choice costs.

#![expect(unsafe_code, reason = "calling an allocator is unsafe, and calling allocators is all this program does")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use alloc_ladder::stage::current;
use alloc_ladder::{CountingAlloc, Snapshot, Stage};
use criterion::{Criterion, criterion_group, criterion_main};
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

fn bench(c: &mut Criterion, name: &str, alloc: &(impl GlobalAlloc + Sync)) {
    let mut group = c.benchmark_group("pair");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for threads in THREADS {
        group.bench_function(format!("{name}/{threads}"), |b| b.iter_custom(|count| timed(alloc, threads, count)));
    }
    group.finish();
}

/// Counting must count: every pair that was timed is one block and its bytes, and nothing else is.
fn bench_counting(c: &mut Criterion) {
    let mut group = c.benchmark_group("pair");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for threads in THREADS {
        group.bench_function(format!("counting/{threads}"), |b| {
            b.iter_custom(|count| {
                let before = Snapshot::of_process();
                let elapsed = timed(&COUNTING, threads, count);
                let total = (Snapshot::of_process() - before).total();
                let blocks = (count + 1) * threads as u64;
                assert_eq!((total.blocks, total.freed_blocks), (blocks, blocks));
                assert_eq!(total.bytes, blocks * BLOCK_BYTES as u64);
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
    bench(c, &format!("driver-{}", chosen().name()), &CHOSEN);
}

#[cfg(not(feature = "driver"))]
fn bench_chosen(_: &mut Criterion) {}

/// The name of the tracker behind tracking-allocator.
#[cfg(feature = "retained")]
fn track() -> &'static str {
    alloc_ladder::driver::retained::Ledger::install();
    "retained"
}

/// What a tracker costs before it does anything.
#[cfg(not(feature = "retained"))]
fn track() -> &'static str {
    use tracking_allocator::{AllocationGroupId, AllocationTracker};

    struct Idle;

    impl AllocationTracker for Idle {
        fn allocated(&self, _: usize, _: usize, _: usize, _: AllocationGroupId) {}
        fn deallocated(&self, _: usize, _: usize, _: usize, _: AllocationGroupId, _: AllocationGroupId) {}
    }

    AllocationRegistry::set_global_tracker(Idle).expect("no tracker was set before");
    "tracking-allocator-no-op"
}

fn allocators(c: &mut Criterion) {
    bench(c, "system", &System);
    bench_chosen(c);
    bench_counting(c);
    bench(c, "divan", &DIVAN);
    bench(c, "stats-alloc", &STATS);
    bench(c, "tracking-allocator-off", &TRACKING);
    let tracker = track();
    AllocationRegistry::enable_tracking();
    bench(c, tracker, &TRACKING);
    AllocationRegistry::disable_tracking();
    bench(c, "dhat-idle", &DHAT);
    // As `stacks` has it, but that it writes no file.
    let profiler = dhat::Profiler::builder().trim_backtraces(Some(64)).testing().build();
    bench(c, "dhat", &DHAT);
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
criterion_main!(benches);
