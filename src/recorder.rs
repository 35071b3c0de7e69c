//! Every stack that allocates, exactly: what [`Alloc`](crate::Alloc) and the preload library write, call by call.
//!
//! A program is recorded through one of two doors: its own global allocator ([`Alloc`](crate::Alloc)), or the C
//! library's functions, which a preloaded library stands in front of ([`preload!`](crate::preload)). Both call the same
//! hooks, and those write to one file: a [sparse, shared mapping](layout) that is current at every moment, so that no
//! end of the process loses anything. The recorder writes addresses; whoever reads the file looks their names up.
//!
//! # What is not recorded
//! Memory maps and thread stacks; what is allocated before the recorder starts; and what the recorder itself needs,
//! which it maps and never asks an allocator for. A forked child is not recorded until it executes a program: the file
//! says how many forks there were.
//!
//! # Beside dhat
//! The two see the same blocks on the same stacks; a test of the command, `agreement`, holds them to it. One thing differs: a
//! block that grows is here a new block of the stack that makes it grow, and dhat books it on the stack that allocated it
//! first.
//!
//! # Beside other tools
//! What the study's unary server pays while a tool sees all it allocates, 300 calls after a warm-up: CPU time as a multiple of
//! the same server alone in the same round, median and interval of 5 rounds on a loaded machine with two cores, and the
//! blocks that each saw, of the whole process where nothing else is said. `cargo xtask beside --runs 5 --messages 300` prints it:
//!
//! | tool | CPU | interval | blocks |
//! |---|---:|---:|---:|
//! | counters, no stacks | 1.01 × | 0.95 to 1.32 | 22,702, of set-up and calls |
//! | recorder, preloaded | 1.17 × | 1.12 to 1.34 | 33,499 |
//! | heaptrack 1.4 | 1.55 × | 1.26 to 1.60 | 33,498 |
//! | dhat 0.3 | 4.10 × | 3.21 to 5.53 | 12,301, of the calls alone |
//! | Valgrind's DHAT 3.19 | 14.7 × | 13.0 to 19.7 | 33,499 |
//!
//! Not in the table: hotpath, which measures the functions that the source names, and heapscope, which needs Rust 1.96.
//!
//! # Machines
//! x86-64 and aarch64. On aarch64 it ran under `qemu-aarch64` alone: walks there have the frames that `backtrace` finds, and
//! such a recording opens on x86-64 with its names and scopes.
//!
//! # Implementation
//! On the path of an allocation nothing allocates, locks, panics or formats, and `errno` stays as it was. A thread's
//! own words lie in a thread-local block of the initial-exec model, which takes no call to find, and have no destructor
//! of Rust's. What threads share are atomics in tables that are only ever added to: the rules by which a stack is
//! walked (one word an instruction), the distinct stacks (one slot each), and the live blocks (a word beside each
//! block's address).
//!
//! What it costs per allocation is measured by `cargo bench --bench recorder --features recorder`.

mod environment;
pub mod layout;

#[cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))),
    path = "recorder/absent.rs"
)]
mod linux;

pub use environment::Variable;
pub(crate) use environment::say;
pub use linux::*;
