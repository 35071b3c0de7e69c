//! What of a stream has been received and not yet decoded, read as one buffer.
//!
//! A DATA frame is a slice of its connection's read buffer, which cannot be used again while the slice lives. So before
//! more is waited for, what is held is copied to recycled memory: a message within one frame, or behind a short head, is
//! never copied, and one that was cut pins nothing.

use bytes::{Buf, BufMut, Bytes};

use super::ring::{self, Buffer};

/// What was gathered, up to this size, stays apart from the frame behind it: the payload is then decoded from its frame.
/// What is longer is a message that was cut.
const HEAD_BYTES: usize = 4096;
/// Room that is made at once for a message because its prefix says so; more only as its bytes arrive. A peer that claims
/// much and sends little costs no more than this.
const CLAIM_BYTES: usize = 256 * 1024;

/// What was gathered, and the frame behind it.
#[derive(Debug, Default)]
pub(super) struct Rope {
    gathered: Buffer,
    frame: Bytes,
}

impl Drop for Rope {
    fn drop(&mut self) {
        ring::give(std::mem::take(&mut self.gathered));
    }
}

impl Rope {
    /// The next frame. What was left of the one before has been settled.
    pub(super) fn push(&mut self, frame: Bytes) {
        debug_assert!(self.frame.is_empty(), "settled before more was waited for");
        self.frame = frame;
    }

    /// Before more is waited for: lets the frame go. `len` is what the message has, where that is known.
    pub(super) fn settle(&mut self, len: usize) {
        if !self.frame.is_empty() {
            let have = self.gathered.bytes.len() + self.frame.len();
            self.reserve(len.min((2 * have).max(CLAIM_BYTES)).max(have));
            self.gathered.bytes.put_slice(&self.frame);
        }
        self.frame = Bytes::new();
        if self.gathered.bytes.is_empty() {
            // A stream that waits for its next message holds nothing.
            ring::give(std::mem::take(&mut self.gathered));
        }
    }

    /// A message of `len` bytes is there: where it was cut, its parts are joined.
    pub(super) fn join(&mut self, len: usize) {
        let have = self.gathered.bytes.len();
        if have > HEAD_BYTES && have < len {
            self.reserve(len);
            self.gathered.bytes.put_slice(&self.frame[..len - have]);
            self.frame.advance(len - have);
        }
    }

    /// Whether the next `len` bytes lie together.
    pub(super) fn is_contiguous(&self, len: usize) -> bool {
        self.chunk().len() >= len
    }

    /// Room for `len` bytes in all.
    fn reserve(&mut self, len: usize) {
        let gathered = &mut self.gathered;
        if !gathered.bytes.try_reclaim(len - gathered.bytes.len()) {
            let mut larger = ring::take(len);
            larger.bytes.put_slice(&gathered.bytes);
            ring::give(std::mem::replace(gathered, larger));
        }
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.gathered.bytes.len() + self.frame.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.gathered.bytes.is_empty() { &self.frame } else { &self.gathered.bytes }
    }

    fn advance(&mut self, count: usize) {
        let step = count.min(self.gathered.bytes.len());
        self.gathered.bytes.advance(step);
        self.frame.advance(count - step);
    }

    /// A slice where the bytes lie together, recycled memory otherwise.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        assert!(len <= self.remaining(), "cannot copy past the end");
        if self.gathered.bytes.is_empty() {
            return self.frame.split_to(len);
        }
        if self.gathered.bytes.len() >= len {
            return self.gathered.bytes.split_to(len).freeze();
        }
        let mut joined = ring::take(len);
        while joined.bytes.len() < len {
            let step = (len - joined.bytes.len()).min(self.chunk().len());
            joined.bytes.put_slice(&self.chunk()[..step]);
            self.advance(step);
        }
        let bytes = joined.bytes.split().freeze();
        ring::give(joined);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_let_go_before_more_is_waited_for() {
        let frame = Bytes::from(vec![1; 10_000]);
        let mut rope = Rope::default();
        rope.push(frame.clone());
        rope.advance(9000);
        assert!(!frame.is_unique());
        rope.settle(5000);
        assert!(frame.is_unique(), "copied");
        assert_eq!(rope.remaining(), 1000);
        // A message that takes all of its frame is a slice, and leaves nothing.
        rope.advance(1000);
        rope.settle(0);
        rope.push(frame.clone());
        assert_eq!(rope.copy_to_bytes(10_000).as_ptr(), frame.as_ptr());
        rope.settle(0);
        assert_eq!(rope.gathered.bytes.capacity(), 0, "nothing is held");
    }

    #[test]
    fn a_payload_behind_a_short_head_is_a_slice_of_its_frame() {
        let mut rope = Rope::default();
        rope.push(Bytes::from_static(b"head"));
        rope.settle(4 + 50_000);
        let payload = Bytes::from(vec![2; 50_000]);
        rope.push(payload.clone());
        rope.join(4 + 50_000);
        assert_eq!(rope.copy_to_bytes(4), "head");
        assert_eq!(rope.copy_to_bytes(50_000).as_ptr(), payload.as_ptr());
    }

    #[test]
    fn a_message_that_was_cut_is_joined_as_often_as_it_was_cut() {
        let message: Vec<u8> = (0..1_000_000u32).map(|at| at as u8).collect();
        for cut in [1000, 16_384, 700_000] {
            let mut rope = Rope::default();
            for frame in message.chunks(cut) {
                rope.push(Bytes::copy_from_slice(frame));
                if rope.remaining() < message.len() {
                    rope.settle(message.len());
                }
            }
            rope.join(message.len());
            assert!(rope.is_contiguous(message.len()), "frames of {cut}");
            assert_eq!(rope.copy_to_bytes(message.len()), message, "frames of {cut}");
            assert_eq!(rope.remaining(), 0);
        }
    }

    #[test]
    fn a_claim_without_bytes_makes_little_room() {
        let mut rope = Rope::default();
        rope.push(Bytes::from_static(b"little"));
        rope.settle(4 << 20);
        assert!(rope.gathered.bytes.capacity() <= CLAIM_BYTES, "{}", rope.gathered.bytes.capacity());
    }
}
