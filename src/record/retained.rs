//! What stays live, and who frees it.

use serde::{Deserialize, Serialize};

use crate::Stage;

/// What is live of one allocating stage, and who frees its blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// The stage that allocated.
    pub stage: Stage,
    /// The RPC method it allocated for; empty for none.
    pub rpc: String,
    /// Blocks live at the end of the measured part.
    pub curr_blocks: u64,
    /// Bytes live at the end of the measured part.
    pub curr_bytes: u64,
    /// Blocks freed during the measured part, by the stage that freed them.
    pub freed_by: Vec<FreedBy>,
}

/// Blocks of one stage freed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreedBy {
    /// The stage that freed.
    pub stage: Stage,
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
}
