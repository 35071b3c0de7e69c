//! `sampled`: the sampler that a service may run in production, so that its own cost can be measured (`cargo xtask
//! cost`). What it samples is not read: its figures are estimates, and `count` has the exact ones.

use super::inner::{INNER, Inner};
use crate::sampled::SampledAlloc;

pub(super) const AVAILABLE: bool = true;
pub(super) type Alloc = SampledAlloc<Inner>;
pub(super) const ALLOC: Alloc = SampledAlloc::wrapping(INNER);
