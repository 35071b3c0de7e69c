//! A message that is encoded once, however many streams it is sent to.
//!
//! A body encodes what its stream gives it: one message for 64 subscribers is encoded 64 times, and cloned as often before.
//! [`Encoded`] holds the bytes. Its clones share them, and encoding one of them hands them on: from 40 KiB on uncopied
//! ([`PartsBuf`](super::PartsBuf)), below that, and in tonic's own body, in one copy.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, encode_key, skip_field};
use prost::{DecodeError, Message};

use super::ring;
use crate::Stage;

/// The encoded bytes of an `M`. Itself a prost message, the same as `M` on the wire, so that any codec and generated code
/// take it; the build script's generator writes it into the signatures of what a method answers with:
/// `.encoded(".package.Message")`.
///
/// Limits hold as for `M`. A stream that compresses does so for itself. As a field of another message it is encoded with
/// it, as `M` would be. What is received in its place is not looked into before [`message`](Encoded::message) is called,
/// so that fields nobody knows here are passed on as well.
///
/// ```
/// use alloc_ladder::steps::Encoded;
/// use prost::Message;
///
/// let message = "a name".to_owned();
/// let encoded = Encoded::new(&message);
/// assert_eq!(encoded.clone().encode_to_vec(), message.encode_to_vec());
/// assert_eq!(Encoded::<String>::decode(&*message.encode_to_vec())?.message()?, message);
/// # Ok::<(), prost::DecodeError>(())
/// ```
pub struct Encoded<M> {
    bytes: Bytes,
    message: PhantomData<fn() -> M>,
}

impl<M> Encoded<M> {
    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<M: Message> Encoded<M> {
    /// Encodes a message, into recycled memory of this thread: one that is kept for long keeps a block of 4 KiB at least.
    pub fn new(message: &M) -> Self {
        let _guard = Stage::Marshal.enter();
        let mut buffer = ring::take(message.encoded_len());
        message.encode_raw(&mut buffer.bytes);
        buffer.measure(buffer.bytes.capacity());
        let bytes = buffer.bytes.split().freeze();
        ring::give(buffer);
        Encoded { bytes, message: PhantomData }
    }
}

impl<M: Message + Default> Encoded<M> {
    /// The message itself.
    ///
    /// # Errors
    /// Where the bytes, which somebody else sent, are not an `M`.
    pub fn message(&self) -> Result<M, DecodeError> {
        let _guard = Stage::MessageConstruction.enter();
        M::decode(self.bytes.clone())
    }
}

impl<M: Message> From<M> for Encoded<M> {
    fn from(message: M) -> Self {
        Encoded::new(&message)
    }
}

impl<M> Clone for Encoded<M> {
    fn clone(&self) -> Self {
        Encoded { bytes: self.bytes.clone(), message: PhantomData }
    }
}

impl<M> Default for Encoded<M> {
    /// A message of defaults, which has no bytes.
    fn default() -> Self {
        Encoded { bytes: Bytes::new(), message: PhantomData }
    }
}

/// By their bytes. Those of equal messages may differ: the fields of a map, say, have no order.
impl<M> PartialEq for Encoded<M> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<M> Eq for Encoded<M> {}

impl<M> Hash for Encoded<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl<M> fmt::Debug for Encoded<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encoded").field(&self.bytes).finish()
    }
}

impl<M: Send + Sync> Message for Encoded<M> {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put(self.bytes.clone());
    }

    fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    fn decode(mut buf: impl Buf) -> Result<Self, DecodeError> {
        Ok(Encoded { bytes: buf.copy_to_bytes(buf.remaining()), message: PhantomData })
    }

    /// Takes the field over as it is, behind what is there: protobuf merges a message's fields in the order they stand in.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let before = std::mem::take(&mut self.bytes).try_into_mut();
        let mut bytes = before.unwrap_or_else(|shared| BytesMut::from(&*shared));
        encode_key(tag, wire_type, &mut bytes);
        skip_field(wire_type, tag, &mut Copying { from: buf, to: &mut bytes }, context)?;
        self.bytes = bytes.freeze();
        Ok(())
    }

    fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// What is read of `from` is written to `to`.
struct Copying<'a, B> {
    from: &'a mut B,
    to: &'a mut BytesMut,
}

impl<B: Buf> Buf for Copying<'_, B> {
    fn remaining(&self) -> usize {
        self.from.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.from.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.to.put((&mut *self.from).take(count));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::steps::PartsBuf;
    use crate::steps::parts::APART_BYTES;

    #[derive(Clone, PartialEq, Message)]
    struct Inner {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(double, tag = "2")]
        number: f64,
        #[prost(fixed32, repeated, tag = "3")]
        fixed: Vec<u32>,
        #[prost(bytes = "vec", tag = "4")]
        data: Vec<u8>,
        #[prost(message, optional, boxed, tag = "5")]
        inner: Option<Box<Inner>>,
        #[prost(int64, tag = "6")]
        signed: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Outer<M: Message + Default + Clone + PartialEq + fmt::Debug> {
        #[prost(uint32, tag = "1")]
        before: u32,
        #[prost(message, repeated, tag = "2")]
        inner: Vec<M>,
        #[prost(uint32, tag = "3")]
        after: u32,
    }

    fn inner() -> impl Strategy<Value = Inner> {
        let leaf = (".{0,20}", any::<i64>(), prop::collection::vec(any::<u32>(), 0..4), 0usize..300, any::<u32>());
        let leaf = leaf.prop_map(|(name, signed, fixed, data, number)| Inner {
            name,
            number: number.into(),
            fixed,
            data: vec![7; data],
            inner: None,
            signed,
        });
        (leaf.clone(), prop::option::of(leaf)).prop_map(|(outer, inner)| Inner { inner: inner.map(Box::new), ..outer })
    }

    proptest! {
        #[test]
        fn it_is_the_message_on_the_wire_by_itself_and_within_another(messages in prop::collection::vec(inner(), 0..4)) {
            for message in &messages {
                let encoded = Encoded::new(message);
                prop_assert_eq!(encoded.encode_to_vec(), message.encode_to_vec());
                prop_assert_eq!(encoded.encoded_len(), message.encoded_len());
                prop_assert_eq!(&encoded.message().expect("written here"), message);
            }
            let plain = Outer { before: 1, inner: messages.clone(), after: 2 };
            let encoded = Outer { before: 1, inner: messages.iter().map(Encoded::new).collect(), after: 2 };
            let wire = plain.encode_to_vec();
            prop_assert_eq!(&encoded.encode_to_vec(), &wire);
            prop_assert_eq!(&Outer::<Encoded<Inner>>::decode(&wire[..]).expect("written here"), &encoded);
        }
    }

    #[test]
    fn two_messages_one_behind_the_other_are_merged_as_their_fields_are() {
        let first = Inner { name: "first".to_owned(), signed: 1, fixed: vec![1], ..Inner::default() };
        let second = Inner { name: "second".to_owned(), fixed: vec![2, 3], ..Inner::default() };
        let (mut plain, mut encoded) = (first.clone(), Encoded::new(&first));
        let shared = encoded.clone();
        plain.merge(&second.encode_to_vec()[..]).expect("fields");
        encoded.merge(&second.encode_to_vec()[..]).expect("fields");
        assert_eq!(encoded.message(), Ok(plain));
        assert_eq!(shared.message(), Ok(first), "a clone is not changed");
    }

    #[test]
    fn what_is_broken_is_refused_where_it_is_looked_into() {
        let broken = Bytes::from_static(&[10, 200, 1, 1]);
        assert!(Encoded::<Inner>::decode(broken.clone()).expect("any bytes").message().is_err());
        let within = [&[18, broken.len() as u8][..], &broken].concat();
        assert!(Outer::<Encoded<Inner>>::decode(&within[..]).is_err());
    }

    #[test]
    fn a_large_one_is_sent_to_many_without_a_copy_and_without_an_encoding() {
        let message = Inner { data: vec![7; APART_BYTES], ..Inner::default() };
        let encoded = Encoded::new(&message);
        for _ in 0..3 {
            let mut parts = PartsBuf::default();
            encoded.clone().encode(&mut parts).expect("a growing buffer");
            assert_eq!(parts.kept(), message.encoded_len());
            assert_eq!(parts.pop().expect("written").as_ptr(), encoded.bytes().as_ptr());
        }
    }
}
