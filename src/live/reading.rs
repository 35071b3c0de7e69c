//! One reading of all that a page shows: no page looks twice, so that its figures are of one moment.
//!
//! Threads go on while it is taken, so the rows are read within microseconds and not at an instant. What must hold on a
//! page holds all the same: the total is the sum of the rows, and what is live is at most the peak and its slack.

use super::memory::Memory;
use crate::alloc::aside;
use crate::method::{CODES, CallCounts, MethodName, PerCall, Spread};
use crate::sampled::{Estimate, Live};
use crate::{Method, Snapshot, Stage, Tally};

/// All figures of one moment.
pub(super) struct Reading {
    /// One a stage of an RPC method that allocated or freed.
    pub(super) rows: Vec<Row>,
    /// Their sum.
    pub(super) total: Tally,
    /// The sum of what the sampler says is live; `None` without the sampler.
    pub(super) sampled: Option<Estimate>,
    pub(super) overflowed: u64,
    pub(super) untracked: u64,
    /// Every method that has a row, so that no figure vanishes when it falls to zero; calls whose path has none are of
    /// [`Method::NONE`].
    pub(super) methods: Vec<Open>,
    /// Every method of which the seams counted something.
    pub(super) calls: Vec<Calls>,
    /// What the process holds, without what these endpoints do.
    pub(super) live_bytes: u64,
    pub(super) peak_bytes: u64,
    /// By how much the peak may be off, either way.
    pub(super) peak_slack_bytes: u64,
    /// What these endpoints hold.
    pub(super) own_bytes: u64,
    pub(super) memory: Memory,
}

/// A stage of an RPC method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) method: MethodName,
    pub(super) stage: Stage,
    pub(super) tally: Tally,
    /// What it allocated and nobody freed, to whole bytes; `None` without the sampler.
    pub(super) live: Option<Estimate>,
}

/// A method and what its open calls hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) method: MethodName,
    pub(super) calls: u64,
    /// At most how many bytes of one message arrived on one of its streams, compressed where it is; 0 where none is read.
    pub(super) largest_received: u64,
    /// What the method's rows allocated and nobody freed, without the instrument's; `None` without the sampler.
    pub(super) live: Option<Estimate>,
}

/// What the seams counted of a method's calls that ended, and of messages.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    pub(super) method: MethodName,
    pub(super) counts: CallCounts,
    /// Calls by the number of their code.
    pub(super) codes: [u64; CODES],
    pub(super) blocks: Spread,
    pub(super) bytes: Spread,
    pub(super) latency: Spread,
}

impl Calls {
    fn all() -> Vec<Calls> {
        let counted = Method::rows().map(|method| (method, method.call_counts()));
        let calls = |(method, counts): (Method, CallCounts)| Calls {
            method: method.name(),
            counts,
            codes: method.calls_by_code(),
            blocks: method.per_call(PerCall::Blocks),
            bytes: method.per_call(PerCall::Bytes),
            latency: method.per_call(PerCall::Latency),
        };
        counted.filter(|(_, counts)| !counts.is_zero()).map(calls).collect()
    }
}

impl Open {
    /// Live bytes for each open call, which is a mean; `None` where no call is open.
    pub(super) fn bytes_per_call(&self) -> Option<f64> {
        let live = self.live.filter(|_| self.calls > 0)?;
        Some(live.bytes / self.calls as f64)
    }

    /// Whether a table for people has something to say about it.
    pub(super) fn is_something(&self) -> bool {
        self.calls > 0 || self.live.is_some_and(|live| live.samples > 0)
    }
}

impl Reading {
    /// Takes it; to be called [`aside`].
    pub(super) fn take() -> Reading {
        let sampler = Live::read();
        let snapshot = Snapshot::of_process();
        let live_bytes = Snapshot::live_bytes();
        let (peak_bytes, peak_slack_bytes) = Snapshot::peak_bytes();
        let rows = rows(&snapshot, &sampler);
        Reading {
            total: rows.iter().map(|row| row.tally).sum(),
            sampled: (sampler.every_bytes > 0).then(|| rows.iter().filter_map(|row| row.live).sum()),
            overflowed: sampler.overflowed,
            untracked: sampler.untracked,
            methods: methods(&rows),
            calls: Calls::all(),
            live_bytes,
            // A thread may be about to note a peak that its live bytes show already.
            peak_bytes: peak_bytes.max(live_bytes),
            peak_slack_bytes,
            own_bytes: aside::bytes(),
            memory: Memory::read(live_bytes),
            rows,
        }
    }

    /// Whether the program's allocator counts.
    pub(super) fn is_counted(&self) -> bool {
        !self.total.is_zero()
    }

    /// See [`Memory::gap`]; nothing is known of it where nothing is counted.
    pub(super) fn gap(&self) -> Option<String> {
        self.memory.gap(self.live_bytes).filter(|_| self.is_counted())
    }
}

/// The rows of the counters, with what the sampler says of each, and rows of which the sampler alone knows.
fn rows(snapshot: &Snapshot, sampler: &Live) -> Vec<Row> {
    let is_sampled = sampler.every_bytes > 0;
    let none = is_sampled.then(Estimate::default);
    let mut rows: Vec<Row> =
        snapshot.rows().map(|row| Row { method: row.method, stage: row.stage, tally: row.tally, live: none }).collect();
    for (scope, live) in &sampler.rows {
        let (method, stage) = (scope.method().name(), scope.stage());
        // In whole bytes, so that sums of what is shown are sums.
        let live = Estimate { bytes: live.bytes.round(), ..*live };
        match rows.iter_mut().find(|row| row.method == method && row.stage == stage) {
            Some(row) => row.live = row.live.map(|sum| sum + live),
            None => rows.push(Row { method, stage, tally: Tally::default(), live: Some(live) }),
        }
    }
    rows
}

fn methods(rows: &[Row]) -> Vec<Open> {
    Method::rows()
        .map(|method| {
            let name = method.name();
            let own = rows.iter().filter(|row| row.method == name && row.stage != Stage::Instrument);
            let is_sampled = rows.iter().any(|row| row.live.is_some());
            Open {
                method: name,
                calls: method.open_calls(),
                largest_received: method.largest_received(),
                live: is_sampled.then(|| own.filter_map(|row| row.live).sum()),
            }
        })
        .collect()
}
