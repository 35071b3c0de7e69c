//! What the HTTP/2 peers agree on: a path, a header, and the settings of the tuned kinds.

use crate::wire::http2::FRAME_BYTES_MAX;

/// The response header in which a sink says how many bytes it counted.
pub(super) const COUNTED_HEADER: &str = "x-payload-bytes";
/// What every client asks for; file servers have a file of that name.
pub(super) const PATH: &str = "/payload";

/// The windows of a tuned peer: those of the ladders' `tuned-h2` step for one stream, but not in whole messages, which a
/// peer does not have.
pub(super) const TUNED_STREAM_WINDOW: u32 = 4 << 20;
pub(super) const TUNED_CONNECTION_WINDOW: u32 = 8 << 20;

/// A frame size above the message size, so that a message is one DATA frame, within what the protocol allows.
pub(super) fn tuned_frame_size(chunk: usize) -> u32 {
    (chunk as u32).saturating_add(1024).clamp(257 * 1024, FRAME_BYTES_MAX)
}

/// How much h2 may hold of a stream before it is written: a whole message and the next.
pub(super) fn tuned_send_buffer(chunk: usize) -> usize {
    2 * tuned_frame_size(chunk) as usize
}
