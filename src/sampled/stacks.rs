//! A fixed table of stacks and what their samples stand for: atomics only, no lock, no allocation.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::scramble;
use crate::stage::Scope;

/// How many frames of a stack are kept, innermost first.
pub const FRAMES: usize = 64;
/// How many different stacks are told apart; samples of further ones share a row without frames for each stage and RPC
/// method.
pub const STACKS: usize = 4096;
/// Slots looked at before a stack counts as one too many.
const PROBES: usize = 64;

/// What one sample stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    blocks: f64,
    bytes: f64,
    blocks_variance: f64,
    bytes_variance: f64,
}

impl Weight {
    /// The weight of a sampled block of `size` bytes when one byte in `every` is drawn.
    pub(super) fn of(size: usize, every: u64) -> Weight {
        let size = size as f64;
        // 1 − exp(−s/N), without the cancellation where s is small.
        let drawn = -(-size / every as f64).exp_m1();
        let blocks = 1.0 / drawn;
        let variance = blocks * (blocks - 1.0);
        Weight { blocks, bytes: size * blocks, blocks_variance: variance, bytes_variance: size * size * variance }
    }

    /// The bytes that the sample stands for.
    #[cfg(feature = "usdt")]
    pub(super) fn whole_bytes(self) -> u64 {
        self.bytes.round() as u64
    }
}

/// The sum of some samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) samples: u64,
    pub(super) blocks: f64,
    pub(super) bytes: f64,
    pub(super) blocks_variance: f64,
    pub(super) bytes_variance: f64,
}

/// A [`Sum`] that several threads add to; floating-point values travel as their bits.
struct SharedSum {
    samples: AtomicU64,
    blocks: AtomicU64,
    bytes: AtomicU64,
    blocks_variance: AtomicU64,
    bytes_variance: AtomicU64,
}

impl SharedSum {
    const fn new() -> SharedSum {
        SharedSum {
            samples: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            blocks_variance: AtomicU64::new(0),
            bytes_variance: AtomicU64::new(0),
        }
    }

    fn add(&self, weight: Weight) {
        let add = |sum: &AtomicU64, amount: f64| {
            let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
                Some((f64::from_bits(bits) + amount).to_bits())
            });
        };
        self.samples.fetch_add(1, Ordering::Relaxed);
        add(&self.blocks, weight.blocks);
        add(&self.bytes, weight.bytes);
        add(&self.blocks_variance, weight.blocks_variance);
        add(&self.bytes_variance, weight.bytes_variance);
    }

    fn read(&self) -> Sum {
        let read = |sum: &AtomicU64| f64::from_bits(sum.load(Ordering::Relaxed));
        Sum {
            samples: self.samples.load(Ordering::Relaxed),
            blocks: read(&self.blocks),
            bytes: read(&self.bytes),
            blocks_variance: read(&self.blocks_variance),
            bytes_variance: read(&self.bytes_variance),
        }
    }
}

/// A stack of a table, and what is added up for it.
pub(super) struct Slot<S> {
    /// 0 when free, else the hash of scope and frames. Hashes are compared, not frames: of [`STACKS`] stacks, two
    /// share a 64-bit hash with a probability of one in 10¹².
    key: AtomicU64,
    /// Scope and frames are written; set once, with release.
    ready: AtomicBool,
    truncated: AtomicBool,
    scope: AtomicUsize,
    depth: AtomicUsize,
    frames: [AtomicUsize; FRAMES],
    pub(super) sums: S,
}

/// What a row's samples stand for.
struct Sums {
    allocated: SharedSum,
    freed: SharedSum,
}

impl Sums {
    const fn new() -> Sums {
        Sums { allocated: SharedSum::new(), freed: SharedSum::new() }
    }

    /// Allocated, then freed; `None` where nothing was sampled.
    fn read(&self) -> Option<(Sum, Sum)> {
        if self.allocated.samples.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // What was freed is read first: a block freed in between must not look freed before it was allocated.
        let freed = self.freed.read();
        Some((self.allocated.read(), freed))
    }
}

/// The rows without frames, by scope: row `n` of them has the index `STACKS + n`.
static OVERFLOW: [Sums; Scope::COUNT] = [const { Sums::new() }; Scope::COUNT];

static SLOTS: [Slot<Sums>; STACKS] = [const { Slot::new(Sums::new()) }; STACKS];

fn sums(index: usize) -> &'static Sums {
    match SLOTS.get(index) {
        Some(slot) => &slot.sums,
        None => &OVERFLOW[index - STACKS],
    }
}

/// Adds an allocation; returns the index to [`free`] it by.
pub(super) fn allocate(scope: Scope, frames: &[usize], truncated: bool, weight: Weight) -> u32 {
    let index = find(scope, frames, truncated);
    sums(index).allocated.add(weight);
    index as u32
}

/// Takes an allocation of the stack `index` from what is live.
pub(super) fn free(index: u32, weight: Weight) {
    sums(index as usize).freed.add(weight);
}

fn find(scope: Scope, frames: &[usize], truncated: bool) -> usize {
    find_in(&SLOTS, scope, frames, truncated).unwrap_or(STACKS + scope.index())
}

/// The index of a stack in a table, which has one for it from now on; `None` of one too many.
pub(super) fn find_in<S>(slots: &[Slot<S>], scope: Scope, frames: &[usize], truncated: bool) -> Option<usize> {
    let key = frames.iter().fold(scope.index() as u64, |key, frame| scramble(key ^ *frame as u64)).max(1);
    for probe in 0..PROBES {
        let index = (key as usize).wrapping_add(probe) % slots.len();
        let slot = &slots[index];
        let mut found = slot.key.load(Ordering::Acquire);
        if found == 0 {
            match slot.key.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    slot.scope.store(scope.index(), Ordering::Relaxed);
                    slot.depth.store(frames.len(), Ordering::Relaxed);
                    slot.truncated.store(truncated, Ordering::Relaxed);
                    for (to, from) in slot.frames.iter().zip(frames) {
                        to.store(*from, Ordering::Relaxed);
                    }
                    slot.ready.store(true, Ordering::Release);
                    return Some(index);
                }
                Err(other) => found = other,
            }
        }
        if found == key {
            return Some(index);
        }
    }
    None
}

/// One row of the table as it is now.
pub(super) struct Row {
    pub(super) index: u32,
    pub(super) scope: Scope,
    pub(super) frames: Vec<usize>,
    pub(super) truncated: bool,
    pub(super) allocated: Sum,
    pub(super) freed: Sum,
}

/// The rows in use; those without frames are last.
pub(super) fn rows() -> Vec<Row> {
    let stacks = filled().map(|(index, slot, (allocated, freed))| {
        let (frames, truncated) = slot.stack();
        Row { index: index as u32, scope: slot.scope(), frames, truncated, allocated, freed }
    });
    let rest = overflow().map(|(scope, (allocated, freed))| Row {
        index: (STACKS + scope.index()) as u32,
        scope,
        frames: Vec::new(),
        truncated: false,
        allocated,
        freed,
    });
    stacks.chain(rest).collect()
}

/// Allocated and freed by scope, of every row in use: without a copy of any frame.
pub(super) fn sums_by_row() -> impl Iterator<Item = (Scope, (Sum, Sum))> {
    filled().map(|(_, slot, sums)| (slot.scope(), sums)).chain(overflow())
}

fn filled() -> impl Iterator<Item = (usize, &'static Slot<Sums>, (Sum, Sum))> {
    ready(&SLOTS).filter_map(|(index, slot)| Some((index, slot, slot.sums.read()?)))
}

fn overflow() -> impl Iterator<Item = (Scope, (Sum, Sum))> {
    let scopes = OVERFLOW.iter().enumerate();
    scopes.filter_map(|(index, sums)| Some((Scope::from_index(index as u16), sums.read()?)))
}

/// Samples that found no row of their own.
pub(super) fn overflowed() -> u64 {
    OVERFLOW.iter().map(|sums| sums.allocated.samples.load(Ordering::Relaxed)).sum()
}

/// The slots that hold a stack, with their indexes.
pub(super) fn ready<S>(slots: &'static [Slot<S>]) -> impl Iterator<Item = (usize, &'static Slot<S>)> {
    slots.iter().enumerate().filter(|(_, slot)| slot.ready.load(Ordering::Acquire))
}

impl<S> Slot<S> {
    pub(super) const fn new(sums: S) -> Slot<S> {
        Slot {
            key: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            truncated: AtomicBool::new(false),
            scope: AtomicUsize::new(0),
            depth: AtomicUsize::new(0),
            frames: [const { AtomicUsize::new(0) }; FRAMES],
            sums,
        }
    }

    pub(super) fn scope(&self) -> Scope {
        Scope::from_index(self.scope.load(Ordering::Relaxed) as u16)
    }

    /// The frames, innermost first, and whether outer ones were cut.
    pub(super) fn stack(&self) -> (Vec<usize>, bool) {
        let depth = self.depth.load(Ordering::Relaxed);
        let frames = self.frames[..depth].iter().map(|frame| frame.load(Ordering::Relaxed)).collect();
        (frames, self.truncated.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, Stage};

    #[test]
    fn the_table_is_bounded_and_what_does_not_fit_is_still_counted() {
        let weight = Weight::of(1000, 1);
        let before: f64 = rows().iter().map(|row| row.allocated.blocks).sum();
        let scopes = [Stage::Handler, Stage::Marshal].map(|stage| Scope::new(Method::NONE, stage));
        for stack in 0..3 * STACKS {
            allocate(scopes[stack % 2], &[1, 2, stack], false, weight);
        }
        let after: f64 = rows().iter().map(|row| row.allocated.blocks).sum();
        assert!((after - before - 3.0 * STACKS as f64).abs() < 1e-6);
        assert!(overflowed() as usize >= 2 * STACKS);
        // What does not fit loses its frames, and neither its stage nor its method.
        for scope in scopes {
            let of_scope = rows().into_iter().filter(|row| row.scope == scope);
            let (without, with): (Vec<Row>, Vec<Row>) = of_scope.partition(|row| row.frames.is_empty());
            assert_eq!(without.len(), 1, "{scope:?}");
            let blocks: f64 = with.iter().chain(&without).map(|row| row.allocated.blocks).sum();
            assert!((blocks - 1.5 * STACKS as f64).abs() < 1e-6, "{scope:?}: {blocks}");
            free(without[0].index, weight);
            let freed = rows().into_iter().find(|row| row.index == without[0].index).expect("still there").freed;
            assert_eq!(freed.samples, without[0].freed.samples + 1);
        }
        assert!(rows().len() <= STACKS + Scope::COUNT);
    }

    #[test]
    fn a_block_much_larger_than_the_interval_stands_for_itself() {
        let weight = Weight::of(100_000, 100);
        assert!((weight.blocks - 1.0).abs() < 1e-9 && weight.bytes_variance < 1e-9);
        // And a byte stands for the interval, give or take half a byte.
        assert!((Weight::of(1, 1000).bytes - 1000.5).abs() < 0.01);
    }
}
