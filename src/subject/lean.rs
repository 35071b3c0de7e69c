//! `CreateUser` by hand on bare HTTP/2: nothing between a call and its connection, not even generated code.
//!
//! [`LeanChannel`](crate::steps::LeanChannel) and [`lean::serve`](crate::steps::lean::serve) do without tonic's `Channel`
//! and `Server` for any service. What is left of a call then are headers and the boxes that generated code and tonic's
//! bodies make. This is what a method costs without those, on h2 itself: the lower bound of the ladder. It stays gRPC:
//! prefixes, trailers, trailers-only errors, deadlines, cancellation, the receive limit. Each side works with tonic on the
//! other (`tests/lean.rs`).
//!
//! What is left are h2's own: a header map to send or received is two blocks, and no call can use another's; a path and an
//! authority to send are one each.

pub mod client;
pub mod server;

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::Status;

use super::user::USER_BUFFER_BYTES;
use crate::Stage;
use crate::steps::ring;
use crate::wire::grpc::{PREFIX_BYTES, prefix};

/// Encodes one message behind its prefix into recycled memory.
fn marshal(message: &impl Message) -> Result<Bytes, Status> {
    let _marshal = Stage::Marshal.enter();
    let prefix = prefix(message.encoded_len())?;
    let mut buffer = ring::take(PREFIX_BYTES.max(USER_BUFFER_BYTES));
    buffer.bytes.put_slice(&prefix);
    message.encode_raw(&mut buffer.bytes);
    let bytes = buffer.bytes.split().freeze();
    ring::give(buffer);
    Ok(bytes)
}
