//! One frame of a stack: its name taken apart, and whether it is the runtime's.

pub(crate) mod file;
mod moved;
pub(crate) mod name;
pub(crate) mod runtime;
