//! `retained`: tracking-allocator, for what stays live, whose it is, and who frees it.

use tracking_allocator::{AllocationRegistry, Allocator};

use super::Options;
use super::inner::{INNER, Inner};
use crate::driver::retained::Ledger;
use crate::record::Measurement;

pub(super) const AVAILABLE: bool = true;
pub(super) type Alloc = Allocator<Inner>;
pub(super) const ALLOC: Alloc = Allocator::from_allocator(INNER);

/// Called first thing in `main`: blocks from before are unknown to the ledger.
pub(super) fn start() {
    Ledger::install();
    AllocationRegistry::enable_tracking();
}

/// The measured part: a ledger of every live block, kept by the global tracker.
#[derive(Debug)]
pub(super) struct Window {
    ledger: &'static Ledger,
}

impl Window {
    /// Opens the measured part.
    pub(super) fn begin(_options: &Options) -> Window {
        let ledger = Ledger::install();
        ledger.forget_frees();
        Window { ledger }
    }

    /// Closes the measured part.
    pub(super) fn end(self, measurement: &mut Measurement) {
        AllocationRegistry::disable_tracking();
        measurement.retained = self.ledger.read();
    }
}
