//! The table of a [watch](super::watch::Watch): an entry for every slot of the recording.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use super::file::Slot;
use crate::recorder::layout::SLOTS;

/// What a slot's stack allocated; only its watch, or the thread that is watched, writes to it.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) blocks: Cell<u64>,
    pub(super) bytes: Cell<u64>,
}

/// A mapping of its own. Zeros are valid.
#[repr(C)]
pub(super) struct Table {
    /// The watch that this one lies within.
    pub(super) outer: Cell<*const Table>,
    pub(super) entries: [Entry; SLOTS],
}

impl Entry {
    pub(super) fn add(&self, slot: &Slot) {
        self.blocks.set(self.blocks.get().wrapping_add(slot.blocks.load(Ordering::Relaxed)));
        self.bytes.set(self.bytes.get().wrapping_add(slot.bytes.load(Ordering::Relaxed)));
    }

    pub(super) fn subtract(&self, slot: &Slot) {
        self.blocks.set(self.blocks.get().wrapping_sub(slot.blocks.load(Ordering::Relaxed)));
        self.bytes.set(self.bytes.get().wrapping_sub(slot.bytes.load(Ordering::Relaxed)));
    }
}

/// A block of a slot was allocated on the thread that has this table, if it has one.
#[inline(always)]
pub(super) fn allocated(mut table: *const Table, slot: u32, size: usize) {
    // SAFETY: the invariant on `Watch`: what a thread has is mapped until that thread ends its watch.
    while let Some(watching) = unsafe { table.as_ref() } {
        let entry = &watching.entries[slot as usize];
        entry.blocks.set(entry.blocks.get() + 1);
        entry.bytes.set(entry.bytes.get() + size as u64);
        table = watching.outer.get();
    }
}
