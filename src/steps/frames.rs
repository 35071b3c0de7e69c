//! Messages out of a body's DATA frames: prefixes, limits, decompression. Knows nothing of bodies.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::CompressionEncoding;

use super::rope::Rope;
use super::{compress, ring};
use crate::method::Direction::Received;
use crate::method::add_messages;
use crate::wire::grpc::PREFIX_BYTES;
use crate::{Method, Stage};

/// tonic's limit where none is set.
const LIMIT_BYTES: usize = 4 << 20;

/// How a stream is received.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Receiving {
    pub(super) encoding: Option<CompressionEncoding>,
    /// The largest message, both as it is sent and decompressed.
    pub(super) limit: Option<usize>,
}

/// What of a stream has arrived.
#[derive(Debug)]
pub(super) struct Frames {
    rope: Rope,
    /// The message whose prefix has been read.
    pending: Option<Pending>,
    encoding: Option<CompressionEncoding>,
    limit: usize,
    /// Whose messages they are, where the seams count them.
    counted: Option<Method>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    packed: bool,
    len: usize,
}

impl Frames {
    pub(super) fn new(receiving: Receiving) -> Frames {
        Frames {
            rope: Rope::default(),
            pending: None,
            encoding: receiving.encoding,
            limit: receiving.limit.unwrap_or(LIMIT_BYTES),
            counted: None,
        }
    }

    /// The messages from here on are those of a method whose seams count them.
    pub(super) fn count_for(&mut self, method: Option<Method>) {
        self.counted = method;
    }

    fn count(&self, len: usize) {
        if let Some(method) = self.counted {
            add_messages(method, Received, 0, len as u64);
        }
    }

    /// The next frame, once [`next`](Frames::next) has found no message any more.
    pub(super) fn push(&mut self, frame: Bytes) {
        self.rope.push(frame);
    }

    /// Whether a message has begun.
    pub(super) fn is_inside_message(&self) -> bool {
        self.pending.is_some() || self.rope.has_remaining()
    }

    /// The next message, if it is there as a whole.
    ///
    /// # Errors
    /// Of the same codes as tonic's.
    pub(super) fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        let _receiving = Stage::ReceiveBuffer.enter();
        let pending = match self.pending {
            Some(pending) => pending,
            None if self.rope.remaining() < PREFIX_BYTES => {
                self.rope.settle(0);
                return Ok(None);
            }
            None => *self.pending.insert(prefix(&mut self.rope, self.encoding, self.limit)?),
        };
        if self.rope.remaining() < pending.len {
            self.rope.settle(pending.len);
            return Ok(None);
        }
        self.pending = None;
        self.rope.join(pending.len);
        if pending.packed {
            let packed = self.rope.copy_to_bytes(pending.len);
            let plain = self.decompress(packed)?;
            self.count(plain.len());
            return decode(plain).map(Some);
        }
        self.count(pending.len);
        // A message that lies together is decoded without looking for pieces.
        if self.rope.is_contiguous(pending.len) {
            return decode(self.rope.copy_to_bytes(pending.len)).map(Some);
        }
        decode((&mut self.rope).take(pending.len)).map(Some)
    }

    fn decompress(&self, packed: Bytes) -> Result<Bytes, Status> {
        let encoding = self.encoding.expect("a message of a stream without an encoding is not marked as compressed");
        let recycled = |plain: &[u8]| {
            let mut buffer = ring::take(plain.len());
            buffer.bytes.put_slice(plain);
            let bytes = buffer.bytes.split().freeze();
            ring::give(buffer);
            bytes
        };
        match compress::decompress(encoding, packed, self.limit, recycled) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Status::resource_exhausted(format!(
                "Error decompressing: size limit, of {} bytes, exceeded while decompressing message",
                self.limit
            ))),
            Err(error) => Err(Status::internal(format!("Error decompressing: {error}"))),
        }
    }
}

fn decode<M: Message + Default>(bytes: impl Buf) -> Result<M, Status> {
    let _constructing = Stage::MessageConstruction.enter();
    M::decode(bytes).map_err(|error| Status::internal(error.to_string()))
}

/// Reads what stands before a message.
fn prefix(bytes: &mut impl Buf, encoding: Option<CompressionEncoding>, limit: usize) -> Result<Pending, Status> {
    let packed = match bytes.get_u8() {
        0 => false,
        1 if encoding.is_some() => true,
        1 => {
            return Err(Status::internal(
                "protocol error: received message with compressed-flag but no grpc-encoding was specified",
            ));
        }
        flag => {
            return Err(Status::internal(format!(
                "protocol error: received message with invalid compression flag: {flag} (valid flags are 0 and 1)"
            )));
        }
    };
    let len = bytes.get_u32() as usize;
    if len > limit {
        return Err(Status::out_of_range(format!(
            "Error, decoded message length too large: found {len} bytes, the limit is: {limit} bytes"
        )));
    }
    Ok(Pending { packed, len })
}
