//! The versioned JSON between processes and on disk: `run.json` is the source everything else is rendered from.
//!
//! The server and the client each print one [`Measurement`] a line; xtask gathers them into a [`Run`]. Counts are
//! in blocks and bytes, times in the unit their name ends with.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::subject::ladder::{StepSet, Tuning};
use crate::subject::scenario::{Scenario, Workload};
use crate::{Side, Snapshot, Stage, Tally};

/// The version of the format this build writes and the newest it reads.
pub const SCHEMA: u32 = 1;

/// What a build measures. Figures of different instruments are never mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Instrument {
    /// CPU seconds, throughput, latency: a build with the plain allocator.
    Time,
    /// Exact counts and bytes per stage: [`CountingAlloc`](crate::CountingAlloc).
    Count,
    /// Call sites: dhat.
    Stacks,
    /// Live bytes per allocating stage: tracking-allocator.
    Retained,
    /// Where CPU time goes: a sampling profiler inside the process, beside the plain allocator.
    Cpu,
    /// What one allocation in so many bytes costs: the sampler for production, installed and not read.
    Sampled,
    /// Instructions executed: callgrind on a `time` build.
    Instructions,
}

impl Instrument {
    /// Every instrument.
    pub const ALL: [Instrument; 7] = [
        Instrument::Time,
        Instrument::Count,
        Instrument::Stacks,
        Instrument::Retained,
        Instrument::Cpu,
        Instrument::Sampled,
        Instrument::Instructions,
    ];

    /// The instrument's one name.
    pub const fn name(self) -> &'static str {
        match self {
            Instrument::Time => "time",
            Instrument::Count => "count",
            Instrument::Stacks => "stacks",
            Instrument::Retained => "retained",
            Instrument::Cpu => "cpu",
            Instrument::Sampled => "sampled",
            Instrument::Instructions => "instructions",
        }
    }
}

/// What a server process prints before it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// `host:port`, or a Unix socket's path.
    pub address: String,
}

/// All cases at one revision on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The format's version.
    pub schema: u32,
    /// The run's folder name, `<scenario>-<timestamp>`.
    pub id: String,
    /// When it began, RFC 3339, UTC.
    pub created: String,
    /// The scenario; `None` for a run of somebody else's program.
    pub scenario: Option<Scenario>,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What was measured of one step set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step's name, or the set's where it is not one climbed in order.
    pub name: String,
    /// Which steps are on.
    pub set: StepSet,
    /// What that amounts to.
    pub tuning: Tuning,
    /// One a side, instrument and round.
    pub measurements: Vec<Measurement>,
    /// What dhat saw, one a side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<Stacks>,
    /// What the sampling profiler saw, one a side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu: Vec<CpuProfile>,
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

/// The metrics of one case on one side: what a `server` or `client` process prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The side.
    pub side: Side,
    /// What the build measures.
    pub instrument: Instrument,
    /// Which repetition this is, from 0.
    pub round: u32,
    /// Messages (unary: calls) in the measured part.
    pub messages: u64,
    /// Payload bytes of those messages as this side counted them; 0 where nobody did.
    pub payload_bytes: u64,
    /// Wall time of the measured part.
    pub wall_ns: u64,
    /// What the operating system charged this process for it.
    pub usage: Usage,
    /// Exact counts (`count` builds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// Counts from the start of the process to the first message: connection set-up, its own row (`count` builds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Tally>,
    /// Live memory (`retained` builds).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retained: Vec<Retained>,
    /// Latency percentiles of unary calls as the client saw them (`time` builds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Instructions executed in the measured part (`instructions`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
}

impl Measurement {
    /// CPU seconds, user and system, per 10⁹ payload bytes.
    pub fn cpu_seconds_per_gb(&self) -> f64 {
        self.usage.cpu_ns() as f64 / self.payload_bytes as f64
    }

    /// CPU microseconds, user and system, per message.
    pub fn cpu_us_per_message(&self) -> f64 {
        self.usage.cpu_ns() as f64 / 1e3 / self.messages as f64
    }

    /// Payload gigabytes (10⁹ bytes) per second of wall time.
    pub fn throughput_gb_per_s(&self) -> f64 {
        self.payload_bytes as f64 / self.wall_ns as f64
    }

    /// Messages per second of wall time.
    pub fn messages_per_s(&self) -> f64 {
        self.messages as f64 * 1e9 / self.wall_ns as f64
    }

    /// Blocks allocated per message, without what the instrument allocates.
    pub fn blocks_per_message(&self) -> Option<f64> {
        Some(self.counts.as_ref()?.subject().blocks as f64 / self.messages as f64)
    }

    /// Bytes allocated per message, without what the instrument allocates.
    pub fn bytes_per_message(&self) -> Option<f64> {
        Some(self.counts.as_ref()?.subject().bytes as f64 / self.messages as f64)
    }

    /// Bytes allocated per payload byte, without what the instrument allocates; `None` where the payload is unknown.
    pub fn amplification(&self) -> Option<f64> {
        if self.payload_bytes == 0 {
            return None;
        }
        Some(self.counts.as_ref()?.subject().bytes as f64 / self.payload_bytes as f64)
    }
}

/// What `getrusage` charged a process for the measured part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// User CPU time, microseconds.
    pub user_us: u64,
    /// System CPU time, microseconds.
    pub system_us: u64,
    /// Peak resident set of the whole process, bytes.
    pub rss_bytes_max: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
}

impl Usage {
    /// User and system CPU time in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        (self.user_us + self.system_us) * 1000
    }

    /// The kernel's share of the CPU time, 0 to 1; `None` where no time was charged.
    pub fn system_share(&self) -> Option<f64> {
        let all = self.user_us + self.system_us;
        (all > 0).then(|| self.system_us as f64 / all as f64)
    }
}

/// Exact counts of the measured part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// One a stage and RPC method that allocated or freed.
    pub rows: Vec<CountRow>,
    /// The sum of the rows.
    pub total: Tally,
    /// Blocks by log2 size.
    pub sizes: Vec<SizeBucket>,
    /// The most live bytes during the measured part.
    pub peak_bytes: u64,
    /// By how many bytes `peak_bytes` may be off either way: threads report in steps.
    pub peak_slack_bytes: u64,
    /// Live bytes as messages went by.
    pub heap: Vec<HeapSample>,
}

impl Counts {
    /// What one stage allocated and freed, over all methods.
    pub fn stage(&self, stage: Stage) -> Tally {
        self.rows.iter().filter(|row| row.stage == stage).map(|row| row.tally).sum()
    }

    /// The total without the instrument's own row.
    pub fn subject(&self) -> Tally {
        self.total - self.stage(Stage::Instrument)
    }
}

impl From<&Snapshot> for Counts {
    fn from(snapshot: &Snapshot) -> Counts {
        let rows = snapshot.rows().map(|row| CountRow {
            rpc: row.method.path.to_owned(),
            side: row.method.side,
            stage: row.stage,
            tally: row.tally,
        });
        let sizes = snapshot.sizes().iter().enumerate().filter(|(_, blocks)| **blocks > 0);
        Counts {
            rows: rows.collect(),
            total: snapshot.total(),
            sizes: sizes
                .map(|(bucket, blocks)| SizeBucket {
                    bytes_min: bucket.checked_sub(1).map_or(0, |power| 1 << power),
                    blocks: *blocks,
                })
                .collect(),
            ..Counts::default()
        }
    }
}

/// One row of exact counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountRow {
    /// The RPC method's path; empty for none.
    pub rpc: String,
    /// The side the method was registered for; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// The stage.
    pub stage: Stage,
    /// The counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One bar of the size histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeBucket {
    /// The smallest size in the bucket, bytes; the largest is twice that, less one.
    pub bytes_min: u64,
    /// Blocks allocated.
    pub blocks: u64,
}

/// Live bytes after a number of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapSample {
    /// Messages since the measured part began.
    pub messages: u64,
    /// Bytes live in the process.
    pub live_bytes: u64,
}

/// What is live of one allocating stage, and who frees its blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// The stage that allocated.
    pub stage: Stage,
    /// The RPC method it allocated for; empty for none.
    pub rpc: String,
    /// Blocks live at the end of the measured part.
    pub curr_blocks: u64,
    /// Bytes live at the end of the measured part.
    pub curr_bytes: u64,
    /// Blocks freed during the measured part, by the stage that freed them.
    pub freed_by: Vec<FreedBy>,
}

/// Blocks of one stage freed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreedBy {
    /// The stage that freed.
    pub stage: Stage,
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Latency percentiles, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Slowest.
    pub max_ns: u64,
}

/// What dhat saw of one side during the measured part. Files are relative to the run's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacks {
    /// The side.
    pub side: Side,
    /// Messages in the measured part.
    pub messages: u64,
    /// Payload bytes of those messages.
    pub payload_bytes: u64,
    /// Blocks and bytes by the stage the stacks say.
    pub stages: Vec<StackStage>,
    /// Blocks allocated.
    pub total_blocks: u64,
    /// Bytes allocated.
    pub total_bytes: u64,
    /// Bytes live at the global peak.
    pub peak_bytes: u64,
    /// dhat's own JSON.
    pub dhat: String,
}

/// One stage's share of what dhat saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackStage {
    /// The stage.
    pub stage: Stage,
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
}

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
    /// them, and [`Usage::system_share`] of the same window says what they add.
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

impl Run {
    /// Reads a run's JSON.
    ///
    /// # Errors
    /// [`BadRun::Newer`] for a schema newer than [`SCHEMA`], [`BadRun::Json`] for anything that is not a run.
    pub fn from_json(text: &str) -> Result<Run, BadRun> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_str(text)?;
        if schema > SCHEMA {
            return Err(BadRun::Newer { schema });
        }
        Ok(serde_json::from_str(text)?)
    }
}

/// Why a run cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadRun {
    /// Written by a newer version.
    #[error("the run has schema {schema}; this version reads up to {SCHEMA}")]
    Newer {
        /// The version the file names.
        schema: u32,
    },
    /// Not a run.
    #[error("not a run: {0}")]
    Json(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_between_flag_json_and_name() {
        for instrument in Instrument::ALL {
            let value = instrument.to_possible_value().expect("no variant is skipped");
            assert_eq!(value.get_name(), instrument.name());
            assert_eq!(serde_json::to_value(instrument).expect("serialises"), instrument.name());
        }
        for stage in Stage::ALL {
            assert_eq!(stage.to_possible_value().expect("no variant is skipped").get_name(), stage.name());
            assert_eq!(serde_json::to_value(stage).expect("serialises"), stage.name());
        }
        for side in Side::ALL {
            assert_eq!(serde_json::to_value(side).expect("serialises"), side.name());
        }
    }

    #[test]
    fn a_newer_schema_is_refused_by_its_number() {
        let error = Run::from_json(r#"{"schema": 99, "steps": "whatever"}"#).expect_err("too new");
        assert!(matches!(error, BadRun::Newer { schema: 99 }), "{error}");
        assert!(matches!(Run::from_json("{"), Err(BadRun::Json(_))));
    }
}
