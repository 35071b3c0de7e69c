//! Reading the counters.

use std::fmt;
use std::ops::Sub;

use super::tally::{SIZE_BUCKETS, Tally};
use super::{settled, shard};
use crate::Stage;
use crate::method::{Method, MethodName, Standing, shown, standing};
use crate::stage::Scope;

/// All counters at one moment, or what was counted between two moments.
///
/// The memory it needs is allocated before the counters are read and booked on [`Stage::Instrument`]. Reading while
/// other threads allocate is safe; each counter is then exact for some moment during the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// As counted, each row for whomever it was lent to.
    rows: Box<[Tally]>,
    /// The part of each row that belongs to no method: see [`settled`].
    settled: Box<[Tally]>,
    sizes: [u64; SIZE_BUCKETS],
}

/// One row of a [`Snapshot`]: what a stage of an RPC method allocated and freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The RPC method and its side.
    pub method: MethodName,
    /// The stage.
    pub stage: Stage,
    /// The counts.
    pub tally: Tally,
}

impl Snapshot {
    /// A snapshot in which nothing is counted, to be filled by [`read`](Snapshot::read).
    pub fn empty() -> Snapshot {
        let _guard = Stage::Instrument.enter();
        let zeroes = || vec![Tally::default(); Scope::COUNT].into_boxed_slice();
        Snapshot { rows: zeroes(), settled: zeroes(), sizes: [0; SIZE_BUCKETS] }
    }

    /// One row, for a counter that knows no stages.
    pub(crate) fn of_other(tally: Tally) -> Snapshot {
        let mut snapshot = Snapshot::empty();
        snapshot.rows[Scope::NONE.index()] = tally;
        snapshot
    }

    /// What the whole process counted so far.
    pub fn of_process() -> Snapshot {
        let mut snapshot = Snapshot::empty();
        snapshot.read();
        snapshot
    }

    /// What the shard of the current thread counted so far. Only differences of it mean something: a shard counts
    /// on from the thread that owned it before. Threads beyond [`SHARDS`](super::SHARDS) count nothing here.
    pub fn of_thread() -> Snapshot {
        let mut snapshot = Snapshot::empty();
        snapshot.read_thread();
        snapshot
    }

    /// Reads the whole process's counters into memory that is already there: allocates nothing.
    pub fn read(&mut self) {
        self.rows.fill(Tally::default());
        self.sizes.fill(0);
        shard::read_process(&mut self.rows, &mut self.sizes);
        for method in (1..Method::MAX as u8).map(Method::from_index) {
            let rows = settled::rows_of(method);
            match standing(method) {
                Standing::Free => self.settled[rows.clone()].copy_from_slice(&self.rows[rows]),
                Standing::Own | Standing::Lent => settled::read(method, &mut self.settled[rows]),
            }
        }
    }

    /// Reads the current thread's counters into memory that is already there, as [`of_thread`](Snapshot::of_thread).
    pub fn read_thread(&mut self) {
        self.rows.fill(Tally::default());
        self.settled.fill(Tally::default());
        self.sizes.fill(0);
        shard::read_thread(&mut self.rows, &mut self.sizes);
    }

    /// Whether the current thread has counters of its own, so that [`of_thread`](Snapshot::of_thread) can see it.
    pub fn thread_is_counted() -> bool {
        shard::is_owned()
    }

    /// Adds what was counted between two readings, allocating nothing.
    pub(crate) fn add_between(&mut self, earlier: &Snapshot, later: &Snapshot) {
        let parts =
            [(&mut self.rows, &later.rows, &earlier.rows), (&mut self.settled, &later.settled, &earlier.settled)];
        for (sums, later, earlier) in parts {
            for ((sum, later), earlier) in sums.iter_mut().zip(later).zip(earlier) {
                *sum += *later - *earlier;
            }
        }
        for ((sum, later), earlier) in self.sizes.iter_mut().zip(&later.sizes).zip(&earlier.sizes) {
            *sum += later.saturating_sub(*earlier);
        }
    }

    /// The rows that are not zero, methods in the order they registered, stages as in [`Stage::ALL`].
    ///
    /// Each row belongs to whom it belongs now: a method that was called for the first time before the snapshot and
    /// answered after it has its row.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let rows = self.taken_apart();
        (0..Method::MAX)
            .flat_map(|method| Stage::ALL.map(|stage| (Method::from_index(method as u8), stage)))
            .filter_map(move |(method, stage)| {
                let tally = rows[Scope::new(method, stage).index()];
                (!tally.is_zero()).then(|| Row { method: method.name(), stage, tally })
            })
    }

    /// The rows with what belongs to no method, or to none yet, where that is shown. Their sum is that of the rows.
    fn taken_apart(&self) -> Box<[Tally]> {
        let _guard = Stage::Instrument.enter();
        let mut rows = self.rows.clone();
        for method in (1..Method::MAX as u8).map(Method::from_index) {
            let own = shown(method);
            for stage in Stage::ALL {
                let [row, own, nobodys] = [method, own, Method::NONE].map(|of| Scope::new(of, stage).index());
                let counted = std::mem::take(&mut rows[row]);
                let part = counted - self.settled[row];
                rows[own] += part;
                rows[nobodys] += counted - part;
            }
        }
        rows
    }

    /// What one stage counted, over all methods.
    pub fn stage(&self, stage: Stage) -> Tally {
        (0..Method::MAX).map(|method| self.rows[Scope::new(Method::from_index(method as u8), stage).index()]).sum()
    }

    /// The sum over all rows, which is the total by definition.
    pub fn total(&self) -> Tally {
        self.rows.iter().copied().sum()
    }

    /// The total less what measuring itself allocated.
    pub fn total_without_instrument(&self) -> Tally {
        Stage::ALL.into_iter().filter(|stage| *stage != Stage::Instrument).map(|stage| self.stage(stage)).sum()
    }

    /// Blocks by size: bucket `n` holds the sizes in `[2^(n-1), 2^n)`, bucket 0 the size 0.
    pub fn sizes(&self) -> &[u64; SIZE_BUCKETS] {
        &self.sizes
    }

    /// Bytes that are allocated and not freed in the process now.
    pub fn live_bytes() -> u64 {
        shard::live_bytes().max(0) as u64
    }

    /// The most live bytes since [`reset_peak`](Snapshot::reset_peak), and by how many bytes that may be off either way.
    pub fn peak_bytes() -> (u64, u64) {
        let (peak, slack) = shard::peak_bytes();
        (peak.max(0) as u64, slack as u64)
    }

    /// Resets the peak to what is live now.
    pub fn reset_peak() {
        shard::reset_peak();
    }
}

impl Sub for Snapshot {
    type Output = Snapshot;

    /// What was counted between the two; the later one first.
    fn sub(mut self, earlier: Snapshot) -> Snapshot {
        for (row, earlier) in self.rows.iter_mut().zip(&earlier.rows) {
            *row = *row - *earlier;
        }
        for (row, earlier) in self.settled.iter_mut().zip(&earlier.settled) {
            *row = *row - *earlier;
        }
        for (size, earlier) in self.sizes.iter_mut().zip(&earlier.sizes) {
            *size = size.saturating_sub(*earlier);
        }
        self
    }
}

impl fmt::Display for Snapshot {
    /// One line a row that is not zero, and their sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, stage: &str, tally: Tally, method: &str| {
            let Tally { blocks, bytes, freed_blocks, freed_bytes, reallocs, .. } = tally;
            let line = format!(
                "{stage:<20} {blocks:>10} {bytes:>14} {reallocs:>9} {freed_blocks:>13} {freed_bytes:>14}  {method}"
            );
            writeln!(f, "{}", line.trim_end())
        };
        writeln!(
            f,
            "{:<20} {:>10} {:>14} {:>9} {:>13} {:>14}",
            "stage", "blocks", "bytes", "reallocs", "freed blocks", "freed bytes"
        )?;
        for row in self.rows() {
            line(f, row.stage.name(), row.tally, row.method.path)?;
        }
        line(f, "total", self.total(), "")
    }
}
