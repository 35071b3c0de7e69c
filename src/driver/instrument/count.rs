//! `count`: exact counts and bytes per stage and RPC method.

use super::Options;
use crate::record::{Counts, HeapSample, Measurement};
use crate::{Snapshot, Stage, Tally};

/// Points of the heap-over-messages curve.
const HEAP_SAMPLES: u64 = 128;

/// The measured part between two snapshots. Its memory is allocated before it opens.
#[derive(Debug)]
pub(super) struct Window {
    before: Snapshot,
    after: Snapshot,
    setup: Tally,
    heap: Vec<HeapSample>,
    every: u64,
}

impl Window {
    /// Opens the measured part.
    pub(super) fn begin(options: &Options) -> Box<Window> {
        let _guard = Stage::Instrument.enter();
        let every = (options.messages / HEAP_SAMPLES).max(1);
        let mut window = Box::new(Window {
            before: Snapshot::empty(),
            after: Snapshot::empty(),
            setup: Tally::default(),
            heap: Vec::with_capacity((options.messages / every) as usize + 2),
            every,
        });
        window.heap.push(HeapSample { messages: 0, live_bytes: Snapshot::live_bytes() });
        Snapshot::reset_peak();
        window.before.read();
        window.setup = window.before.total_without_instrument();
        window
    }

    /// Called after each message of the measured part.
    pub(super) fn sample(&mut self, messages: u64) {
        if messages.is_multiple_of(self.every) && self.heap.len() < self.heap.capacity() {
            self.heap.push(HeapSample { messages, live_bytes: Snapshot::live_bytes() });
        }
    }

    /// Closes the measured part.
    pub(super) fn end(mut self: Box<Self>, measurement: &mut Measurement) {
        self.after.read();
        let (peak_bytes, peak_slack_bytes) = Snapshot::peak_bytes();
        let _guard = Stage::Instrument.enter();
        let counted = self.after - self.before;
        measurement.counts = Some(Counts {
            peak_bytes,
            peak_slack_bytes,
            heap: std::mem::take(&mut self.heap),
            ..Counts::from(&counted)
        });
        measurement.setup = Some(self.setup);
    }
}
