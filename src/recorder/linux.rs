//! The recorder on Linux, x86-64 and aarch64.

#![expect(unsafe_code, reason = "reads the stack it runs on, maps memory and is called by allocators")]

mod arch;
mod current;
mod file;
mod hooks;
mod live;
mod memo;
mod modules;
pub mod preload;
mod start;
mod table;
mod thread;
mod walker;
mod watch;
mod watched;

pub use hooks::{Reallocating, allocated, freed, is_new_method, name_method, reallocated, reallocating};
pub use start::{Door, Kept, start, yield_to_program};
pub use walker::capture;
pub use watch::{Watch, Watched, Whose};
