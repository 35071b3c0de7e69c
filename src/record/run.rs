//! A run: every case at one revision on one machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CpuProfile, Instrument, Measurement, Stacks, Subject, Timing, Workload};
use crate::Side;

/// All cases at one revision on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The format's version.
    pub schema: u32,
    /// The run's folder name, `<subject>-<timestamp>`.
    pub id: String,
    /// When it began, RFC 3339, UTC.
    pub created: String,
    /// What it is a run of.
    pub subject: Subject,
    /// The traffic of the `time` and `count` cases.
    pub workload: Workload,
    /// The traffic of the `stacks` cases, which dhat slows down.
    pub stacks_workload: Option<Workload>,
    /// Where and with what it was measured.
    pub environment: Environment,
    /// The same of the host that the server ran on, where that was another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_environment: Option<Environment>,
    /// Ended before all cases were measured.
    pub partial: bool,
    /// The seed that shuffled the timed rounds.
    pub seed: u64,
    /// One record a step, in ladder order.
    pub steps: Vec<StepRecord>,
    /// Peers measured in the same rounds: raw TCP, hyper, a file server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
}

/// Where and with what a run was measured. The cargo features of a build are those of its record's instrument and of
/// the inner allocator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Git revision, short; empty outside a repository.
    pub revision: String,
    /// Uncommitted changes were present.
    pub dirty: bool,
    /// `rustc --version`.
    pub rustc: String,
    /// Cargo profile.
    pub profile: String,
    /// The inner allocator.
    pub allocator: String,
    /// CPU model.
    pub cpu: String,
    /// Logical cores.
    pub cores: u32,
    /// Kernel release.
    pub kernel: String,
    /// The command line.
    pub command: String,
    /// How times were taken, where any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
}

/// What was measured of one step set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step's name, or the set's where it is not one climbed in order.
    pub name: String,
    /// Which changes are on, as they were asked for: `up-to=rope`.
    pub set: String,
    /// What that amounts to, by the name of each setting.
    pub settings: BTreeMap<String, String>,
    /// The step in the words of whoever described it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The earlier step that it changes, by name; the one before it if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why it was not built, or not measured to the end, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// One a side, instrument and round.
    pub measurements: Vec<Measurement>,
    /// What dhat saw, one a side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<Stacks>,
    /// What the sampling profiler saw, one a side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu: Vec<CpuProfile>,
}

impl Run {
    /// The step that one changes and is compared with, both by their index: the one that it names, else the one before.
    pub fn before(&self, step: usize) -> Option<usize> {
        let earlier = self.steps.get(..step)?;
        let from = self.steps.get(step)?.from.as_ref();
        let named = from.and_then(|from| earlier.iter().rposition(|earlier| earlier.name == *from));
        named.or_else(|| step.checked_sub(1))
    }

    /// The name of the step that one changes, where that is not the one before it.
    pub fn elsewhere(&self, step: usize) -> Option<&str> {
        let before = self.before(step).filter(|before| before + 1 < step)?;
        Some(&self.steps[before].name)
    }
}

impl StepRecord {
    /// The measurements of one side and instrument, in round order.
    pub fn of(&self, side: Side, instrument: Instrument) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter().filter(move |m| m.side == side && m.instrument == instrument)
    }

    /// The exact counts of one side, from the first `count` round.
    pub fn counts(&self, side: Side) -> Option<&Measurement> {
        self.of(side, Instrument::Count).next()
    }

    /// What dhat saw on one side.
    pub fn stacks(&self, side: Side) -> Option<&Stacks> {
        self.stacks.iter().find(|stacks| stacks.side == side)
    }
}

/// A peer without gRPC, measured in the same rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name: `raw-tokio`, `hyper`, `nginx`, …
    pub name: String,
    /// What it is, in words.
    pub words: String,
    /// CPU seconds per 10⁹ payload bytes of its server process, one a round.
    pub server_cpu_seconds_per_gb: Vec<f64>,
    /// Blocks per 64 KiB message, where its server counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks_per_message: Option<f64>,
}
