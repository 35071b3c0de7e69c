//! HTTP/2 settings for a stream's messages.

use tonic::transport::{Endpoint, Server};

use super::encode::BATCH_BYTES;
use crate::wire::grpc::PREFIX_BYTES;
use crate::wire::http2::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX, WINDOW_BYTES_MAX, hyper};

/// What a connection's streams may send ahead together: a round trip on loopback or within a data centre does not use it
/// up. It bounds what handlers that stop reading make a connection hold.
const AHEAD_BYTES: usize = 4 << 20;
/// Room in a frame beside messages.
const FRAME_ROOM_BYTES: usize = 1024;

/// The settings one side announces to the other: the receiver of large messages is the side to set them on.
///
/// ```
/// use alloc_ladder::steps::Http2;
///
/// let http2 = Http2::for_messages(64 * 1024);
/// let server = http2.server(tonic::transport::Server::builder());
/// # let _ = server;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// The largest DATA frame this side takes, bytes.
    pub max_frame_size: u32,
    /// How far the peer may send ahead on one stream, bytes.
    pub stream_window: u32,
    /// How far the peer may send ahead on the connection, bytes.
    pub connection_window: u32,
}

impl Http2 {
    /// What hyper, and so tonic, announces for a server.
    pub const SERVER: Http2 = Http2 {
        max_frame_size: FRAME_BYTES_DEFAULT,
        stream_window: hyper::SERVER_WINDOW,
        connection_window: hyper::SERVER_WINDOW,
    };
    /// What hyper, and so tonic, announces for a client.
    pub const CLIENT: Http2 = Http2 {
        max_frame_size: FRAME_BYTES_DEFAULT,
        stream_window: hyper::CLIENT_STREAM_WINDOW,
        connection_window: hyper::CLIENT_CONNECTION_WINDOW,
    };

    /// For messages that encode to about so many bytes ([`prost::Message::encoded_len`]): frames that hold one, and
    /// windows of whole numbers of them, so that no message is cut where a window ends. Messages of other lengths arrive
    /// all the same.
    pub fn for_messages(encoded_len: usize) -> Http2 {
        Http2::for_streams_of_messages(1, encoded_len)
    }

    /// As [`for_messages`](Http2::for_messages), for so many streams at once on a connection: each may send ahead its
    /// share of 4 MiB, four frames at least.
    pub fn for_streams_of_messages(streams: usize, encoded_len: usize) -> Http2 {
        let message = PREFIX_BYTES + encoded_len;
        // Short messages leave together, until there are `BATCH_BYTES` of them.
        let batch = if message < BATCH_BYTES { BATCH_BYTES + message } else { message };
        // Room for that, rounded up so that neighbouring sizes share settings.
        let frame =
            (batch + FRAME_ROOM_BYTES).next_multiple_of(FRAME_BYTES_DEFAULT as usize).min(FRAME_BYTES_MAX as usize);
        let stream = (AHEAD_BYTES / streams.max(1)).max(4 * frame).next_multiple_of(message);
        // h2 gives credit back when half is used, per stream and for the connection, so that a connection's worth of
        // streams can hold more than theirs. Where the connection's runs out, hyper asks for one byte a waiting stream,
        // and h2 sends what it gets: frames of a byte and more.
        let connection = (2 * streams.max(1)).saturating_mul(stream);
        let window = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).min(WINDOW_BYTES_MAX);
        Http2 { max_frame_size: window(frame), stream_window: window(stream), connection_window: window(connection) }
    }

    /// Announces them from a tonic server.
    pub fn server<L>(self, server: Server<L>) -> Server<L> {
        server
            .max_frame_size(self.max_frame_size)
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
    }

    /// Announces them from a tonic client.
    pub fn endpoint(self, endpoint: Endpoint) -> Endpoint {
        endpoint
            .max_frame_size(self.max_frame_size)
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_whole_messages_and_frames_hold_one() {
        for encoded_len in [0, 1, 100, 1024, 65_536, 65_540, 1 << 20, 4 << 20] {
            for streams in [0, 1, 64, 10_000] {
                let Http2 { max_frame_size, stream_window, connection_window } =
                    Http2::for_streams_of_messages(streams, encoded_len);
                let message = (PREFIX_BYTES + encoded_len) as u32;
                assert_eq!(stream_window % message, 0);
                assert!(max_frame_size >= message && max_frame_size <= FRAME_BYTES_MAX);
                assert!(stream_window >= 4 * max_frame_size);
                assert!(connection_window >= stream_window && connection_window <= WINDOW_BYTES_MAX);
            }
        }
        // What nothing fits is announced as far as it goes.
        let http2 = Http2::for_messages(usize::MAX / 64);
        assert_eq!((http2.max_frame_size, http2.connection_window), (FRAME_BYTES_MAX, WINDOW_BYTES_MAX));
    }
}
