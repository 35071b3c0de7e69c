//! The sampler as a program's allocator: unbiased within its stated error, exact about frees, safe to read meanwhile.
#![cfg(feature = "sampled")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloc_ladder::sampled::{Estimate, Profile, SampledAlloc, seed_thread, symbolise};
use alloc_ladder::stage::Scope;
use alloc_ladder::{CountingAlloc, Method, Side, Snapshot, Stage};

const EVERY: u64 = 4096;

#[global_allocator]
static ALLOC: SampledAlloc<CountingAlloc> = SampledAlloc::every(EVERY, CountingAlloc::new());

/// What the samples say of one scope, which no other thread works for.
fn allocated(profile: &Profile, scope: Scope) -> Estimate {
    profile.stacks.iter().filter(|stack| stack.scope == scope).map(|stack| stack.allocated).sum()
}

fn live(profile: &Profile, scope: Scope) -> Estimate {
    profile.stacks.iter().filter(|stack| stack.scope == scope).map(|stack| stack.live).sum()
}

/// 540 blocks, 702,800 bytes: sizes far below, around and far above the interval.
fn allocate_a_mix() -> Vec<Vec<u8>> {
    let mut blocks = Vec::with_capacity(540);
    for _ in 0..10 {
        for (size, times) in [(16, 30), (100, 10), (1000, 8), (10_000, 4), (10_900, 2)] {
            blocks.extend((0..times).map(|_| black_box(Vec::with_capacity(size))));
        }
    }
    blocks
}

// One test function: the other tests' threads would share the counters and the two cores.
#[test]
fn estimates_are_unbiased_frees_exact_and_reading_never_blocks() {
    unbiased_within_the_stated_error();
    live_blocks_are_known_until_freed_and_reallocated_blocks_move();
    names_lead_to_the_code_that_allocates();
    reading_while_every_thread_is_sampled_ends();
    reading_is_not_in_the_profile();
}

fn unbiased_within_the_stated_error() {
    let scope = Scope::new(Method::register(Side::Server, "/sampled.Test/Mix"), Stage::Handler);
    let mut bytes = Errors::default();
    let mut blocks = Errors::default();
    for seed in 0..400 {
        seed_thread(seed);
        let before = Profile::read();
        let counted = Snapshot::of_process();
        let held = {
            let _guard = scope.enter();
            allocate_a_mix()
        };
        let counted = Snapshot::of_process() - counted;
        let exact = counted.rows().find(|row| row.method.path == "/sampled.Test/Mix").expect("a row").tally;
        let estimate = allocated(&Profile::read().since(&before), scope);
        bytes.add(estimate.bytes - exact.bytes as f64, estimate.bytes_variance);
        blocks.add(estimate.blocks - exact.blocks as f64, estimate.blocks_variance);
        drop(held);
    }
    bytes.check("bytes");
    blocks.check("blocks");
}

/// By how much the rounds were off, and by how much they said they may be.
#[derive(Default)]
struct Errors {
    sum: f64,
    squares: f64,
    variance: f64,
}

impl Errors {
    fn add(&mut self, error: f64, stated_variance: f64) {
        self.sum += error;
        self.squares += error * error;
        self.variance += stated_variance;
    }

    fn check(&self, what: &str) {
        // Four standard errors: one figure in fifteen thousand fails by chance, and the seeds are fixed.
        let bias = self.sum / self.variance.sqrt();
        assert!(bias.abs() < 4.0, "{what}: biased by {bias} standard errors");
        // The errors scatter as the stated variance says.
        let scatter = self.squares / self.variance;
        assert!((0.75..1.35).contains(&scatter), "{what}: the errors' variance is {scatter} of what is stated");
    }
}

fn live_blocks_are_known_until_freed_and_reallocated_blocks_move() {
    let scope = Scope::new(Method::register(Side::Server, "/sampled.Test/Live"), Stage::Handler);
    let _guard = scope.enter();
    let mut blocks: Vec<Vec<u8>> = (0..100).map(|_| black_box(Vec::with_capacity(1 << 16))).collect();
    let held = live(&Profile::read(), scope);
    // 64 KiB is sixteen intervals: every block is sampled. The vector that holds them is the rest.
    assert!((held.blocks - 100.0).abs() < 4.0, "{held:?}");
    for block in &mut blocks {
        block.reserve_exact(1 << 17);
    }
    let grown = live(&Profile::read(), scope);
    assert!((grown.blocks - 100.0).abs() < 4.0 && (grown.bytes / held.bytes - 2.0).abs() < 0.05, "{grown:?}");
    // Another thread frees.
    std::thread::spawn(move || drop(blocks)).join().expect("frees");
    let rest = live(&Profile::read(), scope);
    assert!(rest.blocks < 4.0 && rest.bytes < 100_000.0, "{rest:?}");
    assert!(allocated(&Profile::read(), scope).blocks >= 200.0);
}

fn names_lead_to_the_code_that_allocates() {
    #[inline(never)]
    fn the_culprit() -> Vec<u8> {
        black_box(Vec::with_capacity(1 << 20))
    }
    let before = Profile::read();
    let block = the_culprit();
    let profile = Profile::read().since(&before);
    let stack = profile.stacks.iter().find(|stack| stack.live.bytes > 1e6).expect("sampled");
    let names = symbolise(stack.frames.iter().copied());
    let functions: Vec<_> = stack.frames.iter().flat_map(|ip| names[ip].iter()).map(|f| f.function.clone()).collect();
    assert!(functions.iter().any(|name| name.ends_with("the_culprit")), "{functions:#?}");
    drop(block);
}

/// A resolver that allocates is against its contract; the sampler must survive even that.
fn reading_while_every_thread_is_sampled_ends() {
    alloc_ladder::stage::window::set_resolver(|| {
        drop(black_box(vec![0u8; 3 * EVERY as usize]));
        Scope::NONE
    });
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let reads = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut kept = std::collections::VecDeque::new();
                while !stop.load(Ordering::Relaxed) {
                    kept.push_back(black_box(vec![1u8; 5 * EVERY as usize]));
                    if kept.len() > 100 {
                        kept.pop_front();
                    }
                }
            });
        }
        let mut reads = 0;
        // The first reading names every stack, which takes seconds on a busy machine; the second names the new ones.
        while began.elapsed() < Duration::from_secs(2) || reads < 2 {
            let profile = Profile::read();
            symbolise(profile.stacks.iter().flat_map(|stack| stack.frames.iter().copied()));
            assert!(profile.live().bytes >= 0.0 && profile.allocated().bytes > profile.live().bytes);
            reads += 1;
        }
        stop.store(true, Ordering::Relaxed);
        reads
    });
    // A deadlock never gets here; a reading that the sampled threads hold up gets here late.
    assert!(began.elapsed() < Duration::from_secs(60), "{reads} reads in {:?}", began.elapsed());
}

fn reading_is_not_in_the_profile() {
    let before = Profile::read();
    for _ in 0..20 {
        black_box(Profile::read());
    }
    let read = Profile::read().since(&before);
    let instrument: Estimate =
        read.stacks.iter().filter(|stack| stack.scope.stage() == Stage::Instrument).map(|stack| stack.allocated).sum();
    assert_eq!(instrument.samples, 0);
}
