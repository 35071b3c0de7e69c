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
    /// A thread owns it. Acquire and release order one owner's counts before the next owner's.
    owned: AtomicBool,
    /// Bytes allocated and bytes freed that [`LIVE`] has not been told of: each at most [`LIVE_SLACK`].
    ///
    /// PERF: two words, because neither is compared with the other for every block: only when one of them is full.
    gained: AtomicI64,
    lost: AtomicI64,
    sizes: [AtomicU64; SIZE_BUCKETS],
    rows: [Counters; Scope::COUNT],
}

static OWNED: [Shard; SHARDS] = [const { Shard::new() }; SHARDS];
/// Several threads write it at once: every update is a `fetch_add`, and live bytes are told at once.
static OVERFLOW: Shard = Shard::new();
/// How many of [`OWNED`] were ever in use: the others need not be read.
static USED: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// The shard this thread owns; `None` before its first allocation, and where it writes the overflow shard.
    static SHARD: Cell<Option<&'static Shard>> = const { Cell::new(None) };
    /// Whether the thread writes the overflow shard, for good.
    static OVERFLOWN: Cell<bool> = const { Cell::new(false) };
    /// Has a destructor, and so is kept apart from the words above, which must stay readable after it.
    static LOCAL: Local = const { Local };
}

/// Gives the thread's shard back when the thread ends.
struct Local;

impl Drop for Local {
    fn drop(&mut self) {
        // Other destructors may allocate after this one: they count in the overflow shard.
        OVERFLOWN.set(true);
        if let Some(shard) = SHARD.take() {
            shard.owned.store(false, Ordering::Release);
        }
    }
}

/// The shard this thread owns; it borrows one if it never asked before.
fn shard() -> Option<&'static Shard> {
    SHARD.get().or_else(borrow)
}

#[cold]
fn borrow() -> Option<&'static Shard> {
    // On platforms where registering a thread-local destructor allocates, that allocation counts in the overflow shard.
    if OVERFLOWN.replace(true) || LOCAL.try_with(|_| ()).is_err() {
        return None;
    }
    for (index, shard) in OWNED.iter().enumerate() {
        if !shard.owned.load(Ordering::Relaxed)
            && shard.owned.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            USED.fetch_max(index + 1, Ordering::Relaxed);
            OVERFLOWN.set(false);
            SHARD.set(Some(shard));
            return Some(shard);
        }
    }
    None
}

#[inline]
pub(super) fn allocated(scope: Scope, size: usize) {
    match SHARD.get() {
        Some(shard) => shard.allocated(scope, size),
        None => allocated_without(scope, size),
    }
}

#[inline]
pub(super) fn freed(scope: Scope, size: usize) {
    match SHARD.get() {
        Some(shard) => shard.freed(scope, size),
        None => freed_without(scope, size),
    }
}

#[inline]
pub(super) fn reallocated(scope: Scope, old: usize, new: usize) {
    match SHARD.get() {
        Some(shard) => shard.reallocated(scope, old, new),
        None => reallocated_without(scope, old, new),
    }
}

/// A thread without a shard of its own has allocated.
#[inline(never)]
fn allocated_without(scope: Scope, size: usize) {
    match borrow() {
        Some(shard) => shard.allocated(scope, size),
        None => {
            OVERFLOW.add_allocated(scope, size, SHARED);
            tell_from_overflow(scope, size as i64);
        }
    }
}

#[inline(never)]
fn freed_without(scope: Scope, size: usize) {
    match borrow() {
        Some(shard) => shard.freed(scope, size),
        None => {
            OVERFLOW.add_freed(scope, size, SHARED);
            tell_from_overflow(scope, -(size as i64));
        }
    }
}

#[inline(never)]
fn reallocated_without(scope: Scope, old: usize, new: usize) {
    match borrow() {
        Some(shard) => shard.reallocated(scope, old, new),
        None => {
            OVERFLOW.add_reallocated(scope, old, new, SHARED);
            tell_from_overflow(scope, new as i64 - old as i64);
        }
    }
}

/// Adds to a counter.
type Add = fn(&AtomicU64, u64);

/// PERF: one writer, so no `lock` prefix; readers see whole values.
const OWN: Add =
    |counter, amount| counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
/// Several writers.
const SHARED: Add = |counter, amount| _ = counter.fetch_add(amount, Ordering::Relaxed);

impl Shard {
    const fn new() -> Shard {
        Shard {
            owned: AtomicBool::new(false),
            gained: AtomicI64::new(0),
            lost: AtomicI64::new(0),
            sizes: [const { AtomicU64::new(0) }; SIZE_BUCKETS],
            rows: [const { Counters::new() }; Scope::COUNT],
        }
    }

    #[inline]
    fn allocated(&self, scope: Scope, size: usize) {
        self.add_allocated(scope, size, OWN);
        if !kept_aside(scope, size as i64) {
            self.gain(size as i64);
        }
    }

    #[inline]
    fn freed(&self, scope: Scope, size: usize) {
        self.add_freed(scope, size, OWN);
        if !kept_aside(scope, -(size as i64)) {
            self.lose(size as i64);
        }
    }

    #[inline]
    fn reallocated(&self, scope: Scope, old: usize, new: usize) {
        self.add_reallocated(scope, old, new, OWN);
        let more = new as i64 - old as i64;
        if kept_aside(scope, more) {
            return;
        }
        if more < 0 { self.lose(-more) } else { self.gain(more) }
    }

    /// PERF: the mask changes no row ([`Scope::index`] is below the count) and spares the check.
    #[inline]
    fn row(&self, scope: Scope) -> &Counters {
        const { assert!(Scope::COUNT.is_power_of_two()) };
        &self.rows[scope.index() & (Scope::COUNT - 1)]
    }

    #[inline]
    fn add_allocated(&self, scope: Scope, size: usize, add: Add) {
        let row = self.row(scope);
        add(&row.blocks, 1);
        add(&row.bytes, size as u64);
        add(&self.sizes[size_bucket(size)], 1);
    }

    #[inline]
    fn add_freed(&self, scope: Scope, size: usize, add: Add) {
        let row = self.row(scope);
        add(&row.freed_blocks, 1);
        add(&row.freed_bytes, size as u64);
    }

    #[inline]
    fn add_reallocated(&self, scope: Scope, old: usize, new: usize, add: Add) {
        self.add_allocated(scope, new, add);
        self.add_freed(scope, old, add);
        let row = self.row(scope);
        add(&row.reallocs, 1);
        add(&row.realloc_old_bytes, old as u64);
        add(&row.realloc_new_bytes, new as u64);
    }

    /// So many bytes more are live.
    #[inline]
    fn gain(&self, bytes: i64) {
        let gained = self.gained.load(Ordering::Relaxed) + bytes;
        self.gained.store(gained, Ordering::Relaxed);
        if gained > LIVE_SLACK {
            self.settle();
        }
    }

    /// So many bytes fewer are live.
    #[inline]
    fn lose(&self, bytes: i64) {
        let lost = self.lost.load(Ordering::Relaxed) + bytes;
        self.lost.store(lost, Ordering::Relaxed);
        if lost > LIVE_SLACK {
            self.settle();
        }
    }

    /// Keeps what gains and losses differ by, and tells it where it is much.
    #[inline(never)]
    fn settle(&self) {
        let live = self.live();
        let kept = if live.abs() > LIVE_SLACK / 2 { 0 } else { live };
        self.gained.store(kept.max(0), Ordering::Relaxed);
        self.lost.store((-kept).max(0), Ordering::Relaxed);
        if kept != live {
            tell(live);
        }
    }

    /// Live bytes not yet told.
    fn live(&self) -> i64 {
        self.gained.load(Ordering::Relaxed) - self.lost.load(Ordering::Relaxed)
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

/// Whether these live bytes are the instrument's own, which keeps them aside.
#[inline]
fn kept_aside(scope: Scope, bytes: i64) -> bool {
    // PERF: all stages but the instrument's pay for one comparison of a value at hand.
    #[cfg(any(feature = "sampled", feature = "otel"))]
    if scope.stage() == crate::Stage::Instrument && super::aside::is_entered() {
        super::aside::add(bytes);
        return true;
    }
    let _ = (scope, bytes);
    false
}

fn tell_from_overflow(scope: Scope, bytes: i64) {
    if !kept_aside(scope, bytes) {
        tell(bytes);
    }
}

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

/// How many places were ever a thread's: those from there on were nobody's.
pub(super) fn places() -> usize {
    USED.load(Ordering::Relaxed)
}

/// What every thread counted in one row.
pub(super) fn read_row(row: usize) -> Tally {
    used().iter().chain([&OVERFLOW]).map(|shard| shard.rows[row].read()).sum()
}

/// Adds what this thread's shard counted; nothing when the thread shares the overflow shard.
pub(super) fn read_thread(rows: &mut [Tally], sizes: &mut [u64; SIZE_BUCKETS]) {
    if let Some(shard) = shard() {
        shard.add_to(rows, sizes);
    }
}

/// Blocks and bytes that this thread counted so far in the rows of one method, from `first`, but for the one that is
/// `but` behind it; `None` where the thread shares the overflow shard. Only differences mean something.
#[cfg(feature = "tonic")]
#[inline]
pub(super) fn read_blocks(first: usize, but: usize) -> Option<(u64, u64)> {
    let rows = shard()?.rows[first..].first_chunk::<{ Scope::STAGE_SLOTS }>()?;
    let (mut blocks, mut bytes) = (0, 0);
    // PERF: both are known when this is compiled, and the loop is none.
    for (index, row) in rows.iter().enumerate() {
        if index != but {
            blocks += row.blocks.load(Ordering::Relaxed);
            bytes += row.bytes.load(Ordering::Relaxed);
        }
    }
    Some((blocks, bytes))
}

/// Which counters are this thread's own, below [`SHARDS`]: as long as the thread lives no other has the same. `None` for
/// threads beyond.
#[cfg(feature = "tonic")]
#[inline]
pub(super) fn place() -> Option<usize> {
    // An owned shard lies in the array.
    shard().map(|shard| (std::ptr::from_ref(shard).addr() - OWNED.as_ptr().addr()) / size_of::<Shard>())
}

/// Whether this thread writes a shard of its own.
pub(super) fn is_owned() -> bool {
    shard().is_some()
}

/// Live bytes of the process now, including what threads have not told yet.
pub(super) fn live_bytes() -> i64 {
    LIVE.load(Ordering::Relaxed) + used().iter().map(|shard| shard.live()).sum::<i64>()
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
