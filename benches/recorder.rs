//! What the sampler costs: an allocation and free through it, beside the allocators it wraps, and one sample.
//!
//! The allocators are called directly, so that criterion's own allocations go elsewhere.

#![expect(unsafe_code, reason = "allocators are called directly")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::{Duration, Instant};

use alloc_ladder::CountingAlloc;
use alloc_ladder::sampled::{Profile, SampledAlloc};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn pair(allocator: &impl GlobalAlloc, layout: Layout) {
    // SAFETY: no layout here is of size zero, and what is allocated is freed once, with the same layout.
    unsafe {
        let block = black_box(allocator.alloc(black_box(layout)));
        assert!(!block.is_null());
        allocator.dealloc(block, layout);
    }
}

/// Runs `work` below this many frames more than the some forty of criterion itself.
#[inline(never)]
fn at_depth(frames: usize, work: &mut dyn FnMut()) {
    if frames == 0 {
        work()
    } else {
        at_depth(frames - 1, work)
    }
    black_box(frames);
}

fn pairs(criterion: &mut Criterion) {
    static COUNT: CountingAlloc = CountingAlloc::new();
    static SAMPLED: SampledAlloc = SampledAlloc::new();
    static BOTH: SampledAlloc<CountingAlloc> = SampledAlloc::wrapping(CountingAlloc::new());
    let mut group = criterion.benchmark_group("alloc+free");
    for size in [64, 4096, 65_536] {
        let layout = Layout::from_size_align(size, 8).expect("a valid layout");
        group.bench_function(BenchmarkId::new("system", size), |bench| bench.iter(|| pair(&System, layout)));
        group.bench_function(BenchmarkId::new("count", size), |bench| bench.iter(|| pair(&COUNT, layout)));
        group.bench_function(BenchmarkId::new("sampled", size), |bench| bench.iter(|| pair(&SAMPLED, layout)));
        group.bench_function(BenchmarkId::new("sampled-count", size), |bench| bench.iter(|| pair(&BOTH, layout)));
    }
    group.finish();
}

fn one_sample(criterion: &mut Criterion) {
    static ALL: SampledAlloc = SampledAlloc::every(1, System);
    let layout = Layout::from_size_align(1024, 8).expect("a valid layout");
    // The thread still counts down to a sample of the allocators above.
    let before = Profile::read().allocated().samples;
    while Profile::read().allocated().samples == before {
        (0..1000).for_each(|_| pair(&ALL, layout));
    }
    let mut group = criterion.benchmark_group("one sample");
    for depth in [0, 10, 20] {
        group.bench_function(BenchmarkId::new("frames", depth), |bench| {
            bench.iter_custom(|times| {
                let before = Profile::read().allocated().samples;
                let mut elapsed = Duration::ZERO;
                at_depth(depth, &mut || {
                    let began = Instant::now();
                    (0..times).for_each(|_| pair(&ALL, layout));
                    elapsed = began.elapsed();
                });
                // A figure for samples that were not taken would mean nothing.
                assert_eq!(Profile::read().allocated().samples - before, times);
                elapsed
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pairs, one_sample);
criterion_main!(benches);
