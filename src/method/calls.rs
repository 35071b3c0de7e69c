//! Open calls, and the messages that arrive on them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Method, rows};

impl Method {
    /// Calls of this method that are open now: made or arrived, and neither answered to the end nor dropped. Counted by
    /// the layers of `tonic`.
    pub fn open_calls(self) -> u64 {
        rows::shown_under(self).map(|row| OPEN[row.index()].load(Ordering::Relaxed)).sum()
    }

    /// At most how many bytes of one message arrived on a stream of this method that is still read; 0 where none is.
    ///
    /// What tonic gathers messages in keeps the size of a stream's largest one for as long as the stream is read, so
    /// this is what a single stream among many may hold. It is known to a power of two, rounded up, and only where
    /// `tonic::StagedBody` is what receives. A compressed message counts as it arrives.
    pub fn largest_received(self) -> u64 {
        let largest = |row: Method| {
            let streams = &RECEIVING[row.index()];
            let largest = streams.iter().rposition(|streams| streams.load(Ordering::Relaxed) > 0);
            largest.map_or(0, |bucket| (1u64 << bucket) - 1)
        };
        rows::shown_under(self).map(largest).max().unwrap_or(0)
    }
}

/// Open calls by method.
static OPEN: [AtomicU64; Method::MAX] = [const { AtomicU64::new(0) }; Method::MAX];

/// Streams that are read, by method and by the size of their largest message so far: bucket `n` holds those of which
/// some message brought `[2^(n-1), 2^n)` bytes, bucket 0 those that brought none.
static RECEIVING: [[AtomicU64; SIZES]; Method::MAX] = [const { [const { AtomicU64::new(0) }; SIZES] }; Method::MAX];
/// A message's length is a number of 32 bits.
const SIZES: usize = 33;

/// A stream of its method that is read, until it is dropped.
#[cfg(feature = "tonic")]
#[derive(Debug)]
pub(crate) struct Receiving {
    method: Method,
    bucket: u8,
}

#[cfg(feature = "tonic")]
impl Receiving {
    pub(crate) fn new(method: Method) -> Receiving {
        RECEIVING[method.index()][0].fetch_add(1, Ordering::Relaxed);
        Receiving { method, bucket: 0 }
    }

    /// So many bytes of one message have arrived.
    pub(crate) fn arrived(&mut self, bytes: u32) {
        let bucket = (u32::BITS - bytes.leading_zeros()) as u8;
        if bucket > self.bucket {
            let streams = &RECEIVING[self.method.index()];
            // Up before down: a reader must not find the stream in neither.
            streams[bucket as usize].fetch_add(1, Ordering::Relaxed);
            streams[self.bucket as usize].fetch_sub(1, Ordering::Relaxed);
            self.bucket = bucket;
        }
    }
}

#[cfg(feature = "tonic")]
impl Drop for Receiving {
    fn drop(&mut self) {
        RECEIVING[self.method.index()][self.bucket as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// One open call of its method, until it is dropped.
#[cfg(feature = "tonic")]
#[derive(Debug)]
pub(crate) struct OpenCall(Method);

#[cfg(feature = "tonic")]
impl OpenCall {
    pub(crate) fn new(method: Method) -> OpenCall {
        OPEN[method.index()].fetch_add(1, Ordering::Relaxed);
        OpenCall(method)
    }
}

#[cfg(feature = "tonic")]
impl Drop for OpenCall {
    fn drop(&mut self) {
        OPEN[self.0.index()].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a call of the method is open or a stream of it is read.
#[cfg(feature = "tonic")]
pub(super) fn is_busy(method: Method) -> bool {
    OPEN[method.index()].load(Ordering::Relaxed) > 0
        || RECEIVING[method.index()].iter().any(|streams| streams.load(Ordering::Relaxed) > 0)
}
