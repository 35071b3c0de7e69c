//! Where nothing can be recorded: hooks that do nothing.

/// Who calls the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The program's own allocator.
    Program,
}

/// Says that this process does not record.
pub fn start(_door: Door) -> bool {
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
