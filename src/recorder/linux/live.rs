//! The live blocks: beside each block's address, which stack allocated it and how large it is.
//!
//! A map of the address space in two levels, made where it is used: a leaf for every 64 MiB in which blocks lie, and
//! in it a word of 32 bits for every 8 bytes. Nothing is ever full, nothing is searched for, and the words of a block
//! are written only by who owns the block: whoever frees it was handed its address, and with it sees what is written.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::file::map_private;

const LEAF_BITS: u32 = 26;
const LEAF_WORDS: usize = 1 << (LEAF_BITS - 3);
/// Addresses of programs end here: 47 bits on x86-64, 48 on aarch64.
const LEAVES: usize = 1 << (48 - LEAF_BITS);

static ROOT: AtomicPtr<AtomicPtr<AtomicU32>> = AtomicPtr::new(std::ptr::null_mut());

/// A slot's number plus one takes the low bits of the first word; high bits of a size that needs more than 32 the rest.
const SLOT_BITS: u32 = 20;
const _: () = assert!(crate::recorder::layout::SLOTS < (1 << SLOT_BITS) - 1);

/// Whether the second word of a block's place is its size, or its neighbour's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    /// Blocks are 16 bytes apart at least, and who frees one does not say how large it is.
    Kept,
    /// Who frees a block says how large it is.
    Told,
}

/// Maps the first level; false where there is no memory for it.
pub(super) fn start() -> bool {
    match map_private(LEAVES * size_of::<AtomicPtr<AtomicU32>>()) {
        Some(root) => {
            ROOT.store(root.cast(), Ordering::Release);
            true
        }
        None => false,
    }
}

/// The words of a block. `start` has been called.
#[inline(always)]
fn words(address: usize) -> Option<(&'static AtomicPtr<AtomicU32>, usize)> {
    let leaf = address >> LEAF_BITS;
    if leaf >= LEAVES {
        return None;
    }
    let index = (address & ((1 << LEAF_BITS) - 1)) >> 3;
    // SAFETY: the root has `LEAVES` entries, is zeroed memory and never unmapped.
    Some((unsafe { &*ROOT.load(Ordering::Relaxed).add(leaf) }, index))
}

/// Notes a live block; false where there is no memory for that.
#[inline]
pub(super) fn insert(address: usize, size: usize, slot: u32, sizes: Sizes) -> bool {
    let Some((entry, index)) = words(address) else { return false };
    let mut leaf = entry.load(Ordering::Acquire);
    if leaf.is_null() {
        leaf = grow(entry);
        if leaf.is_null() {
            return false;
        }
    }
    let high = match sizes {
        Sizes::Told => 0,
        Sizes::Kept => {
            // SAFETY: blocks are 16 bytes apart, so `index` is even and the next word is this block's too.
            unsafe { (*leaf.add(index + 1)).store(size as u32, Ordering::Relaxed) };
            ((size as u64 >> 32) as u32) << SLOT_BITS
        }
    };
    // SAFETY: a leaf has `LEAF_WORDS` words, is zeroed memory and never unmapped.
    unsafe { (*leaf.add(index)).store((slot + 1) | high, Ordering::Relaxed) };
    true
}

/// Forgets a block, and says its slot and, where sizes are kept, its size.
#[inline]
pub(super) fn remove(address: usize, sizes: Sizes) -> Option<(u32, u64)> {
    let (entry, index) = words(address)?;
    let leaf = entry.load(Ordering::Acquire);
    if leaf.is_null() {
        return None;
    }
    // SAFETY: as in `insert`.
    let first = unsafe { &*leaf.add(index) };
    let word = first.load(Ordering::Relaxed);
    if word == 0 {
        return None;
    }
    first.store(0, Ordering::Relaxed);
    let size = match sizes {
        Sizes::Told => 0,
        // SAFETY: as in `insert`.
        Sizes::Kept => unsafe {
            u64::from(word >> SLOT_BITS) << 32 | u64::from((*leaf.add(index + 1)).load(Ordering::Relaxed))
        },
    };
    Some(((word & ((1 << SLOT_BITS) - 1)) - 1, size))
}

#[cold]
#[inline(never)]
fn grow(entry: &AtomicPtr<AtomicU32>) -> *mut AtomicU32 {
    let errno = super::file::errno();
    let bytes = LEAF_WORDS * size_of::<AtomicU32>();
    let mut leaf: *mut AtomicU32 = map_private(bytes).map_or(std::ptr::null_mut(), |leaf| leaf.cast());
    if !leaf.is_null()
        && let Err(other) = entry.compare_exchange(std::ptr::null_mut(), leaf, Ordering::AcqRel, Ordering::Acquire)
    {
        // SAFETY: another thread was first, and nobody has seen this mapping.
        unsafe { libc::munmap(leaf.cast(), bytes) };
        leaf = other;
    }
    super::file::set_errno(errno);
    leaf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_known_once_with_its_slot_and_size() {
        assert!(start());
        for (address, size, slot) in [
            (16, 0, 0),
            (0x7fff_ffff_fff0, 64, 7),
            (0x5555_0000_0010, usize::MAX >> 20, (1 << 18) - 1),
            (1 << 26, 5_000_000_000, 3),
        ] {
            assert_eq!(remove(address, Sizes::Kept), None);
            assert!(insert(address, size, slot, Sizes::Kept));
            assert_eq!(remove(address, Sizes::Kept), Some((slot, size as u64)));
            assert_eq!(remove(address, Sizes::Kept), None);
        }
        // Eight bytes apart, where sizes are told.
        assert!(insert(4096, 8, 1, Sizes::Told) && insert(4104, 8, 2, Sizes::Told));
        assert_eq!(remove(4096, Sizes::Told), Some((1, 0)));
        assert_eq!(remove(4104, Sizes::Told), Some((2, 0)));
        assert!(!insert(1 << 48, 8, 1, Sizes::Told), "no program's address");
    }
}
