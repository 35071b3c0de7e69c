//! A fixed table of the sampled blocks that are live, so that a free knows whether it frees one.
//!
//! Buckets of eight, one cache line each, and before them a filter of byte counters small enough to stay in the
//! first-level cache: a free of a block that was not sampled reads one byte, and seldom more. At the default
//! interval the table holds the samples of about 8 GiB of live memory; further blocks are counted as
//! [`untracked`] and left out of the live estimate.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

const WAYS: usize = 8;
const BUCKETS: usize = 4096;
const FILTER: usize = 16 * 1024;
/// A way that is being filled. No block has this address.
const CLAIMED: usize = 1;

/// A sampled block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Bytes asked for.
    pub(super) size: usize,
    /// Its row in the table of stacks.
    pub(super) stack: u32,
}

/// The addresses apart from the rest: looking for one reads this line alone.
#[repr(align(64))]
struct Addresses([AtomicUsize; WAYS]);

struct Details {
    size: [AtomicUsize; WAYS],
    stack: [AtomicU32; WAYS],
}

static ADDRESSES: [Addresses; BUCKETS] = [const { Addresses([const { AtomicUsize::new(0) }; WAYS]) }; BUCKETS];
static DETAILS: [Details; BUCKETS] =
    [const { Details { size: [const { AtomicUsize::new(0) }; WAYS], stack: [const { AtomicU32::new(0) }; WAYS] } };
        BUCKETS];
static FILTERS: [AtomicU8; FILTER] = [const { AtomicU8::new(0) }; FILTER];
static UNTRACKED: AtomicU64 = AtomicU64::new(0);

fn hash(address: usize) -> usize {
    // Blocks are at least 8-aligned; the high bits of the product depend on all bits of the address.
    ((address as u64 >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize
}

/// Whether the block at `address` may be a sample: false is certain.
#[inline]
pub(super) fn may_hold(address: usize) -> bool {
    FILTERS[hash(address) % FILTER].load(Ordering::Relaxed) != 0
}

/// Notes a live sample; false where there is no room for it.
///
/// The caller owns the block, so nobody frees it meanwhile; the thread that frees it later was given its address, and
/// with it sees what is written here.
pub(super) fn insert(address: usize, sample: Sample) -> bool {
    let hash = hash(address);
    let bucket = hash % BUCKETS;
    let filter = &FILTERS[hash % FILTER];
    let counted = filter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_add(1)).is_ok();
    if counted {
        for (way, slot) in ADDRESSES[bucket].0.iter().enumerate() {
            if slot.load(Ordering::Relaxed) == 0
                && slot.compare_exchange(0, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                DETAILS[bucket].size[way].store(sample.size, Ordering::Relaxed);
                DETAILS[bucket].stack[way].store(sample.stack, Ordering::Relaxed);
                slot.store(address, Ordering::Release);
                return true;
            }
        }
        filter.fetch_sub(1, Ordering::Relaxed);
    }
    UNTRACKED.fetch_add(1, Ordering::Relaxed);
    false
}

/// Forgets the sample at `address`, if there is one. The caller is about to free it, so nobody else looks for it.
pub(super) fn remove(address: usize) -> Option<Sample> {
    let hash = hash(address);
    let bucket = hash % BUCKETS;
    let way = ADDRESSES[bucket].0.iter().position(|slot| slot.load(Ordering::Acquire) == address)?;
    let sample = Sample {
        size: DETAILS[bucket].size[way].load(Ordering::Relaxed),
        stack: DETAILS[bucket].stack[way].load(Ordering::Relaxed),
    };
    ADDRESSES[bucket].0[way].store(0, Ordering::Release);
    FILTERS[hash % FILTER].fetch_sub(1, Ordering::Relaxed);
    Some(sample)
}

/// Samples that found no room, and so are missing from the live estimate.
pub(super) fn untracked() -> u64 {
    UNTRACKED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_once_and_what_does_not_fit_is_counted() {
        // Odd addresses are nobody's, so that the test can share the table with real samples.
        let address = |index: usize| index * 4096 + 3;
        let before = untracked();
        let blocks = 2 * WAYS * BUCKETS;
        let held: Vec<usize> =
            (1..=blocks).map(address).filter(|a| insert(*a, Sample { size: *a, stack: 7 })).collect();
        assert!(held.len() > WAYS * BUCKETS / 2, "{}", held.len());
        assert_eq!(untracked() - before, (blocks - held.len()) as u64);
        for address in held {
            assert!(may_hold(address));
            assert_eq!(remove(address), Some(Sample { size: address, stack: 7 }));
            assert_eq!(remove(address), None);
        }
    }
}
