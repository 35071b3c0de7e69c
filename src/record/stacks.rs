//! Call sites, as dhat saw them.

use serde::{Deserialize, Serialize};

use super::Recorded;
use crate::Side;

/// What dhat saw of one side during the measured part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacks {
    /// The side.
    pub side: Side,
    /// Messages in the measured part.
    pub messages: u64,
    /// Payload bytes of those messages.
    pub payload_bytes: u64,
    /// dhat's own JSON; relative to the run's folder.
    pub dhat: String,
    /// What was seen beside the stacks, where the recorder recorded them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
}
