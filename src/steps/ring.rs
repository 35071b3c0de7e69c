//! Recycled memory, one list a thread: whatever stream or call of the thread needs a buffer takes one here.
//!
//! A buffer is given back while parts that were split off it are still on their way; it can be taken again once they are
//! gone, or for the room that is left in it. What a thread keeps is bounded by [`BUFFERS_MAX`] and by [`BYTES_MAX`],
//! counting buffers whose parts somebody still holds.

use std::cell::RefCell;

use bytes::BytesMut;

/// How many buffers a thread keeps.
pub const BUFFERS_MAX: usize = 64;
/// How many bytes the buffers of a thread have together.
pub const BYTES_MAX: usize = 16 << 20;
/// Larger buffers are not kept.
pub const LARGEST_BYTES: usize = 4 << 20;
/// The smallest buffer: many short messages and many heads share one.
const SMALLEST_BYTES: usize = 4096;
/// A buffer so many times larger than what is asked for is left alone: a short message that waits to be sent would pin it.
const SLACK: usize = 16;

thread_local! {
    static RING: RefCell<Ring> = const { RefCell::new(Ring { buffers: Vec::new(), bytes: 0 }) };
}

#[derive(Debug, Default)]
struct Ring {
    /// The one given back last stands last.
    buffers: Vec<Buffer>,
    /// Bytes of their blocks.
    bytes: usize,
}

/// A buffer out of the ring.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) bytes: BytesMut,
    /// The size of its block. What is split off leaves the buffer less room, but the same block.
    block: usize,
}

impl Buffer {
    /// It was seen with a block of this size: it may have grown into a larger one, which does not show any more once
    /// something was split off.
    pub(super) fn measure(&mut self, block: usize) {
        self.block = self.block.max(block);
    }
}

/// An empty buffer with room for `want` bytes.
pub(crate) fn take(want: usize) -> Buffer {
    // A thread that ends has no list any more.
    RING.try_with(|ring| ring.borrow_mut().take(want)).ok().flatten().unwrap_or_else(|| {
        let bytes = BytesMut::with_capacity(want.max(SMALLEST_BYTES));
        Buffer { block: bytes.capacity(), bytes }
    })
}

/// Gives a buffer back.
pub(crate) fn give(mut buffer: Buffer) {
    buffer.measure(buffer.bytes.capacity());
    if buffer.block == 0 || buffer.block > LARGEST_BYTES {
        return;
    }
    buffer.bytes.clear();
    let _ = RING.try_with(|ring| ring.borrow_mut().give(buffer));
}

/// How many buffers this thread keeps, and how many bytes they have together.
pub fn kept() -> (usize, usize) {
    RING.with(|ring| (ring.borrow().buffers.len(), ring.borrow().bytes))
}

impl Ring {
    fn take(&mut self, want: usize) -> Option<Buffer> {
        let most = want.max(SMALLEST_BYTES).saturating_mul(SLACK);
        let fits = |buffer: &mut Buffer| buffer.block <= most && buffer.bytes.try_reclaim(want);
        let index = (0..self.buffers.len()).rev().find(|index| fits(&mut self.buffers[*index]))?;
        let buffer = self.buffers.remove(index);
        self.bytes -= buffer.block;
        Some(buffer)
    }

    fn give(&mut self, buffer: Buffer) {
        // The one that waited longest makes room.
        while self.buffers.len() == BUFFERS_MAX || self.bytes + buffer.block > BYTES_MAX {
            self.bytes -= self.buffers.remove(0).block;
        }
        self.bytes += buffer.block;
        self.buffers.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    /// On a thread of its own, whose ring is empty.
    fn alone(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().expect("the thread's assertions hold");
    }

    #[test]
    fn a_buffer_is_taken_again_when_its_parts_are_gone_or_for_the_room_that_is_left() {
        alone(|| {
            let mut buffer = take(3000);
            let block = buffer.bytes.as_ptr();
            buffer.bytes.put_bytes(1, 3000);
            let part = buffer.bytes.split().freeze();
            give(buffer);
            let behind = take(1000);
            assert_eq!(behind.bytes.as_ptr(), block.wrapping_add(3000), "the room behind the part");
            give(behind);
            let other = take(3000);
            assert_ne!(other.bytes.as_ptr(), block, "the part is still held");
            drop(part);
            assert_eq!(take(3000).bytes.as_ptr(), block);
        });
    }

    #[test]
    fn what_a_thread_keeps_is_bounded_by_count_and_by_bytes() {
        alone(|| {
            let many: Vec<Buffer> = (0..1000).map(|_| take(10)).collect();
            many.into_iter().for_each(give);
            assert_eq!(kept(), (BUFFERS_MAX, BUFFERS_MAX * SMALLEST_BYTES));
            for size in [1 << 20, 3 << 20, LARGEST_BYTES] {
                let many: Vec<Buffer> = (0..20).map(|_| take(size)).collect();
                many.into_iter().for_each(give);
                assert!(kept().1 <= BYTES_MAX, "{:?}", kept());
            }
            let before = kept();
            give(take(LARGEST_BYTES + 1));
            assert_eq!(kept(), before, "too large to be kept");
        });
    }

    #[test]
    fn parts_that_are_held_count() {
        alone(|| {
            let held: Vec<_> = (0..100)
                .map(|_| {
                    let mut buffer = take(1 << 20);
                    buffer.bytes.put_bytes(1, 1 << 20);
                    buffer.measure(buffer.bytes.capacity());
                    let part = buffer.bytes.split().freeze();
                    give(buffer);
                    part
                })
                .collect();
            assert_eq!(kept(), (BYTES_MAX >> 20, BYTES_MAX));
            drop(held);
        });
    }

    #[test]
    fn a_buffer_that_grew_counts_as_what_it_is() {
        alone(|| {
            let mut buffer = take(10);
            buffer.bytes.put_bytes(1, 100_000);
            buffer.measure(buffer.bytes.capacity());
            drop(buffer.bytes.split());
            give(buffer);
            assert!(kept().1 >= 100_000, "{:?}", kept());
        });
    }

    #[test]
    fn a_short_message_takes_no_large_buffer() {
        alone(|| {
            give(take(1 << 20));
            let small = take(100);
            assert!(small.bytes.capacity() < 1 << 20);
            assert_eq!(kept().0, 1);
        });
    }
}
