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
//! of the same server alone in the same round, median and interval of 9 rounds on a quiet machine with two cores, and the
//! blocks that each saw, of the whole process where nothing else is said. `cargo xtask beside` prints it:
//!
//! | tool | CPU | interval | blocks |
//! |---|---:|---:|---:|
//! | counters, no stacks | 1.00 × | 0.92 to 1.12 | 92,339, without what came after the calls |
//! | recorder, preloaded | 1.25 × | 1.12 to 1.96 | 103,136 |
//! | heaptrack 1.4 | 2.01 × | 1.64 to 2.76 | 103,137 |
//! | dhat 0.3 | 6.00 × | 5.59 to 6.60 | 82,001, of the calls alone |
//! | Valgrind's DHAT 3.19 | 30.0 × | 24.1 to 44.3 | 103,144 |
//! | heapscope 0.3, stacks of at most 64 frames | 1.62 × | 1.13 to 2.09 | 103,116 |
//! | hotpath 0.30, no stacks | 1.00 × | 0.93 to 1.50 | 103,115 |
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
