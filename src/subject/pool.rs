//! Recycled memory: messages to decode into, buffers to encode into. Both are bounded, and neither hands out what an
//! earlier message left in it: messages are cleared before they are merged into, and a buffer only ever shows the
//! bytes written to it since it was taken.

use std::fmt;
use std::mem;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use prost::Message;

/// Cleared messages waiting for their next use, with the capacity their fields have grown to.
pub struct MessagePool<M> {
    free: Arc<Mutex<Vec<M>>>,
}

/// How many cleared messages a pool keeps; more are dropped. A stream that hands messages on has few in flight.
pub const POOL_MESSAGES: usize = 16;

impl<M> Clone for MessagePool<M> {
    fn clone(&self) -> Self {
        MessagePool { free: Arc::clone(&self.free) }
    }
}

impl<M> Default for MessagePool<M> {
    fn default() -> Self {
        MessagePool { free: Arc::new(Mutex::new(Vec::with_capacity(POOL_MESSAGES))) }
    }
}

impl<M> fmt::Debug for MessagePool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagePool").finish_non_exhaustive()
    }
}

/// A message that can be used again.
pub trait Recycle: Message + Default {
    /// Empties the message. Memory of its own stays for the next use; memory shared with others is let go, because
    /// others that share it wait for that.
    fn recycle(&mut self) {
        self.clear();
    }
}

impl<M: Recycle> MessagePool<M> {
    /// An empty message, recycled if there is one.
    pub fn take(&self) -> Pooled<M> {
        let message = lock(&self.free).pop().unwrap_or_default();
        Pooled { message, pool: self.clone() }
    }
}

fn lock<M>(free: &Mutex<Vec<M>>) -> std::sync::MutexGuard<'_, Vec<M>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message that goes back to its pool when dropped, cleared.
#[derive(Debug)]
pub struct Pooled<M: Recycle> {
    message: M,
    pool: MessagePool<M>,
}

impl<M: Recycle> Pooled<M> {
    /// The message, to decode into.
    pub fn message_mut(&mut self) -> &mut M {
        &mut self.message
    }
}

impl<M: Recycle> Deref for Pooled<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.message
    }
}

impl<M: Recycle> Drop for Pooled<M> {
    fn drop(&mut self) {
        let mut message = mem::take(&mut self.message);
        message.recycle();
        let mut free = lock(&self.pool.free);
        if free.len() < POOL_MESSAGES {
            free.push(message);
        }
    }
}

/// Buffers that become `Bytes` and are written again once every such `Bytes` was dropped.
///
/// h2 keeps a payload until it is on the wire, so a sender needs as many buffers as h2 holds: a few. Each keeps the
/// size of the largest content it had. Content goes where there is as much room as it could use, then to a new buffer,
/// then wherever it fits: so little contents that nobody takes share buffers rather than pin one each. When all are in
/// flight, content goes to a buffer of its own, just as large, that is freed afterwards. So the ring never holds more
/// than [`RING_BUFFERS`].
#[derive(Debug, Default)]
pub struct Ring {
    buffers: Vec<Recycled>,
    /// Where to look first: the buffer that was used last.
    next: usize,
}

#[derive(Debug)]
struct Recycled {
    bytes: BytesMut,
    /// What it has room for when nothing of it is in flight.
    capacity: usize,
}

/// How many buffers a [`Ring`] keeps: hyper lets h2 hold up to 1 MiB that is not yet on the wire, and the shortest
/// content that leaves a buffer without room for its like is of more than 64 KiB. More are only made while all are in
/// flight.
pub const RING_BUFFERS: usize = 20;

/// The smallest buffer a [`Ring`] keeps: room for many heads of messages whose payloads are sent as they are.
const RING_BUFFER_BYTES: usize = 4096;

impl Ring {
    /// A buffer with nothing in it and room for at least `need` bytes, if possible for `want`; `write` fills it, and
    /// what it wrote is returned.
    ///
    /// # Errors
    /// Whatever `write` gives; what it had written is then discarded.
    pub fn fill<E>(
        &mut self,
        need: usize,
        want: usize,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        let (count, next) = (self.buffers.len(), self.next);
        let mut find = |fits: &dyn Fn(&mut Recycled) -> bool| {
            (0..count).map(|offset| (next + offset) % count).find(|index| fits(&mut self.buffers[*index]))
        };
        let index = if let Some(index) = find(&|buffer| buffer.bytes.try_reclaim(want)) {
            index
        } else if count < RING_BUFFERS {
            self.buffers.push(Recycled::new(want));
            count
        } else if let Some(index) = find(&|buffer| buffer.bytes.try_reclaim(need)) {
            index
        } else if let Some(index) = find(&|buffer| buffer.bytes.try_reclaim(buffer.capacity)) {
            // Free, but too small.
            self.buffers[index] = Recycled::new(want);
            index
        } else {
            let mut own = BytesMut::with_capacity(need);
            write(&mut own)?;
            return Ok(own.freeze());
        };
        self.next = index;
        let Recycled { bytes, capacity } = &mut self.buffers[index];
        if let Err(error) = write(bytes) {
            bytes.clear();
            return Err(error);
        }
        // It grows where content turned out larger than was said.
        *capacity = bytes.capacity().max(*capacity);
        Ok(bytes.split().freeze())
    }
}

impl Recycled {
    fn new(bytes: usize) -> Recycled {
        let bytes = BytesMut::with_capacity(bytes.max(RING_BUFFER_BYTES));
        Recycled { capacity: bytes.capacity(), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::pb::owned::Chunk;
    use bytes::BufMut;

    #[test]
    fn a_recycled_message_is_empty_and_keeps_its_capacity() {
        let pool = MessagePool::<Chunk>::default();
        let mut first = pool.take();
        first.message_mut().data = vec![7; 1000];
        let block = first.data.as_ptr();
        drop(first);
        let mut second = pool.take();
        assert!(second.data.is_empty());
        assert!(second.data.capacity() >= 1000);
        // A shorter message shows nothing of the longer one before it.
        second.message_mut().merge(Chunk { data: vec![1; 10] }.encode_to_vec().as_slice()).expect("a valid message");
        assert_eq!(second.data, vec![1; 10]);
        assert_eq!(second.data.as_ptr(), block);
    }

    #[test]
    fn a_pool_keeps_no_more_than_it_says() {
        let pool = MessagePool::<Chunk>::default();
        drop((0..3 * POOL_MESSAGES).map(|_| pool.take()).collect::<Vec<_>>());
        assert_eq!(lock(&pool.free).len(), POOL_MESSAGES);
    }

    #[test]
    fn a_ring_reuses_what_was_dropped_and_never_what_is_held() {
        let mut ring = Ring::default();
        let fill = |ring: &mut Ring, value: u8, len: usize| {
            let written: Result<Bytes, ()> = ring.fill(len, len, |buffer| {
                assert!(buffer.is_empty());
                buffer.put_bytes(value, len);
                Ok(())
            });
            written.expect("writing cannot fail")
        };
        let first = fill(&mut ring, 1, 5000);
        let block = first.as_ptr();
        let held: Vec<Bytes> = (2..120).map(|value| fill(&mut ring, value, 5000)).collect();
        assert_eq!(ring.buffers.len(), RING_BUFFERS);
        assert_eq!(first, vec![1; 5000]);
        for (value, bytes) in (2..120).zip(&held) {
            assert_eq!(*bytes, vec![value; 5000]);
        }
        drop(first);
        let again = fill(&mut ring, 99, 10);
        assert_eq!(again.as_ptr(), block);
        assert_eq!(again, vec![99; 10]);
    }

    #[test]
    fn a_ring_full_of_small_buffers_grows_when_contents_do() {
        let mut ring = Ring::default();
        let fill = |ring: &mut Ring, len: usize| {
            let written: Result<Bytes, ()> = ring.fill(len, len, |buffer| {
                buffer.put_bytes(7, len);
                Ok(())
            });
            written.expect("writing cannot fail")
        };
        drop((0..2 * RING_BUFFERS).map(|_| fill(&mut ring, 4096)).collect::<Vec<_>>());
        assert_eq!(ring.buffers.len(), RING_BUFFERS);
        let room = |ring: &mut Ring| ring.buffers.iter_mut().any(|buffer| buffer.bytes.try_reclaim(65_536));
        assert!(!room(&mut ring));
        fill(&mut ring, 65_536);
        assert!(room(&mut ring), "a block of its own for each");
        assert_eq!(ring.buffers.len(), RING_BUFFERS);
    }

    #[test]
    fn contents_that_nobody_takes_share_buffers() {
        const WANT: usize = 65_536;
        let mut ring = Ring::default();
        let fill = |ring: &mut Ring, value: u8| {
            let written: Result<Bytes, ()> = ring.fill(100, WANT, |buffer| {
                buffer.put_bytes(value, 100);
                Ok(())
            });
            written.expect("writing cannot fail")
        };
        let held: Vec<Bytes> = (0..4000).map(|index| fill(&mut ring, index as u8)).collect();
        let mut blocks: Vec<usize> = ring.buffers.iter().map(|buffer| buffer.capacity).collect();
        assert_eq!(blocks.len(), RING_BUFFERS);
        blocks.dedup();
        assert_eq!(blocks, [WANT], "none grew");
        // Whatever is held lies in one of them: as many runs of memory as there are buffers.
        let mut ranges: Vec<usize> = held.iter().map(|bytes| bytes.as_ptr() as usize).collect();
        ranges.sort_unstable();
        let gaps = ranges.windows(2).filter(|pair| pair[1] - pair[0] > 100).count();
        assert!(gaps < RING_BUFFERS, "{gaps} gaps");
        assert!(held.iter().enumerate().all(|(index, bytes)| *bytes == vec![index as u8; 100]));
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let mut ring = Ring::default();
        let failed = ring.fill(100, 100, |buffer| {
            buffer.put_bytes(9, 50);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        let written: Result<Bytes, ()> = ring.fill(100, 100, |buffer| {
            buffer.put_u8(1);
            Ok(())
        });
        assert_eq!(written.expect("writing cannot fail").as_ref(), [1]);
    }
}
