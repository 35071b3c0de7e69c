//! What the two doors call.

use std::sync::atomic::Ordering;

use super::arch;
use super::current::{recording, tell};
use super::file::{self, Recording};
use super::live::{self, Sizes};
use super::memo;
use super::table::{self, Frames};
use super::thread::{State, Thread, has_ended, thread};
use super::walker::{self, is_own_stack};
use super::watched;
use crate::recorder::layout::{DEPTH, METHODS};

/// A block was allocated, for this scope. `sizes` says whether its size will be told when it is freed.
#[inline]
pub(super) fn block_allocated(block: *mut u8, size: usize, scope: u16, sizes: Sizes) {
    let Some(recording) = recording() else { return };
    let thread = thread();
    if block.is_null() {
        return;
    }
    if thread.state() != State::READY && !thread.enter(recording) {
        recording.header.missed.reentered.fetch_add(1, Ordering::Relaxed);
        return;
    }
    record(recording, thread, block as usize, size, scope, sizes);
}

#[inline(never)]
fn record(recording: &'static Recording, thread: &'static Thread, block: usize, size: usize, scope: u16, sizes: Sizes) {
    let ended = has_ended(thread.state());
    let busy = thread.hold();
    thread.shard(recording).allocated(size);
    match stack(recording, thread, scope, ended) {
        Some(slot) => {
            table::allocated(recording, slot, size);
            watched::allocated(thread.watch.get(), slot, size);
            if live::insert(block, size, slot, sizes) {
                changed(recording, thread, size as i64, ended);
            } else {
                recording.header.missed.untracked.fetch_add(1, Ordering::Relaxed);
            }
        }
        None => {
            recording.header.missed.homeless_blocks.fetch_add(1, Ordering::Relaxed);
            recording.header.missed.homeless_bytes.fetch_add(size as u64, Ordering::Relaxed);
        }
    }
    thread.last.set(block);
    drop(busy);
}

/// The slot of the stack that this is called on.
#[inline(always)]
fn stack(recording: &'static Recording, thread: &Thread, scope: u16, ended: bool) -> Option<u32> {
    let from = arch::registers();
    let top = thread.top();
    if !is_own_stack(from, top) {
        recording.header.missed.foreign.fetch_add(1, Ordering::Relaxed);
        return table::find(recording, 1, scope, Frames::Walked(&[]));
    }
    let mut frames = [0; DEPTH];
    let memos = if ended { std::ptr::null_mut() } else { memo::of(&thread.memos, &thread.walks) };
    // SAFETY: the mapping is this thread's; it is busy, so that no signal handler on it comes here meanwhile.
    let memos = unsafe { memos.as_mut() };
    let Some(memos) = memos else {
        let walk = walker::walk(from, top, &mut frames, |_, _| ());
        if walk.cut {
            recording.header.missed.cut.fetch_add(1, Ordering::Relaxed);
        }
        return table::find(recording, walk.hash, scope, Frames::Walked(&frames[..walk.depth]));
    };
    if let Some(memo) = memos.find(from) {
        if let Some(slot) = memo.slot(scope) {
            return Some(slot);
        }
        let (hash, same) = memo.stack();
        let slot = table::find(recording, hash, scope, Frames::Of(same))?;
        memo.is_for(scope, slot);
        return Some(slot);
    }
    let mut writer = memos.writer(from);
    let walk = walker::walk(from, top, &mut frames, |at, word| writer.read(at, word));
    if walk.cut {
        recording.header.missed.cut.fetch_add(1, Ordering::Relaxed);
    }
    let slot = table::find(recording, walk.hash, scope, Frames::Walked(&frames[..walk.depth]))?;
    if !walk.cut {
        writer.keep(walk.hash, scope, slot);
    }
    Some(slot)
}

/// A block that was live until now: what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    slot: u32,
    size: u64,
}

/// A block is about to be freed or moved: forgets that it is live, while nobody else can have its address.
#[inline]
pub(super) fn forget(block: *mut u8, told: usize, sizes: Sizes) -> Option<Known> {
    recording()?;
    let (slot, kept) = live::remove(block as usize, sizes)?;
    Some(Known { slot, size: if sizes == Sizes::Told { told as u64 } else { kept } })
}

/// It was not moved after all.
pub(super) fn restore(block: *mut u8, known: Known, sizes: Sizes) {
    live::insert(block as usize, known.size as usize, known.slot, sizes);
}

/// A block that was [forgotten](forget) is gone.
#[inline]
pub(super) fn count_freed(block: *mut u8, known: Known, moved: bool) {
    let Some(recording) = recording() else { return };
    let thread = thread();
    let own = thread.state() == State::READY || thread.enter(recording);
    // A signal handler that interrupts the recorder must not write what it was about to write.
    let shard = if own { thread.shard(recording) } else { recording.shared_shard() };
    shard.freed(known.size);
    let temporary = !moved && thread.last.get() == block as usize;
    table::freed(recording, known.slot, known.size, temporary);
    if own {
        changed(recording, thread, -(known.size as i64), has_ended(thread.state()));
    } else {
        tell(recording, -(known.size as i64));
    }
}

/// So many more bytes are live, on this thread's account.
#[inline(always)]
fn changed(recording: &Recording, thread: &Thread, bytes: i64, ended: bool) {
    let untold = thread.untold.get() + bytes;
    let slack = recording.header.heap.slack();
    if ended || untold > slack || untold < -slack {
        thread.untold.set(0);
        tell(recording, untold);
    } else {
        thread.untold.set(untold);
    }
}

// The program's own allocator: sizes are told.

/// A block of `size` bytes was allocated for the scope with this index.
#[inline(always)]
pub fn allocated(block: *mut u8, size: usize, scope: u16) {
    block_allocated(block, size, scope, Sizes::Told);
}

/// A block of `size` bytes is about to be freed.
#[inline(always)]
pub fn freed(block: *mut u8, size: usize) {
    if let Some(known) = forget(block, size, Sizes::Told) {
        count_freed(block, known, false);
    }
}

/// A block that may be about to move.
#[derive(Debug)]
#[must_use = "hand it to `reallocated`"]
pub struct Reallocating(Option<Known>);

/// A block of `size` bytes is about to be reallocated.
#[inline(always)]
pub fn reallocating(block: *mut u8, size: usize) -> Reallocating {
    Reallocating(forget(block, size, Sizes::Told))
}

/// It was, to `moved` of `size` bytes, for the scope with this index; or it was not, and `moved` is null.
#[inline(always)]
pub fn reallocated(was: Reallocating, block: *mut u8, moved: *mut u8, size: usize, scope: u16) {
    finish_reallocation(was.0, block, moved, size, scope, Sizes::Told);
}

#[inline(always)]
pub(super) fn finish_reallocation(
    was: Option<Known>,
    block: *mut u8,
    moved: *mut u8,
    size: usize,
    scope: u16,
    sizes: Sizes,
) {
    if moved.is_null() {
        if let Some(known) = was {
            restore(block, known, sizes);
        }
        return;
    }
    if let Some(known) = was {
        count_freed(block, known, true);
    }
    block_allocated(moved, size, scope, sizes);
    if was.is_some()
        && let Some(recording) = recording()
        && thread().state() == State::READY
    {
        thread().shard(recording).reallocated();
    }
}

/// Whether the recording has no name yet for the RPC method with this index.
#[inline(always)]
pub fn is_new_method(index: usize) -> bool {
    index < METHODS && recording().is_some_and(|recording| recording.methods[index].side.load(Ordering::Relaxed) == 0)
}

/// Names the method with this index: `side` is 1 for the server's, 2 for the client's.
#[cold]
pub fn name_method(index: usize, side: u32, path: &str) {
    let Some(entry) = recording().and_then(|recording| recording.methods.get(index)) else { return };
    entry.path_len.store(file::write(&entry.path, path.as_bytes()), Ordering::Relaxed);
    entry.side.store(side, Ordering::Release);
}
