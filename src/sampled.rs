//! Call stacks of one allocation in so many bytes, cheap enough to leave on in production.
//!
//! Feature `sampled`.
//!
//! [`SampledAlloc`] wraps any allocator, [`CountingAlloc`](crate::CountingAlloc) among them. Every byte asked for is
//! drawn with the same small probability (one in 512 KiB by default); an allocation one of whose bytes is drawn has
//! its stack taken. [`Profile::read`] turns the samples into unbiased estimates of everything that was allocated,
//! and of everything still live, and says by how much they may be off.
//!
//! What is NOT in a profile: what the C library allocates by itself, and what reading a profile allocates. Frames
//! above the innermost [`FRAMES`] are cut.
//!
//! # Implementation
//! A thread counts down the bytes until its next sample, a number drawn from the exponential distribution, so an
//! allocation that is not sampled costs one thread-local subtraction, and a free one look at a 16 KiB filter. An
//! allocation of `s` bytes is sampled with probability `p = 1 − exp(−s/N)`, and stands for `1/p` blocks: the
//! Horvitz–Thompson estimator, whose variance is estimated without bias by `Σ (1−p)/p²` beside it. Where only a
//! handful of samples stand behind a row, that error is itself a guess.
//!
//! A sample takes raw instruction pointers by the unwinder, without a lock, and adds to a fixed table of
//! atomics; names are looked up only when a profile is read. Freed samples are recognised by a second fixed
//! table of the sampled blocks that are live. What fits in neither is counted, not forgotten.
//!
//! # Probes
//! With the feature `usdt`, on Linux, each sample is also a probe that tracers outside of the process can attach to, as
//! OpenTelemetry's eBPF profiler expects them of an allocator: `otel_memory:alloc(pointer, size, weight)`, where the weight is the
//! bytes that the sample stands for, and `otel_memory:free(pointer)` of a block that was sampled. A probe that nobody
//! attached to is one instruction that does nothing, behind the decision to sample: an allocation that is not sampled takes
//! what it took, and one that is a nanosecond more of 155.
//!
//! What it costs is measured by `cargo bench --features sampled --bench sampled`.

#![expect(unsafe_code, reason = "an allocator wrapper, and the unwinder without its process-wide lock")]

#[cfg(feature = "live")]
pub(crate) mod exact;
mod pointers;
#[cfg_attr(feature = "usdt", path = "sampled/probes/enabled.rs")]
#[cfg_attr(not(feature = "usdt"), path = "sampled/probes/disabled.rs")]
mod probes;
mod profile;
mod stacks;
mod symbols;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

pub use profile::{Estimate, Live, Profile, Stack};
pub use stacks::{FRAMES, STACKS};
pub use symbols::{Frame, forget_symbols, symbolise};
#[cfg(feature = "live")]
pub(crate) use symbols::{forget_unused, known_symbols};

use crate::stage;
use stacks::Weight;

/// Bytes between samples, on average, unless made by [`SampledAlloc::every`].
pub const EVERY_BYTES: u64 = 512 * 1024;

/// A global allocator that takes the stack of one allocation in so many bytes, and asks `A` for the memory.
///
/// ```
/// use alloc_ladder::CountingAlloc;
/// use alloc_ladder::sampled::{Profile, SampledAlloc};
///
/// #[global_allocator]
/// static ALLOC: SampledAlloc<CountingAlloc> = SampledAlloc::wrapping(CountingAlloc::new());
///
/// let blocks: Vec<_> = (0..64).map(|_| vec![0u8; 1 << 20]).collect();
/// let live = Profile::read().live();
/// assert!((live.bytes - 64e6).abs() < 10e6 + 5.0 * live.bytes_error(), "{live:?}");
/// # drop(blocks);
/// ```
#[derive(Debug)]
pub struct SampledAlloc<A = System> {
    inner: A,
    every: u64,
}

impl SampledAlloc<System> {
    /// Samples and asks the system's allocator.
    pub const fn new() -> Self {
        SampledAlloc::wrapping(System)
    }
}

impl Default for SampledAlloc<System> {
    fn default() -> Self {
        SampledAlloc::new()
    }
}

impl<A> SampledAlloc<A> {
    /// Samples and asks `inner`, which may be any allocator.
    pub const fn wrapping(inner: A) -> Self {
        SampledAlloc::every(EVERY_BYTES, inner)
    }

    /// Samples every `bytes` on average, 1 at least, and asks `inner`: fewer bytes, smaller errors, more cost.
    pub const fn every(bytes: u64, inner: A) -> Self {
        SampledAlloc { inner, every: if bytes == 0 { 1 } else { bytes } }
    }
}

// SAFETY: (the invariant) every method hands its arguments unchanged to the same method of `inner` and returns its
// result unchanged. What happens beside touches neither the memory handed out nor the allocator (thread-local words,
// static atomics, the unwinder, which reads the stack), and where it is entered again on the same thread it returns
// at once; it does not unwind. A block leaves the table of live samples before `inner` can hand it out again.
unsafe impl<A: GlobalAlloc> GlobalAlloc for SampledAlloc<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the invariant above; the caller keeps `alloc`'s contract.
        let block = unsafe { self.inner.alloc(layout) };
        allocated(block, layout.size(), self.every);
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the invariant above; the caller keeps `alloc_zeroed`'s contract.
        let block = unsafe { self.inner.alloc_zeroed(layout) };
        allocated(block, layout.size(), self.every);
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        freed(block, self.every);
        // SAFETY: the invariant above; the caller keeps `dealloc`'s contract.
        unsafe { self.inner.dealloc(block, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let sample = reallocating(block);
        // SAFETY: the invariant above; the caller keeps `realloc`'s contract.
        let moved = unsafe { self.inner.realloc(block, layout, new_size) };
        reallocated(sample, block, moved, new_size, self.every);
        moved
    }
}

thread_local! {
    /// Bytes until this thread's next sample; 0 before its first allocation.
    static COUNTDOWN: Cell<i64> = const { Cell::new(0) };
    /// The state of the thread's random numbers; 0 before its first allocation.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// A sample is being taken, or a profile read: nothing is sampled.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Seeds handed to threads so far; where it lies differs from run to run.
static SEEDS: AtomicU64 = AtomicU64::new(0);
/// Bytes between samples; 0 until the first allocation went through a [`SampledAlloc`].
static EVERY: AtomicU64 = AtomicU64::new(0);

/// A block was allocated, or not: null.
#[inline]
pub(crate) fn allocated(block: *mut u8, size: usize, every: u64) {
    // No layout is larger than `isize::MAX`, so this cannot overflow.
    let left = COUNTDOWN.get() - size as i64;
    COUNTDOWN.set(left);
    if left <= 0 {
        sample(block, size, every);
    }
}

#[cold]
#[inline(never)]
fn sample(block: *mut u8, size: usize, every: u64) {
    if RANDOM.get() == 0 {
        EVERY.store(every, Ordering::Relaxed);
        seed_thread(SEEDS.fetch_add(1, Ordering::Relaxed) ^ &raw const SEEDS as u64);
        let left = bytes_to_next(every) - size as i64;
        COUNTDOWN.set(left);
        if left > 0 {
            return;
        }
    }
    COUNTDOWN.set(bytes_to_next(every));
    if block.is_null() || BUSY.replace(true) {
        return;
    }
    let scope = stage::window::current_for(size);
    let mut frames = [0usize; FRAMES];
    let (depth, truncated) = capture(&mut frames);
    let weight = Weight::of(size, every);
    let stack = stacks::allocate(scope, &frames[..depth], truncated, weight);
    probes::alloc(block, size, weight);
    if !pointers::insert(block as usize, pointers::Sample { size, stack }) {
        stacks::free(stack, weight);
        probes::free(block);
    }
    BUSY.set(false);
}

/// A block is about to be freed.
#[inline]
pub(crate) fn freed(block: *mut u8, every: u64) {
    if pointers::may_hold(block as usize) {
        sample_freed(block, every);
    }
}

#[cold]
#[inline(never)]
fn sample_freed(block: *mut u8, every: u64) {
    if let Some(sample) = pointers::remove(block as usize) {
        probes::free(block);
        stacks::free(sample.stack, Weight::of(sample.size, every));
    }
}

/// A block is about to be reallocated: its sample, if it is one, which is forgotten.
#[inline]
pub(crate) fn reallocating(block: *mut u8) -> Option<pointers::Sample> {
    if pointers::may_hold(block as usize) { pointers::remove(block as usize) } else { None }
}

/// It was, or it was not, and `moved` is null. Booked as `CountingAlloc` does: a new block of the new size.
#[inline]
pub(crate) fn reallocated(
    sample: Option<pointers::Sample>,
    block: *mut u8,
    moved: *mut u8,
    new_size: usize,
    every: u64,
) {
    // A block that was not moved lives on.
    if let Some(sample) = sample
        && !(moved.is_null() && pointers::insert(block as usize, sample))
    {
        probes::free(block);
        stacks::free(sample.stack, Weight::of(sample.size, every));
    }
    allocated(moved, new_size, every);
}

/// The instruction pointers of this thread's stack, innermost first; how many, and whether there were more.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn capture(frames: &mut [usize; FRAMES]) -> (usize, bool) {
    crate::recorder::capture(frames)
}

/// As above, ten times as slowly, where the recorder's walker does not run.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn capture(frames: &mut [usize; FRAMES]) -> (usize, bool) {
    let mut depth = 0;
    let mut truncated = false;
    // SAFETY: `trace_unsynchronized` asks that no other thread be inside the crate where the platform's unwinder is
    // not thread-safe, which is so on Windows (dbghelp) alone; the lock it forgoes is held for as long as a profile
    // takes to symbolise, and would stall the service.
    #[cfg(not(windows))]
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            if depth == FRAMES {
                truncated = true;
                return false;
            }
            frames[depth] = frame.ip() as usize;
            depth += 1;
            true
        });
    }
    #[cfg(windows)]
    backtrace::trace(|frame| {
        if depth == FRAMES {
            truncated = true;
            return false;
        }
        frames[depth] = frame.ip() as usize;
        depth += 1;
        true
    });
    (depth, truncated)
}

/// Makes this thread's draws repeatable: the same allocations after the same seed give the same samples.
///
/// For tests; threads seed themselves otherwise.
pub fn seed_thread(seed: u64) {
    RANDOM.set(scramble(seed).max(1));
    if let Some(every) = every_bytes() {
        COUNTDOWN.set(bytes_to_next(every));
    }
}

/// Bytes between samples, on average; `None` where no [`SampledAlloc`] is the program's allocator.
pub fn every_bytes() -> Option<u64> {
    Some(EVERY.load(Ordering::Relaxed)).filter(|every| *every > 0)
}

/// Runs `work` without sampling what it allocates: reading a profile must not appear in it.
fn unsampled<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            BUSY.set(self.0);
        }
    }
    let _restore = Restore(BUSY.replace(true));
    work()
}

/// Samples nothing that this thread allocates, until it ends.
#[cfg(feature = "live")]
pub(crate) fn leave_out_thread() {
    BUSY.set(true);
}

/// Draws from the exponential distribution of mean `every`, rounded up: an allocation of a whole number of bytes
/// reaches the draw exactly when it reaches the next whole number.
fn bytes_to_next(every: u64) -> i64 {
    // xorshift64*: three shifts and a multiplication; the top 53 bits are a uniform number in (0, 1].
    let mut state = RANDOM.get();
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    RANDOM.set(state);
    let uniform = ((state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) + 1) as f64 / (1u64 << 53) as f64;
    (-uniform.ln() * every as f64).ceil().max(1.0) as i64
}

/// Spreads a value over all 64 bits (the finaliser of splitmix64).
fn scramble(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_exponential_and_repeatable() {
        let draw = |seed| {
            seed_thread(seed);
            (0..20_000).map(|_| bytes_to_next(1000)).collect::<Vec<_>>()
        };
        let draws = draw(7);
        assert_eq!(draws, draw(7));
        assert_ne!(draws, draw(8));
        let mean = draws.iter().sum::<i64>() as f64 / draws.len() as f64;
        // Rounding up adds half a byte; the standard error of the mean is 1000/√20,000 = 7.1.
        assert!((mean - 1000.5).abs() < 4.0 * 7.1, "{mean}");
        // An allocation of 100 bytes is reached with probability 1 − exp(−0.1) = 0.0952, standard error 0.0021.
        let reached = draws.iter().filter(|draw| **draw <= 100).count() as f64 / draws.len() as f64;
        assert!((reached - 0.0952).abs() < 4.0 * 0.0021, "{reached}");
    }
}
