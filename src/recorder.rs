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
//! What the study's unary server pays while a tool sees all it allocates, 2,000 calls after a warm-up: CPU time as a multiple
//! of the same server alone in the same round, median and interval of 15 rounds on a quiet machine with two cores, and the
//! blocks that each saw, of the whole process where nothing else is said. `cargo xtask beside --runs 15` prints it:
//!
//! | tool | CPU | interval | blocks |
//! |---|---:|---:|---:|
//! | counters, no stacks | 1.00 × | 0.96 to 1.03 | 92,340, without what came after the calls |
//! | `Alloc` in the program, off | 0.98 × | 0.92 to 1.06 | – |
//! | the same, sampling | 0.99 × | 0.98 to 1.03 | – |
//! | the same, every stack | 1.15 × | 1.08 to 1.17 | 103,119 |
//! | recorder, preloaded | 1.15 × | 1.12 to 1.20 | 103,137 |
//! | heaptrack 1.4 | 1.45 × | 1.39 to 1.49 | 103,140 |
//! | dhat 0.3 | 3.28 × | 3.09 to 3.42 | 82,003, of the calls alone |
//! | Valgrind's DHAT 3.19 | 15.1 × | 14.2 to 16.1 | 103,139 |
//! | heapscope 0.3, stacks of at most 64 frames | 1.34 × | 1.24 to 1.37 | 103,115 |
//! | hotpath 0.30, no stacks | 1.01 × | 0.92 to 1.05 | 103,114 |
//!
//! # Machines
//! x86-64 and aarch64. On aarch64 it ran under `qemu-aarch64` alone: `tests/recorder.rs` and `tests/assert_recorded.rs` pass,
//! walks have the frames that `backtrace` finds, and such a recording opens on x86-64 with its names and scopes.
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
