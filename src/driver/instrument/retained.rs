//! `retained`: tracking-allocator, for what stays live, whose it is, and who frees it.

use tracking_allocator::{AllocationRegistry, Allocator};

use super::Options;
use super::inner::{INNER, Inner};
use crate::driver::retained::Ledger;
use crate::record::{Instrument, Measurement};

/// The global allocator of this build.
pub type Global = Allocator<Inner>;
/// The one instance a binary installs.
pub const GLOBAL: Global = Allocator::from_allocator(INNER);
/// What this build measures.
pub const INSTRUMENT: Instrument = Instrument::Retained;

/// Called first thing in `main`: blocks from before are unknown to the ledger.
pub fn start() {
    Ledger::install();
    AllocationRegistry::enable_tracking();
}

/// The measured part: a ledger of every live block, kept by the global tracker.
#[derive(Debug)]
pub struct Window {
    ledger: &'static Ledger,
}

impl Window {
    /// Opens the measured part.
    pub fn begin(_options: &Options) -> Window {
        let ledger = Ledger::install();
        ledger.forget_frees();
        Window { ledger }
    }

    /// Called after each message of the measured part.
    pub fn sample(&mut self, _messages: u64) {}

    /// Closes the measured part.
    pub fn end(self, measurement: &mut Measurement) {
        AllocationRegistry::disable_tracking();
        measurement.retained = self.ledger.read();
    }
}
