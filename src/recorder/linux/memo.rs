//! Walks that were made before.
//!
//! A walk is a function of where it began and of the words it read. A service comes by the same way again and again:
//! where those words are what they were, so is the stack, and comparing them takes half as long as walking. A thread
//! remembers its walks from when it has made some: threads that hardly allocate map no memory for it.

use std::cell::Cell;

use super::arch::Registers;
use super::file::{map_private, set_errno};

const SETS: usize = 16;
const WAYS: usize = 4;
/// Words that a remembered walk may have read; longer ones are walked each time.
const READS: usize = 160;
/// Walks before a thread remembers any.
const WARM: u32 = 512;

/// One walk.
#[repr(C)]
pub(super) struct Memo {
    sp: usize,
    fp: usize,
    hash: u64,
    slot: u32,
    scope: u16,
    /// How many words it read; 0 in an empty place.
    reads: u16,
    /// How far above the stack pointer each lay.
    at: [u32; READS],
    was: [u64; READS],
}

/// A thread's walks. Zeros are empty.
#[repr(C)]
pub(super) struct Memos {
    turn: usize,
    sets: [[Memo; WAYS]; SETS],
}

/// A walk that is being remembered.
pub(super) struct Writer<'a> {
    memo: &'a mut Memo,
    sp: usize,
    reads: usize,
}

/// A thread's walks, once it has made enough of them; null before. The mapping is the thread's own, holds zeros or what
/// was written here, and is unmapped at the thread's end.
#[inline(always)]
pub(super) fn of(memos: &Cell<*mut Memos>, walks: &Cell<u32>) -> *mut Memos {
    if memos.get().is_null() { warm(memos, walks) } else { memos.get() }
}

fn warm(memos: &Cell<*mut Memos>, walks: &Cell<u32>) -> *mut Memos {
    let made = walks.get();
    walks.set(made.saturating_add(1));
    if made == WARM {
        let errno = super::file::errno();
        memos.set(map_private(size_of::<Memos>()).map_or(std::ptr::null_mut(), |memos| memos.cast()));
        set_errno(errno);
    }
    memos.get()
}

/// Gives the memory back.
pub(super) fn unmap(memos: *mut Memos) {
    if !memos.is_null() {
        // SAFETY: `warm` mapped it, and its thread has let go of it.
        unsafe { libc::munmap(memos.cast(), size_of::<Memos>()) };
    }
}

impl Memos {
    #[inline(always)]
    fn set(&mut self, sp: usize) -> &mut [Memo; WAYS] {
        // Frames are 16 bytes apart, and their distances have few patterns.
        let set = ((sp as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60) as usize;
        &mut self.sets[set % SETS]
    }

    /// The walk that began here and read what lies there now.
    #[inline(always)]
    pub(super) fn find(&mut self, from: Registers) -> Option<&mut Memo> {
        self.set(from.sp).iter_mut().find(|memo| memo.sp == from.sp && memo.fp == from.fp && memo.holds())
    }

    /// A place for a walk from here, in turn.
    #[inline(always)]
    pub(super) fn writer(&mut self, from: Registers) -> Writer<'_> {
        self.turn = self.turn.wrapping_add(1);
        let way = self.turn % WAYS;
        let memo = &mut self.set(from.sp)[way];
        memo.reads = 0;
        memo.sp = from.sp;
        memo.fp = from.fp;
        Writer { memo, sp: from.sp, reads: 0 }
    }
}

impl Memo {
    #[inline(always)]
    fn holds(&self) -> bool {
        let reads = usize::from(self.reads);
        let words = self.at[..reads].iter().zip(&self.was[..reads]);
        // SAFETY: the walk began at the same stack pointer, so these words lie above it on the same stack.
        reads > 0 && words.into_iter().all(|(at, was)| unsafe { *((self.sp + *at as usize) as *const u64) } == *was)
    }

    /// The slot it ended in, if that was for this scope.
    #[inline(always)]
    pub(super) fn slot(&self, scope: u16) -> Option<u32> {
        (self.scope == scope).then_some(self.slot)
    }

    /// The walk's hash, and a slot with the same frames.
    pub(super) fn stack(&self) -> (u64, u32) {
        (self.hash, self.slot)
    }

    /// From now on it is about this scope.
    pub(super) fn is_for(&mut self, scope: u16, slot: u32) {
        self.scope = scope;
        self.slot = slot;
    }
}

impl Writer<'_> {
    /// Notes a word the walk read.
    #[inline(always)]
    pub(super) fn read(&mut self, at: usize, was: u64) {
        if let (Some(place), Some(word)) = (self.memo.at.get_mut(self.reads), self.memo.was.get_mut(self.reads)) {
            *place = (at - self.sp) as u32;
            *word = was;
        }
        self.reads += 1;
    }

    /// Keeps the walk, if everything it read found room.
    #[inline(always)]
    pub(super) fn keep(self, hash: u64, scope: u16, slot: u32) {
        if self.reads <= READS {
            self.memo.hash = hash;
            self.memo.is_for(scope, slot);
            self.memo.reads = self.reads as u16;
        }
    }
}
