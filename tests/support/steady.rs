//! What a stream allocates between its warm-up and its tail.

use std::net::SocketAddr;
use std::sync::Arc;

use alloc_ladder::driver::instrument::Options;
use alloc_ladder::subject::client::Client;
use alloc_ladder::subject::http2::Settings;
use alloc_ladder::subject::ladder::Tuning;
use alloc_ladder::subject::meter::Meter;
use alloc_ladder::subject::scenario::{Scenario, Workload};
use alloc_ladder::subject::serve::{self, Listener};
use alloc_ladder::subject::service::Ladder;
use alloc_ladder::{Side, Snapshot, Tally};

/// Messages of the measured part, so many that a single block, allocated once, is no breach of the limits.
pub(crate) fn measured(chunk: usize) -> usize {
    ((192 << 20) / chunk).clamp(2000, 20_000)
}

/// Messages before the measured part. What h2 may hold unsent is more than 256 of the short ones, and until it was
/// reached once, a sender's pool grows.
pub(crate) fn warmup(chunk: usize) -> usize {
    if chunk < 16_384 { 2048 } else { 256 }
}

/// Parts of the measured messages, each counted by itself.
const PARTS: usize = 20;
/// How many of them may allocate. A machine that stops one side for some milliseconds makes the other use up its window,
/// which cuts a message in two and loses h2's buffer once: that is seen in one part, or in two where the buffer grows
/// back. A program that loses it by itself does so in every part.
const BREACHES: usize = PARTS / 4;

/// Readings of the process's counters: both sides together, so what they are within, each side is within.
pub(crate) struct Steady {
    begin: usize,
    part: usize,
    /// One more than there are parts.
    readings: Vec<Snapshot>,
    read: usize,
}

impl Steady {
    pub(crate) fn of(chunk: usize) -> Steady {
        let readings = (0..=PARTS).map(|_| Snapshot::empty()).collect();
        Steady { begin: warmup(chunk), part: measured(chunk) / PARTS, readings, read: 0 }
    }

    /// Message `index` goes by.
    pub(crate) fn at(&mut self, index: usize) {
        if index == self.begin + self.read * self.part
            && let Some(reading) = self.readings.get_mut(self.read)
        {
            reading.read();
            self.read += 1;
        }
    }

    /// In all parts but [`BREACHES`] nothing is allocated.
    pub(crate) fn nothing_per_message(&self, chunk: usize) -> Result<(), String> {
        assert_eq!(self.read, self.readings.len(), "the stream ended before its last part");
        let parts = self.readings.windows(2).map(|pair| pair[1].clone() - pair[0].clone());
        let breaches: Vec<String> = parts.filter_map(|counted| nothing(&counted, self.part, chunk).err()).collect();
        if breaches.len() <= BREACHES {
            return Ok(());
        }
        Err(format!("{} of {PARTS} parts allocate\n{}", breaches.len(), breaches.join("\n")))
    }
}

/// At most 0.01 blocks a message and 0.001 bytes a byte of payload; what it was otherwise.
fn nothing(counted: &Snapshot, messages: usize, chunk: usize) -> Result<(), String> {
    let Tally { blocks, bytes, .. } = counted.total_without_instrument();
    if blocks <= messages as u64 / 100 && bytes <= (messages * chunk / 1000) as u64 {
        return Ok(());
    }
    Err(format!("{messages} messages of {chunk} bytes: {blocks} blocks, {bytes} bytes\n{counted}"))
}

/// What a whole case allocates in one process, connecting and all, with so many messages.
fn case(scenario: Scenario, tuning: Tuning, messages: usize) -> Snapshot {
    let workload = Workload { messages: messages as u64, warmup: 256, ..Workload::default() };
    let before = Snapshot::of_process();
    let server_meter = Meter::new(Side::Server, &workload, 0, Options::default()).0;
    let ladder = Ladder::new(tuning, Arc::new(server_meter), workload.retain);
    let listener = Listener::bind(&tuning, SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.address().expect("an address");
    let settings = Settings::of(&tuning, &workload);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || serve::run(tuning, settings, ladder, listener, stopped));
    let meter = Arc::new(Meter::new(Side::Client, &workload, 0, Options::default()).0);
    let client = Client { tuning, workload, meter };
    super::block_on(client.run(scenario, &address)).expect("nothing fails");
    drop(stop);
    server.join().expect("no panic").expect("serves to the end").expect_err("the sender was dropped");
    Snapshot::of_process() - before
}

/// What `measured` messages more allocate.
fn more_messages(scenario: Scenario, tuning: Tuning) -> Snapshot {
    // The process's first case allocates what later ones share.
    case(scenario, tuning, 100);
    let few = case(scenario, tuning, 100);
    case(scenario, tuning, 100 + measured(Workload::default().chunk)) - few
}

/// A case has no parts: what a stop of the machine costs is in its total, ten blocks and their 680 kB where that was looked
/// at on a machine with eight programs for each core. The bound leaves room for 15 of them. A program that allocates
/// for messages takes twenty times as much and more.
pub(crate) fn subject_allocates_nothing_per_message(scenario: Scenario, tuning: Tuning) {
    let chunk = Workload::default().chunk;
    let messages = measured(chunk);
    let counted = more_messages(scenario, tuning);
    let Tally { blocks, bytes, .. } = counted.total_without_instrument();
    assert!(blocks <= messages as u64 / 20, "{messages} messages: {blocks} blocks\n{counted}");
    assert!(bytes <= (messages * chunk / 20) as u64, "{messages} messages: {bytes} bytes\n{counted}");
}

pub(crate) fn subject_allocates(scenario: Scenario) {
    let counted = more_messages(scenario, Tuning::default()).total_without_instrument();
    assert!(counted.blocks > measured(Workload::default().chunk) as u64, "only {} blocks", counted.blocks);
}
