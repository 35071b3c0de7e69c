//! A growing buffer that keeps a large [`Bytes`] as it is, so that encoding a message does not copy its payload.
//!
//! prost calls [`BufMut::put`] with a clone of every `bytes` field, at any depth. [`PartsBuf`] takes such a clone as a part
//! of its own, and what was written before it as another. Pass it directly: through `&mut dyn BufMut`, `Limit` or a second
//! `&mut`, `put` is a loop of copies, which gives the same bytes.

#![expect(unsafe_code, reason = "BufMut is an unsafe trait; everything is delegated to BytesMut")]

use std::collections::VecDeque;

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Payloads from this size on are kept. Below it a copy costs less than a frame of its own does.
pub(super) const APART_BYTES: usize = 40 * 1024;

/// A [`BufMut`] out of which the written bytes come in parts, large [`Bytes`] uncopied.
///
/// ```
/// use alloc_ladder::steps::PartsBuf;
/// use bytes::{BufMut, Bytes, BytesMut};
///
/// let payload = Bytes::from(vec![7; 64 * 1024]);
/// let mut parts = PartsBuf::new(BytesMut::new());
/// parts.put_u8(1);
/// parts.put(payload.clone());
/// assert_eq!(parts.pop().as_deref(), Some(&[1][..]));
/// assert_eq!(parts.pop().map(|part| part.as_ptr()), Some(payload.as_ptr()), "not copied");
/// assert_eq!(parts.pop(), None);
/// ```
#[derive(Debug, Default)]
pub struct PartsBuf {
    /// What is written after `parts`.
    head: BytesMut,
    parts: VecDeque<Bytes>,
    /// Bytes of `parts`.
    closed: usize,
    /// Bytes that were kept, since the last time all was taken.
    kept: usize,
    /// The largest block that `head` was seen to write to.
    block: usize,
}

impl PartsBuf {
    /// Writes what is not kept to `head`.
    pub fn new(head: BytesMut) -> PartsBuf {
        PartsBuf { head, ..PartsBuf::default() }
    }

    /// Bytes of all parts.
    pub fn len(&self) -> usize {
        self.closed + self.head.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that were kept rather than copied.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The next part, in the order in which they were written; the last is what was written after the last kept one.
    pub fn pop(&mut self) -> Option<Bytes> {
        let part = match self.parts.pop_front() {
            Some(part) => {
                self.closed -= part.len();
                Some(part)
            }
            None if self.head.is_empty() => None,
            None => Some(self.head.split().freeze()),
        };
        if self.is_empty() {
            self.kept = 0;
        }
        part
    }

    /// Closes the part that is being written.
    pub(super) fn close(&mut self) {
        if !self.head.is_empty() {
            self.block = self.block.max(self.head.capacity());
            self.closed += self.head.len();
            self.parts.push_back(self.head.split().freeze());
        }
    }

    pub(super) fn head(&mut self) -> &mut BytesMut {
        &mut self.head
    }

    /// The size of the largest block that was written to since this was asked last: the head may have grown.
    pub(super) fn take_block(&mut self) -> usize {
        std::mem::take(&mut self.block).max(self.head.capacity())
    }

    pub(super) fn has_closed(&self) -> bool {
        !self.parts.is_empty()
    }
}

/// # Invariant
/// The bytes between `chunk_mut` and `advance_mut` are `head`'s: `put`, which closes a part and thereby moves where
/// `head` writes, is a whole call of its own and never comes between the two.
///
// SAFETY: `remaining_mut`, `chunk_mut` and `advance_mut` are `BytesMut`'s own on one and the same `BytesMut`, by the
// invariant above.
unsafe impl BufMut for PartsBuf {
    #[inline]
    fn remaining_mut(&self) -> usize {
        self.head.remaining_mut()
    }

    #[inline]
    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller has initialised `count` bytes of `chunk_mut`, which is `head`'s (the invariant).
        unsafe { self.head.advance_mut(count) }
    }

    #[inline]
    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.head.chunk_mut()
    }

    #[inline]
    fn put<T: Buf>(&mut self, mut src: T) {
        let bytes = src.remaining();
        // What owns nothing (a `&[u8]`, say) has nothing to keep: its `copy_to_bytes` would be a new block.
        if std::mem::needs_drop::<T>() && bytes >= APART_BYTES && src.chunk().len() == bytes {
            let kept = src.copy_to_bytes(bytes);
            self.close();
            self.kept += bytes;
            self.closed += bytes;
            self.parts.push_back(kept);
        } else {
            self.head.put(src);
        }
    }

    #[inline]
    fn put_slice(&mut self, src: &[u8]) {
        self.head.extend_from_slice(src);
    }

    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.head.put_u8(value);
    }

    #[inline]
    fn put_bytes(&mut self, value: u8, count: usize) {
        self.head.put_bytes(value, count);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message;

    use super::*;

    /// A message with a payload in every place a field can stand.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Outer {
        #[prost(message, optional, tag = "1")]
        inner: Option<Inner>,
        #[prost(bytes = "bytes", repeated, tag = "2")]
        many: Vec<Bytes>,
        #[prost(map = "string, message", tag = "3")]
        by_name: HashMap<String, Inner>,
        #[prost(oneof = "Kind", tags = "4, 5")]
        kind: Option<Kind>,
        #[prost(message, repeated, tag = "6")]
        inners: Vec<Inner>,
        #[prost(bytes = "bytes", optional, tag = "7")]
        maybe: Option<Bytes>,
        #[prost(string, repeated, tag = "8")]
        words: Vec<String>,
        #[prost(bytes = "vec", tag = "9")]
        owned: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    enum Kind {
        #[prost(bytes = "bytes", tag = "4")]
        Raw(Bytes),
        #[prost(message, tag = "5")]
        Nested(Inner),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Inner {
        #[prost(bytes = "bytes", tag = "1")]
        blob: Bytes,
        #[prost(string, tag = "2")]
        name: String,
    }

    fn drain(parts: &mut PartsBuf) -> (Vec<u8>, Vec<*const u8>) {
        let (mut bytes, mut at) = (Vec::new(), Vec::new());
        while let Some(part) = parts.pop() {
            at.push(part.as_ptr());
            bytes.extend_from_slice(&part);
        }
        (bytes, at)
    }

    fn large(value: u8) -> Bytes {
        Bytes::from(vec![value; APART_BYTES])
    }

    #[test]
    fn a_payload_anywhere_in_a_message_is_not_copied() {
        let blobs: Vec<Bytes> = (1..=9).map(large).collect();
        let inner = |index: usize| Inner { blob: blobs[index].clone(), name: "n".repeat(index) };
        let message = Outer {
            inner: Some(inner(0)),
            many: vec![blobs[1].clone(), blobs[2].clone()],
            by_name: HashMap::from([("k".to_owned(), inner(3))]),
            kind: Some(Kind::Nested(inner(4))),
            inners: vec![inner(5), inner(6)],
            maybe: Some(blobs[7].clone()),
            words: vec!["w".to_owned(); 3],
            owned: vec![9; APART_BYTES],
        };
        for message in [message.clone(), Outer { kind: Some(Kind::Raw(blobs[8].clone())), ..message }] {
            let mut parts = PartsBuf::default();
            message.encode(&mut parts).expect("a growing buffer");
            let count = 8;
            assert_eq!(parts.kept(), count * APART_BYTES, "all but the `Vec<u8>`");
            assert_eq!(parts.len(), message.encoded_len());
            let (bytes, at) = drain(&mut parts);
            assert_eq!(bytes, message.encode_to_vec());
            let uncopied = blobs.iter().filter(|blob| at.contains(&blob.as_ptr())).count();
            assert_eq!(uncopied, count);
            assert!(parts.is_empty() && parts.kept() == 0);
        }
    }

    #[test]
    fn a_short_payload_and_one_that_owns_nothing_are_copied() {
        let mut parts = PartsBuf::default();
        parts.put(large(1).slice(1..));
        parts.put(&large(2)[..]);
        assert_eq!(parts.kept(), 0);
        assert_eq!(drain(&mut parts).1.len(), 1);
    }

    #[test]
    fn through_an_adaptor_the_bytes_are_the_same() {
        let message = Inner { blob: large(3), name: "n".to_owned() };
        let mut parts = PartsBuf::default();
        let dynamic: &mut dyn BufMut = &mut parts;
        message.encode(&mut { dynamic }).expect("a growing buffer");
        assert_eq!(drain(&mut parts).0, message.encode_to_vec());
        message.encode(&mut (&mut parts).limit(1 << 20)).expect("room");
        assert_eq!(drain(&mut parts).0, message.encode_to_vec());
    }
}
