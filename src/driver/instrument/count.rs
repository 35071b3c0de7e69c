//! `count`: exact counts and bytes per stage and RPC method.

use super::Options;
use super::inner::{INNER, Inner};
use crate::record::{Counts, HeapSample, Instrument, Measurement};
use crate::{CountingAlloc, Snapshot, Stage, Tally};

/// The global allocator of this build.
pub type Global = CountingAlloc<Inner>;
/// The one instance a binary installs.
pub const GLOBAL: Global = CountingAlloc::wrapping(INNER);
/// What this build measures.
pub const INSTRUMENT: Instrument = Instrument::Count;

/// Called first thing in `main`: nothing to start.
pub fn start() {}

/// Points of the heap-over-messages curve.
const HEAP_SAMPLES: u64 = 128;

/// The measured part between two snapshots. Its memory is allocated before it opens.
#[derive(Debug)]
pub struct Window {
    before: Snapshot,
    after: Snapshot,
    setup: Tally,
    heap: Vec<HeapSample>,
    every: u64,
}

impl Window {
    /// Opens the measured part.
    pub fn begin(options: &Options) -> Window {
        let _guard = Stage::Instrument.enter();
        let every = (options.messages / HEAP_SAMPLES).max(1);
        let mut window = Window {
            before: Snapshot::empty(),
            after: Snapshot::empty(),
            setup: Tally::default(),
            heap: Vec::with_capacity((options.messages / every) as usize + 2),
            every,
        };
        window.heap.push(HeapSample { messages: 0, live_bytes: Snapshot::live_bytes() });
        Snapshot::reset_peak();
        window.before.read();
        window.setup = window.before.total_without_instrument();
        window
    }

    /// Called after each message of the measured part.
    pub fn sample(&mut self, messages: u64) {
        if messages.is_multiple_of(self.every) && self.heap.len() < self.heap.capacity() {
            self.heap.push(HeapSample { messages, live_bytes: Snapshot::live_bytes() });
        }
    }

    /// Closes the measured part.
    pub fn end(mut self, measurement: &mut Measurement) {
        self.after.read();
        let (peak_bytes, peak_slack_bytes) = Snapshot::peak_bytes();
        let _guard = Stage::Instrument.enter();
        let counted = self.after - self.before;
        measurement.counts = Some(Counts { peak_bytes, peak_slack_bytes, heap: self.heap, ..Counts::from(&counted) });
        measurement.setup = Some(self.setup);
    }
}
