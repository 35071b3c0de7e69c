//! What the seams counted of calls, as rows.

use serde::{Deserialize, Serialize};

use crate::Side;
use crate::method::{CallCounts, CallSnapshot, MethodName};

/// What the seams counted of one RPC method on one side, in the measured part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRow {
    /// The RPC method's path; empty for calls whose path has no row.
    pub rpc: String,
    /// The side the method was registered for; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// Calls that ended, well or not. A stream that was open all the time is not among them, its messages are.
    pub calls: u64,
    /// Messages that came from the peer.
    pub messages_received: u64,
    /// Messages that went to the peer.
    pub messages_sent: u64,
    /// Bytes of the messages received, without what gRPC puts before each.
    pub payload_bytes_received: u64,
    /// Bytes of the messages sent, without what gRPC puts before each.
    pub payload_bytes_sent: u64,
    /// Of the calls, those whose status was not `OK`.
    pub errors: u64,
}

impl CallRow {
    /// The methods of which the seams counted something.
    pub fn all(calls: &CallSnapshot) -> Vec<CallRow> {
        let row = |(name, counts): (MethodName, CallCounts)| CallRow {
            rpc: name.path.to_owned(),
            side: name.side,
            calls: counts.calls,
            messages_received: counts.messages_received,
            messages_sent: counts.messages_sent,
            payload_bytes_received: counts.payload_bytes_received,
            payload_bytes_sent: counts.payload_bytes_sent,
            errors: counts.errors,
        };
        calls.rows().map(row).collect()
    }
}
