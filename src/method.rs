//! Which RPC methods get rows of their own: a small, bounded registry of `(side, "/package.Service/Method")`.
//!
//! Names that come from the wire never enter by themselves: a method gets its row when the program registers it, or
//! when a call to it succeeded (see `tonic::ServerLayer` and `tonic::ClientLayer`). What does not fit shares one
//! overflow row, so that the rows always sum to the total.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

pub use crate::stage::Method;
use crate::stage::Stage;

/// The client or the server of a connection; in the ladders always separate processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "study", derive(serde::Serialize, serde::Deserialize, clap::ValueEnum))]
#[cfg_attr(feature = "study", serde(rename_all = "kebab-case"))]
pub enum Side {
    /// The process or code that answers calls.
    Server,
    /// The process or code that makes calls.
    Client,
}

impl Side {
    /// Both sides, the server first, as tables show them.
    pub const ALL: [Side; 2] = [Side::Server, Side::Client];

    /// The side's one name.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Server => "server",
            Side::Client => "client",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a [`Method`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MethodName {
    /// The side that registered it; `None` for [`Method::NONE`] and [`Method::OVERFLOW`].
    pub side: Option<Side>,
    /// The path as gRPC sends it, `/package.Service/Method`; empty for [`Method::NONE`].
    pub path: &'static str,
}

impl Method {
    /// How many rows one side may have before it learns no more: a process that serves and calls keeps room for both.
    #[cfg(feature = "tonic")]
    pub(crate) const LEARNED: usize = Method::MAX - 18;

    /// The method's row for `path` on `side`, registering it if need be; [`OVERFLOW`](Method::OVERFLOW) when full.
    ///
    /// Registering allocates (once per method, never freed); looking up does not.
    pub fn register(side: Side, path: &str) -> Method {
        Method::register_among(side, path, Method::MAX)
    }

    /// As [`register`](Method::register), for a path that nobody named beforehand: [`OVERFLOW`](Method::OVERFLOW) where
    /// the side has [`LEARNED`](Method::LEARNED) rows already.
    #[cfg(feature = "tonic")]
    pub(crate) fn learn(side: Side, path: &str) -> Method {
        Method::register_among(side, path, Method::LEARNED)
    }

    fn register_among(side: Side, path: &str, most: usize) -> Method {
        if let Some(method) = Method::find(side, path) {
            return method;
        }
        let _guard = Stage::Instrument.enter();
        let _lock = REGISTERING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(method) = Method::find(side, path) {
            return method;
        }
        let index = Method::registered();
        let own = TABLE[..index].iter().filter(|name| name.get().is_some_and(|name| name.side == Some(side))).count();
        if index == Method::OVERFLOW.index() || own >= most {
            return Method::OVERFLOW;
        }
        let path: &'static str = Box::leak(path.to_owned().into_boxed_str());
        let _ = TABLE[index].set(MethodName { side: Some(side), path });
        Method::from_index(index as u8)
    }

    /// The registered method for `path` on `side`. Does not allocate or lock.
    pub fn find(side: Side, path: &str) -> Option<Method> {
        (1..Method::MAX as u8 - 1)
            .map_while(|index| Some((index, TABLE[index as usize].get()?)))
            .find(|(_, name)| name.side == Some(side) && name.path == path)
            .map(|(index, _)| Method::from_index(index))
    }

    /// What the method stands for.
    pub fn name(self) -> MethodName {
        match self {
            Method::OVERFLOW => MethodName { side: None, path: "(more methods)" },
            _ => TABLE[self.index()].get().copied().unwrap_or(MethodName { side: None, path: "" }),
        }
    }

    /// The methods that have a row: [`NONE`](Method::NONE) first, to which calls belong whose path has none, and
    /// [`OVERFLOW`](Method::OVERFLOW) last.
    pub fn rows() -> impl Iterator<Item = Method> {
        (0..Method::registered() as u8).map(Method::from_index).chain([Method::OVERFLOW])
    }

    /// How many rows are in use, counted from the first.
    pub fn registered() -> usize {
        1 + TABLE[1..Method::MAX - 1].iter().take_while(|name| name.get().is_some()).count()
    }

    /// Calls of this method that are open now: made or arrived, and neither answered to the end nor dropped. Counted by
    /// the layers of [`tonic`](crate::tonic).
    pub fn open_calls(self) -> u64 {
        OPEN[self.index()].load(Ordering::Relaxed)
    }

    /// At most how many bytes of one message arrived on a stream of this method that is still read; 0 where none is.
    ///
    /// What tonic gathers messages in keeps the size of a stream's largest one for as long as the stream is read, so
    /// this is what a single stream among many may hold. It is known to a power of two, rounded up, and only where
    /// [`StagedBody`](crate::tonic::StagedBody) is what receives. A compressed message counts as it arrives.
    pub fn largest_received(self) -> u64 {
        let streams = &RECEIVING[self.index()];
        let largest = streams.iter().rposition(|streams| streams.load(Ordering::Relaxed) > 0);
        largest.map_or(0, |bucket| (1u64 << bucket) - 1)
    }
}

static TABLE: [OnceLock<MethodName>; Method::MAX] = [const { OnceLock::new() }; Method::MAX];
/// Serialises registration; look-ups read [`TABLE`] alone.
static REGISTERING: Mutex<()> = Mutex::new(());

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

#[cfg(test)]
mod tests {
    use super::*;

    // One test: the registry is the process's.
    #[test]
    fn methods_are_bounded_and_found_again() {
        #[cfg(feature = "tonic")]
        {
            for index in 0..2 * Method::MAX {
                Method::learn(Side::Client, &format!("/learned.Service/M{index}"));
            }
            let own = Method::rows().filter(|method| method.name().side == Some(Side::Client)).count();
            assert_eq!(own, Method::LEARNED, "one side leaves the other room");
            assert_eq!(Method::learn(Side::Client, "/learned.Service/One"), Method::OVERFLOW);
            let learned = Method::learn(Side::Server, "/learned.Service/M0");
            assert_eq!(learned.name(), MethodName { side: Some(Side::Server), path: "/learned.Service/M0" });
        }

        let first = Method::register(Side::Server, "/a.B/C");
        assert_eq!(Method::register(Side::Server, "/a.B/C"), first);
        assert_ne!(Method::register(Side::Client, "/a.B/C"), first);
        assert_eq!(first.name(), MethodName { side: Some(Side::Server), path: "/a.B/C" });
        for index in 0..2 * Method::MAX {
            Method::register(Side::Server, &format!("/flood.Service/M{index}"));
        }
        assert_eq!(Method::register(Side::Server, "/one.Too/Many"), Method::OVERFLOW);
        assert_eq!(Method::find(Side::Server, "/one.Too/Many"), None);
        assert_eq!(Method::registered(), Method::MAX - 1);
        assert_eq!(Method::NONE.name().path, "");
    }
}
