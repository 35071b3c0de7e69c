//! `stacks`: dhat, for call sites and flame graphs. Never to be timed: dhat takes a lock and a backtrace per block.

use super::Options;
use crate::record::{Instrument, Measurement};

/// The global allocator of this build. dhat wraps the system's allocator only.
pub type Global = dhat::Alloc;
/// The one instance a binary installs.
pub const GLOBAL: Global = dhat::Alloc;
/// What this build measures.
pub const INSTRUMENT: Instrument = Instrument::Stacks;

/// Frames kept of each backtrace: deep enough for a handler called through tonic, hyper and tokio.
const FRAMES: usize = 64;

/// Called first thing in `main`: nothing to start.
pub fn start() {}

/// The measured part: a dhat profiler. Dropping it writes the file.
#[derive(Debug)]
pub struct Window {
    profiler: dhat::Profiler,
}

impl Window {
    /// Opens the measured part.
    pub fn begin(options: &Options) -> Window {
        let builder = dhat::Profiler::builder().trim_backtraces(Some(FRAMES));
        let profiler = match &options.stacks_file {
            Some(file) => builder.file_name(file).build(),
            None => builder.build(),
        };
        Window { profiler }
    }

    /// Called after each message of the measured part.
    pub fn sample(&mut self, _messages: u64) {}

    /// Closes the measured part and writes dhat's JSON.
    pub fn end(self, _measurement: &mut Measurement) {
        drop(self.profiler);
    }
}
