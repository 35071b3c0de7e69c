//! `sampled`: the sampler that a service may run in production, so that its own cost can be measured (`cargo xtask
//! cost`). What it samples is not read: its figures are estimates, and `count` has the exact ones.

use super::Options;
use super::inner::{INNER, Inner};
use crate::record::{Instrument, Measurement};
use crate::sampled::SampledAlloc;

/// The global allocator of this build.
pub type Global = SampledAlloc<Inner>;
/// The one instance a binary installs.
pub const GLOBAL: Global = SampledAlloc::wrapping(INNER);
/// What this build measures.
pub const INSTRUMENT: Instrument = Instrument::Sampled;

/// Called first thing in `main`: nothing to start.
pub fn start() {}

/// The measured part: the sampler runs all the time.
#[derive(Debug)]
pub struct Window;

impl Window {
    /// Opens the measured part.
    pub fn begin(_options: &Options) -> Window {
        Window
    }

    /// Called after each message of the measured part.
    pub fn sample(&mut self, _messages: u64) {}

    /// Closes the measured part.
    pub fn end(self, _measurement: &mut Measurement) {}
}
