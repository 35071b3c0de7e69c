//! Unary gRPC on bare HTTP/2: nothing between a call and its connection.
//!
//! What tonic's `Channel` and `Server` add (buffering, reconnecting, balancing, routing, layers, a task and several
//! boxes a call) is what most of a unary call's allocations are for. [`client`] and [`server`] go without, on h2
//! itself, and stay gRPC: prefixes, trailers, trailers-only errors, deadlines, cancellation, the receive limit. Each
//! works with tonic on the other side (`tests/lean.rs`).
//!
//! On h2 rather than on hyper's connections, which cost as many blocks again: a call with nothing decoded allocates 8
//! blocks of 1,682 bytes on the client and 6 of 872 on the server here, and 17 of 6,038 and 10 of 1,730 on hyper's
//! `SendRequest` and `http2::Builder` (counted with a program that was thrown away: 2,000 calls, headers alike). What
//! is left are h2's own: a header map to send or received is two blocks, and no call can use another's; a path and an
//! authority to send are one each.
//!
//! What is given up is in the two steps' costs: a client has one connection and does not open another when it breaks,
//! a server has one method, and neither compresses.

pub mod client;
pub mod server;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use tonic::Status;

use super::codec::{AnyDecoder, AnyEncoder};
use super::pool::Ring;
use super::user::USER_BUFFER_BYTES;
use crate::Stage;
use crate::subject::scenario::RECEIVE_LIMIT;
use crate::wire::grpc::{PREFIX_BYTES, ended_inside_message, message_len, prefix};

/// Encodes one message behind its prefix into recycled memory.
fn marshal<E: AnyEncoder>(ring: &mut Ring, encoder: &mut E, message: &E::Item) -> Result<Bytes, Status> {
    let _marshal = Stage::Marshal.enter();
    ring.fill(USER_BUFFER_BYTES, USER_BUFFER_BYTES, |buffer| {
        buffer.put_bytes(0, PREFIX_BYTES);
        encoder.encode_any(message, buffer)?;
        let prefix = prefix(buffer.len() - PREFIX_BYTES)?;
        buffer[..PREFIX_BYTES].copy_from_slice(&prefix);
        Ok(())
    })
}

/// Reads a body to its end and decodes its message; what comes after the first one is not decoded.
///
/// # Errors
/// `INTERNAL` for a bad prefix, a bad message and a body that ends inside one, `OUT_OF_RANGE` above the receive limit,
/// and what a broken stream amounts to, as in tonic's `Streaming`.
async fn one_message<D: AnyDecoder>(body: &mut RecvStream, decoder: &mut D) -> Result<Option<D::Item>, Status> {
    let mut deframer = Deframer::default();
    let mut message = None;
    while let Some(data) = body.data().await {
        let data = data.map_err(broken)?;
        // Fails only for more bytes than were received.
        let _ = body.flow_control().release_capacity(data.len());
        deframer.push(data);
        while let Some(bytes) = deframer.next()? {
            if message.is_none() {
                let _constructing = Stage::MessageConstruction.enter();
                message = Some(decoder.decode_any(bytes)?);
            }
        }
    }
    if deframer.is_empty() { Ok(message) } else { Err(ended_inside_message()) }
}

/// Messages out of DATA frames: a message that lies within one frame is a slice of it, one that spans frames is
/// gathered. Holds at most one message of the receive limit's size and one frame.
#[derive(Debug, Default)]
struct Deframer {
    /// What is left of the last frame; empty while anything is gathered.
    frame: Bytes,
    /// The beginning of a message that spans frames.
    gathered: BytesMut,
}

impl Deframer {
    fn push(&mut self, data: Bytes) {
        if self.gathered.is_empty() {
            self.frame = data;
        } else {
            let _receiving = Stage::ReceiveBuffer.enter();
            self.gathered.extend_from_slice(&data);
        }
    }

    fn is_empty(&self) -> bool {
        self.frame.is_empty() && self.gathered.is_empty()
    }

    /// The next whole message, without its prefix.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let whole = self.message_bytes()?;
        let available = self.frame.len() + self.gathered.len();
        if let Some(whole) = whole.filter(|whole| *whole <= available) {
            let mut message = match self.gathered.is_empty() {
                true => self.frame.split_to(whole),
                false => self.gathered.split_to(whole).freeze(),
            };
            message.advance(PREFIX_BYTES);
            return Ok(Some(message));
        }
        if available > 0 {
            let _receiving = Stage::ReceiveBuffer.enter();
            self.gathered.reserve(whole.unwrap_or(PREFIX_BYTES).saturating_sub(self.gathered.len()));
            self.gathered.extend_from_slice(&std::mem::take(&mut self.frame));
        }
        Ok(None)
    }

    /// How long the message at the front is with its prefix, once the prefix is there.
    fn message_bytes(&self) -> Result<Option<usize>, Status> {
        let front = if self.gathered.is_empty() { &self.frame[..] } else { &self.gathered[..] };
        let Some((prefix, _)) = front.split_first_chunk() else { return Ok(None) };
        let len = message_len(*prefix, RECEIVE_LIMIT)?;
        Ok(Some(PREFIX_BYTES + len))
    }
}

/// What a stream or connection that broke amounts to. <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>
fn broken(error: h2::Error) -> Status {
    let connection_ended = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    if error.is_io() || connection_ended {
        return Status::unavailable(format!("the connection broke: {error}"));
    }
    Status::from_error(Box::new(error))
}
