//! What `Alloc` costs: nanoseconds per allocation and its free, for every mode, at different depths of the stack.
//!
//! Each allocator is called directly through `GlobalAlloc`; none of them is this program's global allocator. An iteration
//! is one block of [`BLOCK_BYTES`] allocated and freed. The system allocator's own time is in every figure: subtract the
//! first row. A loop is the best case of the recorder, which remembers walks: the rows `stacks, new walks` move the stack
//! pointer from one block to the next so that each stack is walked.
//!
//! ```text
//! cargo bench --bench recorder --features recorder,sampled
//! ```

#![expect(unsafe_code, reason = "calling an allocator is unsafe, and calling allocators is all this program does")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::{Duration, Instant};

use alloc_ladder::alloc::Mode;
use alloc_ladder::{Alloc, CountingAlloc};
use criterion::{Criterion, criterion_group, criterion_main};

/// Small enough for the allocator's fastest path, so that the share of what is beside it is as large as it gets.
const BLOCK_BYTES: usize = 64;
const DEPTHS: [usize; 3] = [1, 30, 60];

static COUNTING: CountingAlloc = CountingAlloc::new();
static OFF: Alloc = Alloc::new().unless_asked(Mode::Off);
static COUNT: Alloc = Alloc::new().unless_asked(Mode::Count);
#[cfg(feature = "sampled")]
static SAMPLED: Alloc = Alloc::new().unless_asked(Mode::Sampled);
static STACKS: Alloc = Alloc::new().unless_asked(Mode::Stacks);

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

/// Runs `work` that many calls further down.
#[inline(never)]
fn below(depth: usize, work: &mut dyn FnMut()) {
    if depth == 0 {
        work();
    } else {
        below(depth - 1, work);
    }
    black_box(());
}

fn timed(alloc: &impl GlobalAlloc, depth: usize, count: u64) -> Duration {
    let mut took = Duration::ZERO;
    below(depth, &mut || {
        // What a thread keeps for itself is set up, and walks are remembered.
        pairs(alloc, 1000);
        let start = Instant::now();
        pairs(alloc, count);
        took = start.elapsed();
    });
    took
}

/// Every pair from another depth, of more than are remembered.
fn timed_walking(alloc: &impl GlobalAlloc, depth: usize, count: u64) -> Duration {
    let round = |rounds: u64| {
        let start = Instant::now();
        for _ in 0..rounds {
            for more in 0..PLACES {
                below(depth + more, &mut || pairs(alloc, 1));
            }
        }
        start.elapsed()
    };
    round(4);
    round(count.div_ceil(PLACES as u64)).mul_f64(count as f64 / (count.div_ceil(PLACES as u64) * PLACES as u64) as f64)
}

const PLACES: usize = 100;

fn all(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("ALLOC_LADDER_RECORDINGS", folder.path()) };
    assert_eq!(STACKS.mode(), Mode::Stacks, "this machine can record");
    let mut one = |name: &str, depth: usize, timed: &dyn Fn(u64) -> Duration| {
        criterion.bench_function(&format!("{name}/{depth}"), |bencher| bencher.iter_custom(timed));
    };
    for depth in DEPTHS {
        one("system", depth, &|count| timed(&System, depth, count));
        one("off", depth, &|count| timed(&OFF, depth, count));
        one("counting-alloc", depth, &|count| timed(&COUNTING, depth, count));
        one("count", depth, &|count| timed(&COUNT, depth, count));
        #[cfg(feature = "sampled")]
        one("sampled", depth, &|count| timed(&SAMPLED, depth, count));
        one("stacks", depth, &|count| timed(&STACKS, depth, count));
        one("system, new walks", depth, &|count| timed_walking(&System, depth, count));
        one("stacks, new walks", depth, &|count| timed_walking(&STACKS, depth, count));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300)).sample_size(20);
    targets = all
}
criterion_main!(benches);
