//! Where CPU time went.

use serde::{Deserialize, Serialize};

use crate::Side;

/// What the sampling profiler saw of one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuProfile {
    /// The side.
    pub side: Side,
    /// The file of folded stacks with whole names, as the profiler wrote it; relative to the run's folder.
    pub raw: String,
}
