//! Probes for tracers outside of the process: an instruction that does nothing, and a note in the program's file that says
//! where it is and where its arguments are.

use super::stacks::Weight;

/// A block was sampled; it stands for the weight's bytes.
#[inline(always)]
pub(super) fn alloc(block: *mut u8, size: usize, weight: Weight) {
    probe::probe!(otel_memory, alloc, block, size, weight.whole_bytes());
}

/// A block that was sampled is about to be freed, or moved.
#[inline(always)]
pub(super) fn free(block: *mut u8) {
    probe::probe!(otel_memory, free, block);
}
