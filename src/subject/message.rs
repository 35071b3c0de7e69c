//! The messages as handlers see them, whichever type they were decoded into.

use bytes::{Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::pool::{Pooled, Recycle};
use crate::subject::pb::{bytes as shared, owned};

/// A received chunk.
pub trait Payload: Send + 'static {
    /// The payload.
    fn payload(&self) -> &[u8];
}

/// A chunk to send.
pub trait Outgoing: Message + Default + Payload + Sync {
    /// A message with this payload, in the message's own kind of memory.
    fn with_payload(payload: &Bytes) -> Self;

    /// The payload alone.
    fn into_payload(self) -> Bytes;

    /// Writes what comes before the payload when the message is sent in two parts.
    fn encode_head(&self, head: &mut BytesMut) {
        let len = self.payload().len();
        if len > 0 {
            encode_key(DATA_FIELD, WireType::LengthDelimited, head);
            encode_varint(len as u64, head);
        }
    }
}

/// `Chunk.data`'s field number.
const DATA_FIELD: u32 = 1;
/// The most bytes that [`Outgoing::encode_head`] writes.
pub const HEAD_BYTES_MAX: usize = 1 + 10;

/// Bytes of a chunk message with a payload of `len` bytes.
pub fn chunk_encoded_len(len: usize) -> usize {
    if len == 0 { 0 } else { key_len(DATA_FIELD) + encoded_len_varint(len as u64) + len }
}

impl Payload for owned::Chunk {
    fn payload(&self) -> &[u8] {
        &self.data
    }
}

impl Outgoing for owned::Chunk {
    fn with_payload(payload: &Bytes) -> Self {
        owned::Chunk { data: payload.to_vec() }
    }

    fn into_payload(self) -> Bytes {
        self.data.into()
    }
}

impl Payload for shared::Chunk {
    fn payload(&self) -> &[u8] {
        &self.data
    }
}

impl Outgoing for shared::Chunk {
    fn with_payload(payload: &Bytes) -> Self {
        shared::Chunk { data: payload.clone() }
    }

    fn into_payload(self) -> Bytes {
        self.data
    }
}

impl Recycle for owned::Chunk {}

impl Recycle for shared::Chunk {
    fn recycle(&mut self) {
        // `Bytes::clear` would keep the receive buffer it is a slice of from being reclaimed.
        self.data = Bytes::new();
    }
}

impl<M: Payload + Recycle> Payload for Pooled<M> {
    fn payload(&self) -> &[u8] {
        (**self).payload()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut as _;

    #[test]
    fn head_and_payload_are_the_message_prost_writes() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let payload = Bytes::from(vec![42; len]);
            let message = shared::Chunk::with_payload(&payload);
            let mut parts = BytesMut::new();
            message.encode_head(&mut parts);
            assert!(parts.len() <= HEAD_BYTES_MAX);
            parts.put_slice(message.payload());
            assert_eq!(parts, message.encode_to_vec());
            assert_eq!(parts.len(), chunk_encoded_len(len));
        }
    }
}
