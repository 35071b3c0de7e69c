//! What was seen of a recorded process beside its stacks.

use serde::{Deserialize, Serialize};

/// What the recorder, and the command that watched, saw of a process beside its stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The most live bytes.
    pub peak_bytes: u64,
    /// When that was, milliseconds from the beginning.
    pub peak_ms: u64,
    /// The most resident memory that was seen, without what is shared, bytes; 0 where nobody looked.
    #[serde(default)]
    pub rss_bytes_max: u64,
    /// How long the process was watched, milliseconds; 0 where nobody did.
    #[serde(default)]
    pub wall_ms: u64,
    /// What the process held as time went by, at most [`Recorded::MOMENTS_MAX`] times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moments: Vec<Moment>,
}

impl Recorded {
    /// The most moments that a record keeps.
    pub const MOMENTS_MAX: usize = 500;
}

/// What a process held at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Milliseconds from the beginning.
    pub ms: u64,
    /// Bytes allocated and not freed.
    pub live_bytes: u64,
    /// Resident memory without what is shared, bytes; 0 for unknown.
    pub rss_bytes: u64,
}
