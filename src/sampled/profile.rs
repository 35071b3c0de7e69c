//! Reading the samples.

use std::collections::HashMap;
use std::ops::{Add, Sub};

use super::stacks::Sum;
use super::{every_bytes, pointers, stacks, unsampled};
use crate::Stage;
use crate::stage::Scope;

/// An unbiased estimate from samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Samples it rests on.
    pub samples: u64,
    /// Blocks.
    pub blocks: f64,
    /// Bytes.
    pub bytes: f64,
    /// The variance of [`blocks`](Estimate::blocks).
    pub blocks_variance: f64,
    /// The variance of [`bytes`](Estimate::bytes).
    pub bytes_variance: f64,
}

impl Estimate {
    /// The standard error of [`blocks`](Estimate::blocks): two in three estimates are off by less.
    pub fn blocks_error(&self) -> f64 {
        self.blocks_variance.max(0.0).sqrt()
    }

    /// The standard error of [`bytes`](Estimate::bytes): two in three estimates are off by less.
    pub fn bytes_error(&self) -> f64 {
        self.bytes_variance.max(0.0).sqrt()
    }
}

impl From<Sum> for Estimate {
    fn from(sum: Sum) -> Estimate {
        let Sum { samples, blocks, bytes, blocks_variance, bytes_variance } = sum;
        Estimate { samples, blocks, bytes, blocks_variance, bytes_variance }
    }
}

impl Add for Estimate {
    type Output = Estimate;

    /// Samples are independent, so variances add.
    fn add(self, other: Estimate) -> Estimate {
        Estimate {
            samples: self.samples + other.samples,
            blocks: self.blocks + other.blocks,
            bytes: self.bytes + other.bytes,
            blocks_variance: self.blocks_variance + other.blocks_variance,
            bytes_variance: self.bytes_variance + other.bytes_variance,
        }
    }
}

impl Sub for Estimate {
    type Output = Estimate;

    /// What is left of `self` without the samples of `part`, which are among its own.
    fn sub(self, part: Estimate) -> Estimate {
        let samples = self.samples.saturating_sub(part.samples);
        if samples == 0 {
            // Exactly nothing, not what rounding left of large sums.
            return Estimate::default();
        }
        Estimate {
            samples,
            blocks: self.blocks - part.blocks,
            bytes: self.bytes - part.bytes,
            blocks_variance: self.blocks_variance - part.blocks_variance,
            bytes_variance: self.bytes_variance - part.bytes_variance,
        }
    }
}

impl std::iter::Sum for Estimate {
    fn sum<I: Iterator<Item = Estimate>>(estimates: I) -> Estimate {
        estimates.fold(Estimate::default(), Add::add)
    }
}

/// What was allocated from one stack, for one stage and RPC method.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// The stage and RPC method that were current.
    pub scope: Scope,
    /// Instruction pointers (return addresses), innermost first; empty for stacks beyond [`STACKS`](super::STACKS).
    pub frames: Vec<usize>,
    /// The outer frames were cut.
    pub truncated: bool,
    /// Everything allocated.
    pub allocated: Estimate,
    /// What of it is live. In a difference of two profiles: what of the allocations between them.
    pub live: Estimate,
    index: u32,
}

/// All samples so far, or those between two moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// One a stack.
    pub stacks: Vec<Stack>,
    /// Bytes between samples, on average; 0 where no [`SampledAlloc`](super::SampledAlloc) is installed.
    pub every_bytes: u64,
    /// Samples whose stack found no row of its own; their bytes are in the row without frames.
    pub overflowed: u64,
    /// Samples missing from the live estimate, because the table of live samples had no room for them.
    pub untracked: u64,
}

impl Profile {
    /// Reads the samples taken so far. What that allocates is charged to [`Stage::Instrument`] and not sampled.
    pub fn read() -> Profile {
        let _guard = Stage::Instrument.enter();
        unsampled(|| Profile {
            stacks: stacks::rows()
                .into_iter()
                .map(|row| Stack {
                    scope: row.scope,
                    frames: row.frames,
                    truncated: row.truncated,
                    allocated: row.allocated.into(),
                    live: Estimate::from(row.allocated) - row.freed.into(),
                    index: row.index,
                })
                .collect(),
            every_bytes: every_bytes().unwrap_or(0),
            overflowed: stacks::overflowed(),
            untracked: pointers::untracked(),
        })
    }

    /// Everything allocated, over all stacks.
    pub fn allocated(&self) -> Estimate {
        self.stacks.iter().map(|stack| stack.allocated).sum()
    }

    /// Everything live, over all stacks.
    pub fn live(&self) -> Estimate {
        self.stacks.iter().map(|stack| stack.live).sum()
    }

    /// What was sampled since `earlier`. Live blocks are subtracted too, so a stack that shrank counts less than none.
    pub fn since(mut self, earlier: &Profile) -> Profile {
        let _guard = Stage::Instrument.enter();
        let before: HashMap<u32, &Stack> = earlier.stacks.iter().map(|stack| (stack.index, stack)).collect();
        for stack in &mut self.stacks {
            if let Some(before) = before.get(&stack.index) {
                stack.allocated = stack.allocated - before.allocated;
                stack.live = Estimate {
                    samples: stack.live.samples.abs_diff(before.live.samples),
                    blocks: stack.live.blocks - before.live.blocks,
                    bytes: stack.live.bytes - before.live.bytes,
                    blocks_variance: stack.live.blocks_variance + before.live.blocks_variance,
                    bytes_variance: stack.live.bytes_variance + before.live.bytes_variance,
                };
            }
        }
        self.stacks.retain(|stack| stack.allocated.samples > 0 || stack.live.blocks != 0.0);
        self.overflowed = self.overflowed.saturating_sub(earlier.overflowed);
        self.untracked = self.untracked.saturating_sub(earlier.untracked);
        self
    }
}
