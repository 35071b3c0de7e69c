//! Call sites, as dhat saw them.

use serde::{Deserialize, Serialize};

use crate::{Side, Stage};

/// What dhat saw of one side during the measured part. Files are relative to the run's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacks {
    /// The side.
    pub side: Side,
    /// Messages in the measured part.
    pub messages: u64,
    /// Payload bytes of those messages.
    pub payload_bytes: u64,
    /// Blocks and bytes by the stage the stacks say.
    pub stages: Vec<StackStage>,
    /// Blocks allocated.
    pub total_blocks: u64,
    /// Bytes allocated.
    pub total_bytes: u64,
    /// Bytes live at the global peak.
    pub peak_bytes: u64,
    /// dhat's own JSON.
    pub dhat: String,
}

/// One stage's share of what dhat saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackStage {
    /// The stage.
    pub stage: Stage,
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
}
