//! HTTP/2 settings of the `tuned-h2` step.

use super::body::BATCH_BYTES;
use super::message::{PREFIX_BYTES, chunk_encoded_len};
use crate::ladder::{Http2, Tuning};
use crate::scenario::Workload;

/// The settings one side announces to the other, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest DATA frame this side takes.
    pub max_frame_size: u32,
    /// How far the peer may send ahead on one stream.
    pub stream_window: u32,
    /// How far the peer may send ahead on the connection.
    pub connection_window: u32,
}

/// The largest frame HTTP/2 has. RFC 9113, section 4.2.
const FRAME_SIZE_MAX: usize = (1 << 24) - 1;
const FRAME_SIZE_MIN: usize = 1 << 14;
/// Windows: deep enough that a loopback or data-centre round trip never empties them.
const STREAM_WINDOW: usize = 4 << 20;
const CONNECTION_WINDOW: usize = 8 << 20;

impl Default for Settings {
    /// What HTTP/2 begins with. RFC 9113, sections 6.5.2 and 6.9.2.
    fn default() -> Settings {
        Settings { max_frame_size: 1 << 14, stream_window: (1 << 16) - 1, connection_window: (1 << 16) - 1 }
    }
}

impl Settings {
    /// The settings of a tuning; `None` leaves tonic's and hyper's defaults.
    pub fn of(tuning: &Tuning, workload: &Workload) -> Option<Settings> {
        if tuning.http2 == Http2::Stock {
            return None;
        }
        let message = PREFIX_BYTES + chunk_encoded_len(workload.chunk);
        // Short messages leave together, until there are `BATCH_BYTES` of them.
        let batch = if message < BATCH_BYTES { BATCH_BYTES + message } else { message };
        // Room for that, rounded up so that neighbouring sizes share settings.
        let frame = (batch + 1024).next_multiple_of(FRAME_SIZE_MIN).min(FRAME_SIZE_MAX);
        // A sender that uses up its window cuts a message in two unless windows are whole numbers of messages.
        let stream = STREAM_WINDOW.max(4 * frame).next_multiple_of(message);
        let bytes = |value: usize| u32::try_from(value).expect("settings are below 2^31");
        Some(Settings {
            max_frame_size: bytes(frame),
            stream_window: bytes(stream),
            connection_window: bytes(CONNECTION_WINDOW.max(2 * stream).next_multiple_of(message)),
        })
    }
}
