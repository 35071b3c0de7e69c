//! The versioned JSON between processes and on disk: `run.json` is the source everything else is rendered from.
//!
//! The server and the client each print one [`Measurement`] a line; the command gathers them into a [`Run`]. Counts are
//! in blocks and bytes, times in the unit their name ends with.
//!
//! A record is raw data: what a profiler wrote lies beside it as a file that the record names, and is classified when it
//! is read, so that an old run is read by today's rules. A record knows no ladder: steps and settings are names.

mod calls;
mod counts;
mod cpu;
mod first;
mod instrument;
mod measurement;
mod read;
mod recorded;
mod retained;
mod run;
mod stacks;
mod subject;
mod timing;
mod workload;

pub use calls::CallRow;
pub use counts::{CountRow, Counts, HeapSample, SizeBucket};
pub use cpu::CpuProfile;
pub use instrument::Instrument;
pub use measurement::{Latency, Listening, Measurement, SocketCalls, Usage};
pub use read::BadRun;
pub use recorded::{Moment, Recorded};
pub use retained::{FreedBy, Retained};
pub use run::{Environment, Limit, Run, StepRecord};
pub use stacks::Stacks;
pub use subject::{Shape, Subject};
pub use timing::Timing;
pub use workload::{Compression, Workload};

/// The version of the format this build writes and the newest it reads.
pub const SCHEMA: u32 = 2;
