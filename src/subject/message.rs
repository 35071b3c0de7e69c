//! The messages as handlers see them, whichever type they are decoded into and encoded from.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, encoded_len_varint, key_len};
use prost::{DecodeError, Message};

use crate::steps::Pooled;
use crate::subject::pb::{bytes as shared, owned};

/// A received chunk.
pub trait Payload: Message + Default + 'static {
    /// The payload.
    fn payload(&self) -> &[u8];
}

/// A chunk to send.
pub trait Outgoing: Payload {
    /// A message with this payload, in the message's own kind of memory.
    fn with_payload(payload: &Bytes) -> Self;
}

/// The content of a measured message: letters that have no order, which a compressor makes about half as long.
pub fn content(len: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let letter = || {
        // Knuth's constants; the upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'a' + (state >> 60) as u8
    };
    std::iter::repeat_with(letter).take(len).collect()
}

/// Bytes of a chunk message with a payload of `len` bytes.
pub fn chunk_encoded_len(len: usize) -> usize {
    /// `Chunk.data`'s field number.
    const DATA_FIELD: u32 = 1;
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
}

impl<M: Payload> Payload for Pooled<M> {
    fn payload(&self) -> &[u8] {
        (**self).payload()
    }
}

/// A message whose payload is copied where it is encoded: [`PartsBuf`](crate::steps::PartsBuf) keeps what it is given
/// itself, and not what comes through an adaptor.
#[derive(Clone, Debug, Default)]
pub struct Copied<M>(M);

impl<M: Payload> Payload for Copied<M> {
    fn payload(&self) -> &[u8] {
        self.0.payload()
    }
}

impl<M: Outgoing> Outgoing for Copied<M> {
    fn with_payload(payload: &Bytes) -> Self {
        Copied(M::with_payload(payload))
    }
}

impl<M: Message> Message for Copied<M> {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.0.encode_raw(&mut buf.limit(usize::MAX));
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.0.merge_field(tag, wire_type, buf, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::PartsBuf;

    #[test]
    fn a_chunk_is_as_long_as_was_said() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let message = shared::Chunk::with_payload(&Bytes::from(vec![42; len]));
            assert_eq!(message.encoded_len(), chunk_encoded_len(len));
        }
    }

    #[test]
    fn a_payload_is_copied_where_that_is_asked_for() {
        let payload = Bytes::from(vec![42; 70_000]);
        let (mut kept, mut copied) = (PartsBuf::default(), PartsBuf::default());
        shared::Chunk::with_payload(&payload).encode(&mut kept).expect("a growing buffer");
        Copied::<shared::Chunk>::with_payload(&payload).encode(&mut copied).expect("a growing buffer");
        assert_eq!((kept.kept(), copied.kept()), (payload.len(), 0));
        assert_eq!(copied.len(), chunk_encoded_len(payload.len()));
        let whole = copied.pop().expect("written");
        assert_eq!(whole, shared::Chunk::with_payload(&payload).encode_to_vec());
    }
}
