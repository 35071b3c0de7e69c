//! `time`: the plain allocator, so that nothing but the subject costs CPU.

use super::Options;
use super::inner::{INNER, Inner};
use crate::record::{Instrument, Measurement};

/// The global allocator of this build.
pub type Global = Inner;
/// The one instance a binary installs.
pub const GLOBAL: Global = INNER;
/// What this build measures.
pub const INSTRUMENT: Instrument = Instrument::Time;

/// Called first thing in `main`: nothing to start.
pub fn start() {}

/// The measured part: nothing to do beside the clock and `getrusage`, which the meter reads in every build.
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
