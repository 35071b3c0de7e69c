//! Reading the samples.

use crate::method;
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
    /// Everything freed, wherever it was freed: of a difference, blocks allocated before it too.
    pub freed: Estimate,
    /// What is live. Of a difference: by how much that grew, less than nothing where more was freed than allocated.
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
    /// Samples whose stack found no row of its own; their bytes are in their stage's and method's row without frames.
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
                    scope: shown(row.scope),
                    frames: row.frames,
                    truncated: row.truncated,
                    allocated: row.allocated.into(),
                    freed: row.freed.into(),
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

    /// What was allocated, freed and gained since `earlier`: a stack that shrank counts less than none live.
    ///
    /// What is live grew by what was allocated less what was freed, so only blocks that came or went in between make it
    /// uncertain, and not those that stayed. Blocks that came and went count twice in the variance of the difference,
    /// as samples do not remember when they were taken: it is at most what is said, and at most as much as that of what
    /// was live before and after.
    pub fn since(mut self, earlier: &Profile) -> Profile {
        let _guard = Stage::Instrument.enter();
        let before: HashMap<u32, &Stack> = earlier.stacks.iter().map(|stack| (stack.index, stack)).collect();
        for stack in &mut self.stacks {
            if let Some(before) = before.get(&stack.index) {
                stack.allocated = stack.allocated - before.allocated;
                stack.freed = stack.freed - before.freed;
                stack.live = growth(stack, before.live);
            }
        }
        self.stacks.retain(|stack| stack.allocated.samples > 0 || stack.freed.samples > 0);
        self.overflowed = self.overflowed.saturating_sub(earlier.overflowed);
        self.untracked = self.untracked.saturating_sub(earlier.untracked);
        self
    }
}

/// By how much the live memory of a stack grew, of which this was allocated and freed in between.
fn growth(stack: &Stack, before: Estimate) -> Estimate {
    let Stack { allocated, freed, live: after, .. } = stack;
    // Nothing that is live afterwards came unless it was allocated, and nothing went unless it was live before.
    let uncertain = |of: fn(&Estimate) -> f64| of(allocated).min(of(after)) + of(freed).min(of(&before));
    Estimate {
        samples: allocated.samples.min(after.samples) + freed.samples.min(before.samples),
        blocks: allocated.blocks - freed.blocks,
        bytes: allocated.bytes - freed.bytes,
        blocks_variance: uncertain(|estimate| estimate.blocks_variance),
        bytes_variance: uncertain(|estimate| estimate.bytes_variance),
    }
}

/// What is live by stage and RPC method: the sums of a [`Profile`], without a copy of its stacks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// One a stage of an RPC method that was sampled.
    pub rows: Vec<(Scope, Estimate)>,
    /// As [`Profile::every_bytes`].
    pub every_bytes: u64,
    /// As [`Profile::overflowed`].
    pub overflowed: u64,
    /// As [`Profile::untracked`].
    pub untracked: u64,
}

impl Live {
    /// Reads the sums. What that allocates is charged to [`Stage::Instrument`] and not sampled.
    pub fn read() -> Live {
        let _guard = Stage::Instrument.enter();
        unsampled(|| {
            let mut rows: Vec<(Scope, Estimate)> = Vec::new();
            for (scope, (allocated, freed)) in stacks::sums_by_row() {
                let scope = shown(scope);
                let live = Estimate::from(allocated) - freed.into();
                match rows.iter_mut().find(|(other, _)| *other == scope) {
                    Some((_, sum)) => *sum = *sum + live,
                    None => rows.push((scope, live)),
                }
            }
            Live {
                rows,
                every_bytes: every_bytes().unwrap_or(0),
                overflowed: stacks::overflowed(),
                untracked: pointers::untracked(),
            }
        })
    }
}

/// The scope under which a scope's samples are shown: a call that was not answered yet has a row only lent.
pub(super) fn shown(scope: Scope) -> Scope {
    Scope::new(method::shown(scope.method()), scope.stage())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(samples: u64, bytes: f64, variance: f64) -> Estimate {
        Estimate { samples, blocks: samples as f64, bytes, blocks_variance: variance, bytes_variance: variance }
    }

    fn profile(allocated: Estimate, freed: Estimate) -> Profile {
        let stack = Stack {
            scope: Scope::NONE,
            frames: Vec::new(),
            truncated: false,
            allocated,
            freed,
            live: allocated - freed,
            index: 0,
        };
        Profile { stacks: vec![stack], every_bytes: 1, ..Profile::default() }
    }

    #[test]
    fn what_stayed_makes_a_difference_no_less_certain() {
        let before = profile(estimate(1000, 1e6, 1e6), Estimate::default());
        // Ten samples came, four of the old ones went.
        let after = profile(estimate(1010, 1.01e6, 1.01e6), estimate(4, 4e3, 4e3));
        let live = after.since(&before).live();
        assert_eq!((live.samples, live.bytes), (14, 6e3));
        assert!((live.bytes_variance - 14e3).abs() < 1e-3, "{live:?}");

        // Everything that was live went, and ten times as much came and went: only what is left is uncertain.
        let gone = profile(estimate(11_000, 11e6, 11e6), estimate(10_999, 10.999e6, 10.999e6));
        let live = gone.since(&before).live();
        assert!((live.bytes + 999e3).abs() < 1e-3, "{live:?}");
        assert!((live.bytes_variance - (1e3 + 1e6)).abs() < 1e-3, "{live:?}");

        // Nothing happened: nothing is said, with certainty.
        assert_eq!(before.clone().since(&before).stacks, []);
    }
}
