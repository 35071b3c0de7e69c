//! Exact counts, as rows.

use serde::{Deserialize, Serialize};

use crate::{Side, Snapshot, Stage, Tally};

/// Exact counts of the measured part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// One a stage and RPC method that allocated or freed.
    pub rows: Vec<CountRow>,
    /// The sum of the rows.
    pub total: Tally,
    /// Blocks by log2 size.
    pub sizes: Vec<SizeBucket>,
    /// The most live bytes during the measured part.
    pub peak_bytes: u64,
    /// By how many bytes `peak_bytes` may be off either way: threads report in steps.
    pub peak_slack_bytes: u64,
    /// Live bytes as messages went by.
    pub heap: Vec<HeapSample>,
}

impl Counts {
    /// What one stage allocated and freed, over all methods.
    pub fn stage(&self, stage: Stage) -> Tally {
        self.rows.iter().filter(|row| row.stage == stage).map(|row| row.tally).sum()
    }

    /// The total without the instrument's own row.
    pub fn subject(&self) -> Tally {
        self.total - self.stage(Stage::Instrument)
    }
}

impl From<&Snapshot> for Counts {
    fn from(snapshot: &Snapshot) -> Counts {
        let rows = snapshot.rows().map(|row| CountRow {
            rpc: row.method.path.to_owned(),
            side: row.method.side,
            stage: row.stage,
            tally: row.tally,
        });
        let sizes = snapshot.sizes().iter().enumerate().filter(|(_, blocks)| **blocks > 0);
        Counts {
            rows: rows.collect(),
            total: snapshot.total(),
            sizes: sizes
                .map(|(bucket, blocks)| SizeBucket {
                    bytes_min: bucket.checked_sub(1).map_or(0, |power| 1 << power),
                    blocks: *blocks,
                })
                .collect(),
            ..Counts::default()
        }
    }
}

/// One row of exact counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountRow {
    /// The RPC method's path; empty for none.
    pub rpc: String,
    /// The side the method was registered for; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// The stage.
    pub stage: Stage,
    /// The counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One bar of the size histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeBucket {
    /// The smallest size in the bucket, bytes; the largest is twice that, less one.
    pub bytes_min: u64,
    /// Blocks allocated.
    pub blocks: u64,
}

/// Live bytes after a number of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapSample {
    /// Messages since the measured part began.
    pub messages: u64,
    /// Bytes live in the process.
    pub live_bytes: u64,
}
