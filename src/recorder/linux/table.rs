//! The distinct stacks of a recording.
//!
//! Slots and frames are handed out in order, so that what is in use is dense. They are found by an index that only the
//! process has: a word each, half of it a tag and half a slot's number. Who finds an empty place makes a slot first and
//! publishes it with one exchange; who loses that to the same stack leaves its own slot unused. Two stacks whose 64-bit
//! hashes are equal would be taken for one: with 100,000 stacks that happens in one of a billion recordings.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::file::{Recording, Slot, map_private};
use super::walker::mix;
use crate::recorder::layout::{self, FRAMES, SLOTS};

/// Twice as many places as slots.
const PLACES: usize = 2 * SLOTS;
/// Places looked at before a stack is given up.
const PROBES: usize = 128;

static INDEX: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
static SLOTS_RESERVED: AtomicUsize = AtomicUsize::new(0);
static PEAKS_RESERVED: AtomicUsize = AtomicUsize::new(0);
static FRAMES_RESERVED: AtomicUsize = AtomicUsize::new(0);
/// Some stack found no room: no other one will.
static FULL: AtomicBool = AtomicBool::new(false);

/// Where a stack's frames come from.
#[derive(Clone, Copy)]
pub(super) enum Frames<'a> {
    Walked(&'a [u64]),
    /// The same as those of another slot.
    Of(u32),
}

/// Maps the index; false where there is no memory for it.
pub(super) fn start() -> bool {
    match map_private(PLACES * size_of::<AtomicU64>()) {
        Some(index) => {
            INDEX.store(index.cast(), Ordering::Release);
            true
        }
        None => false,
    }
}

/// The slot of a stack in a scope, made if need be; `None` where there is no room.
#[inline]
pub(super) fn find(recording: &Recording, hash: u64, scope: u16, frames: Frames<'_>) -> Option<u32> {
    let key = mix(hash, u64::from(scope)).max(1);
    let mut made = None;
    for probe in 0..PROBES {
        let place = (key as usize).wrapping_add(probe) % PLACES;
        // SAFETY: the index has `PLACES` words, is zeroed memory and never unmapped.
        let place = unsafe { &*INDEX.load(Ordering::Relaxed).add(place) };
        let mut found = place.load(Ordering::Acquire);
        if found == 0 {
            let slot = match made {
                Some(slot) => slot,
                None => *made.insert(make(recording, key, scope, frames)?),
            };
            let word = key >> 32 << 32 | u64::from(slot + 1);
            match place.compare_exchange(0, word, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(slot),
                Err(other) => found = other,
            }
        }
        let slot = found as u32 - 1;
        if found >> 32 == key >> 32 && recording.slots[slot as usize].key.load(Ordering::Relaxed) == key {
            if let Some(unused) = made {
                recording.slots[unused as usize].key.store(0, Ordering::Relaxed);
            }
            return Some(slot);
        }
    }
    None
}

#[cold]
#[inline(never)]
fn make(recording: &Recording, key: u64, scope: u16, frames: Frames<'_>) -> Option<u32> {
    if FULL.load(Ordering::Relaxed) {
        return None;
    }
    let made = try_make(recording, key, scope, frames);
    if made.is_none() {
        FULL.store(true, Ordering::Relaxed);
    }
    made
}

fn try_make(recording: &Recording, key: u64, scope: u16, frames: Frames<'_>) -> Option<u32> {
    let used = &recording.header.used;
    let index = used.slots.fetch_add(1, Ordering::Relaxed) as usize;
    let slots = (&raw const recording.slots).cast();
    let peaks = (&raw const recording.peaks).cast();
    let room = index < SLOTS
        && recording.reserve(slots, (index + 1) * layout::slot::SIZE, &SLOTS_RESERVED)
        && recording.reserve(peaks, (index + 1) * layout::peak::SIZE, &PEAKS_RESERVED);
    if !room {
        return None;
    }
    let slot = &recording.slots[index];
    let (at, depth) = match frames {
        Frames::Walked(frames) => {
            let at = used.frames.fetch_add(frames.len() as u64, Ordering::Relaxed) as usize;
            let end = at + frames.len();
            if end > FRAMES || !recording.reserve((&raw const recording.frames).cast(), end * 8, &FRAMES_RESERVED) {
                return None;
            }
            for (place, frame) in recording.frames[at..end].iter().zip(frames) {
                place.store(*frame, Ordering::Relaxed);
            }
            (at as u32, frames.len() as u16)
        }
        Frames::Of(other) => {
            let other = &recording.slots[other as usize];
            (other.at.load(Ordering::Relaxed), other.depth.load(Ordering::Relaxed))
        }
    };
    slot.at.store(at, Ordering::Relaxed);
    slot.depth.store(depth, Ordering::Relaxed);
    slot.scope.store(scope, Ordering::Relaxed);
    // Nothing of it was live at the last peak.
    slot.epoch.store(recording.header.epoch.0.load(Ordering::Relaxed), Ordering::Relaxed);
    slot.key.store(key, Ordering::Release);
    Some(index as u32)
}

/// Counts a block in its slot.
#[inline(always)]
pub(super) fn allocated(recording: &Recording, index: u32, size: usize) {
    let slot = changing(recording, index);
    slot.blocks.fetch_add(1, Ordering::Relaxed);
    slot.bytes.fetch_add(size as u64, Ordering::Relaxed);
}

/// Counts a block of the slot as freed.
#[inline(always)]
pub(super) fn freed(recording: &Recording, index: u32, size: u64, temporary: bool) {
    let slot = changing(recording, index);
    slot.freed_blocks.fetch_add(1, Ordering::Relaxed);
    slot.freed_bytes.fetch_add(size, Ordering::Relaxed);
    if temporary {
        slot.temporary.fetch_add(1, Ordering::Relaxed);
    }
}

/// The slot, once what it had live at the last peak is kept.
#[inline(always)]
fn changing(recording: &Recording, index: u32) -> &Slot {
    let slot = &recording.slots[index as usize];
    let epoch = recording.header.epoch.0.load(Ordering::Relaxed);
    if slot.epoch.load(Ordering::Relaxed) != epoch {
        keep_peak(recording, index, epoch);
    }
    slot
}

/// The peak rose since the slot changed last, so what is live in it now is what was live then.
#[inline(never)]
fn keep_peak(recording: &Recording, index: u32, epoch: u32) {
    let (slot, peak) = (&recording.slots[index as usize], &recording.peaks[index as usize]);
    let live = |all: &AtomicU64, freed: &AtomicU64| {
        let freed = freed.load(Ordering::Relaxed);
        all.load(Ordering::Relaxed).saturating_sub(freed)
    };
    peak.bytes.store(live(&slot.bytes, &slot.freed_bytes), Ordering::Relaxed);
    peak.blocks.store(live(&slot.blocks, &slot.freed_blocks), Ordering::Relaxed);
    slot.epoch.store(epoch, Ordering::Relaxed);
}
