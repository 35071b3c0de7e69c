//! What a sweep measured: the file it writes.

use alloc_ladder::record::{Environment, Measurement};
use alloc_ladder::subject::ladder::StepSet;
use alloc_ladder::subject::scenario::{Scenario, Workload};
use serde::{Deserialize, Serialize};

/// What a sweep measured: the file it writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sweep {
    pub(crate) schema: u32,
    pub(crate) scenario: Scenario,
    /// The step.
    pub(crate) step: StepSet,
    /// RFC 3339, UTC.
    pub(crate) created: String,
    pub(crate) environment: Environment,
    pub(crate) seed: u64,
    pub(crate) points: Vec<Point>,
}

/// One size and number of streams.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    /// Of a timed case; one that counts has fewer messages.
    pub(crate) workload: Workload,
    /// Both sides of every case.
    pub(crate) measurements: Vec<Measurement>,
    /// The server of a raw TCP copy of the same messages, once a round; none with several streams.
    pub(crate) raw_tokio: Vec<Measurement>,
}
