//! Where nothing can be recorded: hooks that do nothing.

/// Who calls the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The program's own allocator.
    Program,
}

/// Where a recording is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In a file, which is there after the process.
    InFile,
    /// In the process's memory alone.
    InMemory,
}

/// Says that this process does not record.
pub fn start(_door: Door, _kept: Kept) -> bool {
    crate::recorder::say("not recorded: that needs Linux on x86-64 or aarch64");
    false
}

/// Does nothing.
pub fn allocated(_block: *mut u8, _size: usize, _scope: u16) {}

/// Does nothing.
pub fn freed(_block: *mut u8, _size: usize) {}

/// A block that may be about to move.
#[derive(Debug)]
pub struct Reallocating;

/// Does nothing.
pub fn reallocating(_block: *mut u8, _size: usize) -> Reallocating {
    Reallocating
}

/// Does nothing.
pub fn reallocated(_was: Reallocating, _block: *mut u8, _moved: *mut u8, _size: usize, _scope: u16) {}

/// There is no recording that lacks a name.
pub fn is_new_method(_index: usize) -> bool {
    false
}

/// Does nothing.
pub fn name_method(_index: usize, _side: u32, _path: &str) {}

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

/// Never made.
#[derive(Debug)]
pub enum Watch {}

impl Watch {
    /// Nothing is recorded, so that nothing can be watched.
    pub fn new(_whose: Whose) -> Option<Watch> {
        None
    }

    /// Never called.
    pub fn begin(&mut self) {
        match *self {}
    }

    /// Never called.
    pub fn end(&mut self) {
        match *self {}
    }

    /// Never called.
    pub fn stacks(&self) -> Vec<Watched> {
        match *self {}
    }
}
