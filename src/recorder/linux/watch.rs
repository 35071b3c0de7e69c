//! What is allocated while somebody watches, by stack: for tests, which ask about one block of code.
//!
//! A thread that is watched counts each of its blocks once more, in a table that has an entry for every slot of the
//! recording. Watches of one thread may lie within one another; each counts what those within it count.

use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::current::recording;
use super::file::{Recording, Slot, map_private};
use super::start::Door;
use super::thread::thread;
use super::watched::{Entry, Table};

/// Whose allocations are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of the thread that begins.
    Thread,
    /// Those of every thread.
    Process,
}

/// What one stack allocated meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
    /// The index of the scope it was in.
    pub scope: u16,
    /// Where its calls return to, the innermost first.
    pub frames: Vec<usize>,
}

/// Counts what is allocated from [`begin`](Watch::begin) to [`end`](Watch::end), as often as that is called, by stack.
pub struct Watch {
    whose: Whose,
    recording: &'static Recording,
    table: NonNull<Table>,
    begun: bool,
}

// SAFETY: (the invariant) the table is this watch's alone, and is a thread's too only from `begin` to `end`, which that
// thread calls in the order of a stack: a watch that has begun is not moved to another thread before it ends, and where
// the code between panics, the watch ends when it is dropped, on that thread.
unsafe impl Send for Watch {}
// SAFETY: nothing is written through a shared reference.
unsafe impl Sync for Watch {}

impl Watch {
    /// `None` where the program's own allocator does not record, or there is no memory for a table.
    pub fn new(whose: Whose) -> Option<Watch> {
        let recording = recording()?;
        if recording.header.fixed.door.load(Ordering::Relaxed) != Door::Program as u32 {
            return None;
        }
        let table = NonNull::new(map_private(size_of::<Table>())?.cast())?;
        Some(Watch { whose, recording, table, begun: false })
    }

    fn table(&self) -> &Table {
        // SAFETY: the mapping is as large as a table, holds zeros, which are valid, and is unmapped with the watch.
        unsafe { self.table.as_ref() }
    }

    /// The slots in use and their entries.
    fn entries(&self) -> impl Iterator<Item = (&'static Slot, &Entry)> {
        let used = self.recording.header.used.slots.load(Ordering::Relaxed) as usize;
        self.recording.slots.iter().zip(&self.table().entries).take(used)
    }

    /// From now on blocks are counted: of this thread, or of all.
    pub fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        match self.whose {
            Whose::Thread => self.table().outer.set(thread().watch.replace(self.table.as_ptr())),
            Whose::Process => self.entries().for_each(|(slot, entry)| entry.subtract(slot)),
        }
    }

    /// From now on they are not.
    pub fn end(&mut self) {
        if !std::mem::replace(&mut self.begun, false) {
            return;
        }
        match self.whose {
            Whose::Thread => thread().watch.set(self.table().outer.get()),
            Whose::Process => self.entries().for_each(|(slot, entry)| entry.add(slot)),
        }
    }

    /// What was counted, a stack in a scope each.
    pub fn stacks(&self) -> Vec<Watched> {
        let counted = self.entries().filter(|(_, entry)| entry.blocks.get() > 0);
        let stacks = counted.map(|(slot, entry)| {
            let at = slot.at.load(Ordering::Relaxed) as usize;
            let frames = &self.recording.frames[at..at + usize::from(slot.depth.load(Ordering::Relaxed))];
            Watched {
                blocks: entry.blocks.get(),
                bytes: entry.bytes.get(),
                scope: slot.scope.load(Ordering::Relaxed),
                frames: frames.iter().map(|frame| frame.load(Ordering::Relaxed) as usize).collect(),
            }
        });
        stacks.collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
        // SAFETY: the mapping is this watch's, and no thread has it any more.
        unsafe { libc::munmap(self.table.as_ptr().cast::<c_void>(), size_of::<Table>()) };
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("whose", &self.whose).field("begun", &self.begun).finish_non_exhaustive()
    }
}
