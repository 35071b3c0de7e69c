//! Where CPU time went.

use serde::{Deserialize, Serialize};

use crate::Side;

/// Where one side's CPU time went. Files are relative to the run's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CpuProfile {
    /// The side.
    pub side: Side,
    /// Samples taken.
    pub samples: u64,
    /// Share of samples in malloc, free and what they call, 0 to 1.
    pub allocator_share: f64,
    /// Share of samples in memcpy, memmove and memset outside the allocator, 0 to 1.
    pub copy_share: f64,
    /// Share of samples in system calls outside the allocator, 0 to 1. A signal lands on the way back from the kernel,
    /// so these are the samples whose innermost function wraps a system call; page faults and interrupts are not among
    /// them, and [`Usage::system_share`](super::Usage::system_share) of the same window says what they add.
    pub kernel_share: f64,
    /// Folded stacks.
    pub folded: String,
}

impl CpuProfile {
    /// Share of samples in everything else, 0 to 1.
    pub fn own_share(&self) -> f64 {
        (1.0 - self.allocator_share - self.copy_share - self.kernel_share).max(0.0)
    }
}
