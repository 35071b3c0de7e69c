//! `stacks`: dhat, for call sites and flame graphs. Never to be timed: dhat takes a lock and a backtrace per block.

use super::Options;
use crate::record::Measurement;

pub(super) const AVAILABLE: bool = true;
pub(super) type Alloc = dhat::Alloc;
pub(super) const ALLOC: Alloc = dhat::Alloc;

/// Frames kept of each backtrace: deep enough for a handler called through tonic, hyper and tokio.
const FRAMES: usize = 64;

/// The measured part: a dhat profiler. Dropping it writes the file.
#[derive(Debug)]
pub(super) struct Window {
    profiler: dhat::Profiler,
}

impl Window {
    /// Opens the measured part.
    pub(super) fn begin(options: &Options) -> Window {
        let builder = dhat::Profiler::builder().trim_backtraces(Some(FRAMES));
        let profiler = match &options.stacks_file {
            Some(file) => builder.file_name(file).build(),
            None => builder.build(),
        };
        Window { profiler }
    }

    /// Closes the measured part and writes dhat's JSON.
    pub(super) fn end(self, _measurement: &mut Measurement) {
        drop(self.profiler);
    }
}
