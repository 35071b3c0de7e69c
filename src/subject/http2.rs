//! HTTP/2 settings of the `tuned-h2` step.

use super::body::BATCH_BYTES;
use super::message::chunk_encoded_len;
use crate::subject::ladder::{Http2, Tuning};
use crate::subject::scenario::Workload;
use crate::wire::grpc::PREFIX_BYTES;
use crate::wire::http2::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX, WINDOW_BYTES_DEFAULT, WINDOW_BYTES_MAX};

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

/// What a connection's streams may send ahead together: deep enough that a round trip on loopback or within a data
/// centre does not use it up. It bounds what handlers that stop reading make a server hold.
const STREAM_WINDOWS: usize = 4 << 20;

impl Default for Settings {
    /// What HTTP/2 begins with.
    fn default() -> Settings {
        Settings {
            max_frame_size: FRAME_BYTES_DEFAULT,
            stream_window: WINDOW_BYTES_DEFAULT,
            connection_window: WINDOW_BYTES_DEFAULT,
        }
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
        let frame = (batch + 1024).next_multiple_of(FRAME_BYTES_DEFAULT as usize).min(FRAME_BYTES_MAX as usize);
        // A sender that uses up its window cuts a message in two unless windows are whole numbers of messages.
        let streams = workload.streams.div_ceil(workload.connections) as usize;
        let stream = (STREAM_WINDOWS / streams).max(4 * frame).next_multiple_of(message);
        // h2 gives credit back when half is used, per stream and for the connection, so that a connection's worth of
        // streams can hold more than theirs. Where the connection's runs out, hyper asks for one byte a waiting stream,
        // and h2 sends what it gets: frames of a byte and more.
        let connection = (2 * streams * stream).min(WINDOW_BYTES_MAX as usize);
        let bytes = |value: usize| u32::try_from(value).expect("settings are below 2^31");
        Some(Settings {
            max_frame_size: bytes(frame),
            stream_window: bytes(stream),
            connection_window: bytes(connection),
        })
    }
}
