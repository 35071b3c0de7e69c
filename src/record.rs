//! The versioned JSON between processes and on disk: `run.json` is the source everything else is rendered from.
//!
//! The server and the client each print one [`Measurement`] a line; the command gathers them into a [`Run`]. Counts are
//! in blocks and bytes, times in the unit their name ends with.

mod counts;
mod cpu;
mod instrument;
mod measurement;
mod retained;
mod run;
mod stacks;

pub use counts::{CountRow, Counts, HeapSample, SizeBucket};
pub use cpu::CpuProfile;
pub use instrument::Instrument;
pub use measurement::{Latency, Listening, Measurement, Usage};
pub use retained::{FreedBy, Retained};
pub use run::{BadRun, Environment, Limit, Run, StepRecord};
pub use stacks::{StackStage, Stacks};

/// The version of the format this build writes and the newest it reads.
pub const SCHEMA: u32 = 1;
