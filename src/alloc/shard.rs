//! The counters themselves, and which of them a thread writes.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use super::tally::{SIZE_BUCKETS, Tally, size_bucket};
use crate::stage::Scope;

/// How many threads can own counters at once; more threads share the overflow shard.
pub const SHARDS: usize = 64;

/// Live bytes a thread may gain or lose before the process-wide figure hears of it: the peak is exact to this many
/// bytes per thread that allocates.
pub(super) const LIVE_SLACK: i64 = 4096;

/// One row of counters, one cache line.
#[repr(align(64))]
struct Counters {
    blocks: AtomicU64,
    bytes: AtomicU64,
    freed_blocks: AtomicU64,
    freed_bytes: AtomicU64,
    reallocs: AtomicU64,
    realloc_old_bytes: AtomicU64,
    realloc_new_bytes: AtomicU64,
}

impl Counters {
    const fn new() -> Counters {
        Counters {
            blocks: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            freed_blocks: AtomicU64::new(0),
            freed_bytes: AtomicU64::new(0),
            reallocs: AtomicU64::new(0),
            realloc_old_bytes: AtomicU64::new(0),
            realloc_new_bytes: AtomicU64::new(0),
        }
    }

    fn read(&self) -> Tally {
        Tally {
            blocks: self.blocks.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            freed_blocks: self.freed_blocks.load(Ordering::Relaxed),
            freed_bytes: self.freed_bytes.load(Ordering::Relaxed),
            reallocs: self.reallocs.load(Ordering::Relaxed),
            realloc_old_bytes: self.realloc_old_bytes.load(Ordering::Relaxed),
            realloc_new_bytes: self.realloc_new_bytes.load(Ordering::Relaxed),
        }
    }
}

pub(super) struct Shard {
    /// Several threads write at once: every update is a `fetch_add`.
    shared: bool,
    /// A thread owns it. Acquire and release order one owner's counts before the next owner's.
    owned: AtomicBool,
    /// Live bytes not yet told to [`LIVE`].
    live: AtomicI64,
    sizes: [AtomicU64; SIZE_BUCKETS],
    rows: [Counters; Scope::COUNT],
}

static OWNED: [Shard; SHARDS] = [const { Shard::new(false) }; SHARDS];
static OVERFLOW: Shard = Shard::new(true);
/// How many of [`OWNED`] were ever in use: the others need not be read.
static USED: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// The shard this thread writes; `None` before its first allocation.
    static SHARD: Cell<Option<&'static Shard>> = const { Cell::new(None) };
    /// Has a destructor, and so is kept apart from the word above, which must stay readable after it.
    static LOCAL: Local = const { Local };
}

/// Gives the thread's shard back when the thread ends.
struct Local;

impl Drop for Local {
    fn drop(&mut self) {
        // Other destructors may allocate after this one: they count in the overflow shard.
        if let Some(shard) = SHARD.replace(Some(&OVERFLOW)) {
            shard.owned.store(false, Ordering::Release);
        }
    }
}

#[inline]
fn shard() -> &'static Shard {
    match SHARD.get() {
        Some(shard) => shard,
        None => borrow(),
    }
}

#[cold]
fn borrow() -> &'static Shard {
    // On platforms where registering a thread-local destructor allocates, that allocation counts here.
    SHARD.set(Some(&OVERFLOW));
    if LOCAL.try_with(|_| ()).is_err() {
        return &OVERFLOW;
    }
    for (index, shard) in OWNED.iter().enumerate() {
        if !shard.owned.load(Ordering::Relaxed)
            && shard.owned.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            USED.fetch_max(index + 1, Ordering::Relaxed);
            SHARD.set(Some(shard));
            return shard;
        }
    }
    &OVERFLOW
}

#[inline]
pub(super) fn allocated(scope: Scope, size: usize) {
    let shard = shard();
    let row = &shard.rows[scope.index()];
    shard.add(&row.blocks, 1);
    shard.add(&row.bytes, size as u64);
    shard.add(&shard.sizes[size_bucket(size)], 1);
    shard.add_live(scope, size as i64);
}

#[inline]
pub(super) fn freed(scope: Scope, size: usize) {
    let shard = shard();
    let row = &shard.rows[scope.index()];
    shard.add(&row.freed_blocks, 1);
    shard.add(&row.freed_bytes, size as u64);
    shard.add_live(scope, -(size as i64));
}

#[inline]
pub(super) fn reallocated(scope: Scope, old: usize, new: usize) {
    let shard = shard();
    let row = &shard.rows[scope.index()];
    shard.add(&row.blocks, 1);
    shard.add(&row.bytes, new as u64);
    shard.add(&row.freed_blocks, 1);
    shard.add(&row.freed_bytes, old as u64);
    shard.add(&row.reallocs, 1);
    shard.add(&row.realloc_old_bytes, old as u64);
    shard.add(&row.realloc_new_bytes, new as u64);
    shard.add(&shard.sizes[size_bucket(new)], 1);
    shard.add_live(scope, new as i64 - old as i64);
}

impl Shard {
    const fn new(shared: bool) -> Shard {
        Shard {
            shared,
            owned: AtomicBool::new(false),
            live: AtomicI64::new(0),
            sizes: [const { AtomicU64::new(0) }; SIZE_BUCKETS],
            rows: [const { Counters::new() }; Scope::COUNT],
        }
    }

    #[inline]
    fn add(&self, counter: &AtomicU64, amount: u64) {
        if self.shared {
            counter.fetch_add(amount, Ordering::Relaxed);
        } else {
            // PERF: one writer, so no `lock` prefix; readers see whole values.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        }
    }

    #[inline]
    fn add_live(&self, scope: Scope, bytes: i64) {
        // PERF: all stages but the instrument's pay for one comparison of a value at hand.
        #[cfg(any(feature = "sampled", feature = "otel"))]
        if scope.stage() == crate::Stage::Instrument && super::aside::is_entered() {
            super::aside::add(bytes);
            return;
        }
        #[cfg(not(any(feature = "sampled", feature = "otel")))]
        let _ = scope;
        if self.shared {
            tell(bytes);
            return;
        }
        let live = self.live.load(Ordering::Relaxed) + bytes;
        if (-LIVE_SLACK..=LIVE_SLACK).contains(&live) {
            self.live.store(live, Ordering::Relaxed);
        } else {
            self.live.store(0, Ordering::Relaxed);
            tell(live);
        }
    }

    fn add_to(&self, rows: &mut [Tally], sizes: &mut [u64; SIZE_BUCKETS]) {
        for (sum, row) in rows.iter_mut().zip(&self.rows) {
            *sum += row.read();
        }
        for (sum, size) in sizes.iter_mut().zip(&self.sizes) {
            *sum += size.load(Ordering::Relaxed);
        }
    }
}

#[inline(never)]
fn tell(bytes: i64) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if live > PEAK.load(Ordering::Relaxed) {
        PEAK.fetch_max(live, Ordering::Relaxed);
    }
}

fn used() -> &'static [Shard] {
    &OWNED[..USED.load(Ordering::Relaxed)]
}

/// Adds what every thread counted.
pub(super) fn read_process(rows: &mut [Tally], sizes: &mut [u64; SIZE_BUCKETS]) {
    for shard in used().iter().chain([&OVERFLOW]) {
        shard.add_to(rows, sizes);
    }
}

/// What every thread counted in one row.
pub(super) fn read_row(row: usize) -> Tally {
    used().iter().chain([&OVERFLOW]).map(|shard| shard.rows[row].read()).sum()
}

/// Adds what this thread's shard counted; nothing when the thread shares the overflow shard.
pub(super) fn read_thread(rows: &mut [Tally], sizes: &mut [u64; SIZE_BUCKETS]) {
    let shard = shard();
    if !shard.shared {
        shard.add_to(rows, sizes);
    }
}

/// Whether this thread writes a shard of its own.
pub(super) fn is_owned() -> bool {
    !shard().shared
}

/// Live bytes of the process now, including what threads have not told yet.
pub(super) fn live_bytes() -> i64 {
    LIVE.load(Ordering::Relaxed) + used().iter().map(|shard| shard.live.load(Ordering::Relaxed)).sum::<i64>()
}

/// The largest value of the live bytes since [`reset_peak`], and by how many bytes it may be off either way: each
/// thread keeps up to [`LIVE_SLACK`] allocated or freed bytes to itself.
pub(super) fn peak_bytes() -> (i64, i64) {
    (PEAK.load(Ordering::Relaxed), LIVE_SLACK * used().len() as i64)
}

/// Resets the peak to what is live now.
pub(super) fn reset_peak() {
    PEAK.store(LIVE.load(Ordering::Relaxed), Ordering::Relaxed);
}
