//! What the seams count of calls: how many ended and how, and the messages and payload of either direction.
//!
//! # Implementation
//! Messages are counted while streams run, on every core at once: each thread adds to a line of its own a method, as it does
//! for blocks, without a `lock` prefix; threads beyond [`SHARDS`] share one. Calls are counted when they end, in one place a method, as open
//! calls are. Counters only grow; what a row held before it was lent or given to a path is noted apart, as
//! [`settled`](crate::alloc::settled) does for blocks. Nothing here allocates or locks but a snapshot's memory.

use std::ops::{AddAssign, Sub};
#[cfg(any(feature = "driver", feature = "tonic"))]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU64, Ordering};

use super::rows::{self, Standing};
use super::{Method, MethodName, Side};
use crate::alloc::{self, SHARDS};
use crate::stage::Stage;

/// What the seams counted of one method, or a difference of two counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Calls that ended, well or not.
    pub calls: u64,
    /// Of those, the ones whose status was not `OK`: see [`Method::errors`].
    pub errors: u64,
    /// Messages that came from the peer.
    pub messages_received: u64,
    /// Messages that went to the peer.
    pub messages_sent: u64,
    /// Bytes of the messages that came, without the five that gRPC puts before each.
    pub payload_bytes_received: u64,
    /// Bytes of the messages that went, without the five that gRPC puts before each.
    pub payload_bytes_sent: u64,
}

impl CallCounts {
    /// Messages that were handled: of the two directions the one with more. A unary call is one message.
    pub fn messages(&self) -> u64 {
        self.messages_received.max(self.messages_sent)
    }

    /// Payload bytes of both directions.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes_received + self.payload_bytes_sent
    }

    /// Whether nothing was counted.
    pub fn is_zero(&self) -> bool {
        *self == CallCounts::default()
    }
}

impl AddAssign for CallCounts {
    fn add_assign(&mut self, other: CallCounts) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.messages_received += other.messages_received;
        self.messages_sent += other.messages_sent;
        self.payload_bytes_received += other.payload_bytes_received;
        self.payload_bytes_sent += other.payload_bytes_sent;
    }
}

impl Sub for CallCounts {
    type Output = CallCounts;

    /// What was counted between two readings; zero where `earlier` is ahead.
    fn sub(self, earlier: CallCounts) -> CallCounts {
        CallCounts {
            calls: self.calls.saturating_sub(earlier.calls),
            errors: self.errors.saturating_sub(earlier.errors),
            messages_received: self.messages_received.saturating_sub(earlier.messages_received),
            messages_sent: self.messages_sent.saturating_sub(earlier.messages_sent),
            payload_bytes_received: self.payload_bytes_received.saturating_sub(earlier.payload_bytes_received),
            payload_bytes_sent: self.payload_bytes_sent.saturating_sub(earlier.payload_bytes_sent),
        }
    }
}

/// The codes of gRPC: `OK`, `CANCELLED`, … `UNAUTHENTICATED`, by their numbers.
pub const CODES: usize = 17;

/// The names of the codes, as gRPC spells them.
pub const CODE_NAMES: [&str; CODES] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Every method's counts at one moment, or what was counted between two moments.
///
/// Read it beside a [`Snapshot`](crate::Snapshot) for figures per call and message. Its memory is allocated before the
/// counters are read and booked on [`Stage::Instrument`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSnapshot {
    rows: Box<[CallCounts]>,
    /// The part of each row that belongs to no method.
    settled: Box<[CallCounts]>,
}

impl CallSnapshot {
    /// A snapshot in which nothing is counted, to be filled by [`read`](CallSnapshot::read).
    pub fn empty() -> CallSnapshot {
        let _guard = Stage::Instrument.enter();
        let zeroes = || vec![CallCounts::default(); Method::MAX].into_boxed_slice();
        CallSnapshot { rows: zeroes(), settled: zeroes() }
    }

    /// What the seams of the process counted so far.
    pub fn of_process() -> CallSnapshot {
        let mut snapshot = CallSnapshot::empty();
        snapshot.read();
        snapshot
    }

    /// Reads the counters into memory that is already there: allocates nothing.
    pub fn read(&mut self) {
        for method in every() {
            let index = method.index();
            self.settled[index] = match rows::standing(method) {
                Standing::Free => row(method),
                Standing::Own | Standing::Lent => settled(method),
            };
            self.rows[index] = row(method);
        }
    }

    /// The methods of which something was counted, as [`Method::rows`] has them. Each row belongs to whom it belongs now.
    pub fn rows(&self) -> impl Iterator<Item = (MethodName, CallCounts)> + '_ {
        let counts = |method| shown(method, |row| self.rows[row.index()], |row| self.settled[row.index()]);
        Method::rows().map(move |method| (method.name(), counts(method))).filter(|(_, counts)| !counts.is_zero())
    }

    /// Messages that `side` [handled](CallCounts::messages). Calls whose path has no row count for either side.
    pub fn messages(&self, side: Side) -> u64 {
        self.of(side).map(|counts| counts.messages()).sum()
    }

    /// Payload bytes of both directions of the calls of `side`, and of those whose path has no row.
    pub fn payload_bytes(&self, side: Side) -> u64 {
        self.of(side).map(|counts| counts.payload_bytes()).sum()
    }

    fn of(&self, side: Side) -> impl Iterator<Item = CallCounts> + '_ {
        self.rows().filter(move |(name, _)| name.side.is_none_or(|own| own == side)).map(|(_, counts)| counts)
    }
}

impl Sub for CallSnapshot {
    type Output = CallSnapshot;

    /// What was counted between the two; the later one first.
    fn sub(mut self, earlier: CallSnapshot) -> CallSnapshot {
        for (later, earlier) in [(&mut self.rows, &earlier.rows), (&mut self.settled, &earlier.settled)] {
            later.iter_mut().zip(earlier).for_each(|(later, earlier)| *later = *later - *earlier);
        }
        self
    }
}

impl Method {
    /// What the seams counted of this method so far. Counted by the layers of `tonic`.
    ///
    /// Calls whose path has no row are counted as blocks are: under [`UNANSWERED`](Method::UNANSWERED) until their first
    /// answer, and under [`NONE`](Method::NONE) where none succeeds. Does not allocate or lock.
    pub fn call_counts(self) -> CallCounts {
        shown(self, row, settled)
    }

    /// Calls of this method that ended, well or not: [`open_calls`](Method::open_calls) has the others.
    pub fn calls(self) -> u64 {
        self.call_counts().calls
    }

    /// Calls of this method that ended otherwise than with `OK`. A call that was dropped before its status is
    /// `CANCELLED`; one that broke is `UNKNOWN` on a server and `UNAVAILABLE` on a client.
    pub fn errors(self) -> u64 {
        self.call_counts().errors
    }

    /// Calls of this method that ended, by the number of their code: see [`CODE_NAMES`].
    pub fn calls_by_code(self) -> [u64; CODES] {
        let read = |counters: &'static [[AtomicU64; CODES]], code: usize| {
            shown(
                self,
                |row| Sum(load(&counters[row.index()][code])),
                |row| Sum(load(&SETTLED_ENDED[row.index()][code])),
            )
            .0
        };
        std::array::from_fn(|code| read(&ENDED, code))
    }

    /// Messages of this method that came from the peer.
    pub fn messages_received(self) -> u64 {
        self.call_counts().messages_received
    }

    /// Messages of this method that went to the peer.
    pub fn messages_sent(self) -> u64 {
        self.call_counts().messages_sent
    }

    /// Bytes of the messages that came from the peer, without the five that gRPC puts before each.
    ///
    /// Of a compressed message the bytes that travelled, except where [`steps`](crate#modules-and-features) decode it:
    /// those say how long it is decompressed.
    pub fn payload_bytes_received(self) -> u64 {
        self.call_counts().payload_bytes_received
    }

    /// Bytes of the messages that went to the peer, without the five that gRPC puts before each.
    ///
    /// Of a compressed message the bytes before compression where `StagedCodec` or `steps` encode it, else
    /// the bytes that travelled.
    pub fn payload_bytes_sent(self) -> u64 {
        self.call_counts().payload_bytes_sent
    }
}

/// Messages of one method, as one thread counted them.
#[repr(align(64))]
struct Lane {
    received: AtomicU64,
    sent: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Lane {
    const fn new() -> Lane {
        Lane {
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    fn read(&self) -> CallCounts {
        CallCounts {
            messages_received: load(&self.received),
            messages_sent: load(&self.sent),
            payload_bytes_received: load(&self.received_bytes),
            payload_bytes_sent: load(&self.sent_bytes),
            ..CallCounts::default()
        }
    }
}

/// A lane for each thread that has counters of its own, and one for all others.
static MESSAGES: [[Lane; Method::MAX]; SHARDS + 1] = [const { [const { Lane::new() }; Method::MAX] }; SHARDS + 1];
/// Calls that ended, by the number of their code.
static ENDED: [[AtomicU64; CODES]; Method::MAX] = [const { [const { AtomicU64::new(0) }; CODES] }; Method::MAX];

/// What of the above belongs to no method.
static SETTLED_MESSAGES: [Lane; Method::MAX] = [const { Lane::new() }; Method::MAX];
static SETTLED_ENDED: [[AtomicU64; CODES]; Method::MAX] = [const { [const { AtomicU64::new(0) }; CODES] }; Method::MAX];

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn every() -> impl Iterator<Item = Method> {
    (0..Method::MAX as u8).map(Method::from_index)
}

fn row(method: Method) -> CallCounts {
    let mut sum = ended(&ENDED[method.index()]);
    let used = MESSAGES[..alloc::places()].iter().chain([&MESSAGES[SHARDS]]);
    used.for_each(|lanes| sum += lanes[method.index()].read());
    sum
}

fn settled(method: Method) -> CallCounts {
    let mut sum = ended(&SETTLED_ENDED[method.index()]);
    sum += SETTLED_MESSAGES[method.index()].read();
    sum
}

fn ended(codes: &[AtomicU64; CODES]) -> CallCounts {
    let calls = codes.iter().map(load).sum();
    CallCounts { calls, errors: codes[1..].iter().map(load).sum(), ..CallCounts::default() }
}

/// One counter, to be taken apart as the others are.
#[derive(Clone, Copy, Default)]
struct Sum(u64);

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        self.0 += other.0;
    }
}

impl Sub for Sum {
    type Output = Sum;

    fn sub(self, earlier: Sum) -> Sum {
        Sum(self.0.saturating_sub(earlier.0))
    }
}

/// What is shown under `method` now, of rows and of the part of each that belongs to nobody.
pub(super) fn shown<T>(method: Method, row: impl Fn(Method) -> T, settled: impl Fn(Method) -> T) -> T
where
    T: AddAssign + Sub<Output = T> + Default,
{
    let mut sum = T::default();
    for each in every() {
        if rows::shown(each) == method {
            sum += row(each) - settled(each);
        }
        if method == Method::NONE {
            sum += settled(each);
        }
    }
    sum
}

/// Notes what the row of `method` holds now. Called by whoever lends or gives it, one at a time.
pub(super) fn settle(method: Method) {
    let index = method.index();
    let counts = row(method);
    let messages = &SETTLED_MESSAGES[index];
    for (counter, count) in [
        (&messages.received, counts.messages_received),
        (&messages.sent, counts.messages_sent),
        (&messages.received_bytes, counts.payload_bytes_received),
        (&messages.sent_bytes, counts.payload_bytes_sent),
    ] {
        counter.store(count, Ordering::Relaxed);
    }
    for (settled, counter) in SETTLED_ENDED[index].iter().zip(&ENDED[index]) {
        settled.store(load(counter), Ordering::Relaxed);
    }
}

/// Sides that have a layer.
#[cfg(any(feature = "driver", feature = "tonic"))]
static SEAMS: [AtomicBool; Side::ALL.len()] = [const { AtomicBool::new(false) }; Side::ALL.len()];

/// Whether a layer of this side was ever put around a service or a channel.
#[cfg(feature = "driver")]
pub(crate) fn has_seam(side: Side) -> bool {
    SEAMS[side as usize].load(Ordering::Relaxed)
}

/// A layer is put around a service or a channel.
#[cfg(feature = "tonic")]
pub(crate) fn add_seam(side: Side) {
    SEAMS[side as usize].store(true, Ordering::Relaxed);
}

/// Which way messages go.
#[cfg(feature = "tonic")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

/// So many messages of so many bytes went by.
#[cfg(feature = "tonic")]
#[inline]
pub(crate) fn add_messages(method: Method, direction: Direction, messages: u64, bytes: u64) {
    let place = alloc::place();
    let lane = &MESSAGES[place.unwrap_or(SHARDS)][method.index()];
    let (count, size) = match direction {
        Direction::Received => (&lane.received, &lane.received_bytes),
        Direction::Sent => (&lane.sent, &lane.sent_bytes),
    };
    for (counter, amount) in [(count, messages), (size, bytes)] {
        if place.is_some() {
            // PERF: one writer, so no `lock` prefix; readers see whole values.
            counter.store(load(counter).wrapping_add(amount), Ordering::Relaxed);
        } else {
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }
}

/// A call ended with this code; one that gRPC does not know is `UNKNOWN`.
#[cfg(feature = "tonic")]
pub(crate) fn add_call(method: Method, code: u8) {
    const UNKNOWN: usize = 2;
    let codes = &ENDED[method.index()];
    codes.get(usize::from(code)).unwrap_or(&codes[UNKNOWN]).fetch_add(1, Ordering::Relaxed);
}

#[cfg(all(test, feature = "tonic"))]
mod tests {
    use super::*;

    #[test]
    fn threads_add_to_one_sum_and_a_difference_is_what_was_between() {
        let method = Method::register(Side::Server, "/counted.Test/Sum");
        let before = CallSnapshot::of_process();
        std::thread::scope(|scope| {
            for _ in 0..SHARDS + 3 {
                scope.spawn(|| {
                    add_messages(method, Direction::Received, 2, 100);
                    add_messages(method, Direction::Sent, 1, 7);
                    add_call(method, 0);
                    add_call(method, 5);
                });
            }
        });
        add_call(method, 200);
        let threads = SHARDS as u64 + 3;
        let counted = CallCounts {
            calls: 2 * threads + 1,
            errors: threads + 1,
            messages_received: 2 * threads,
            messages_sent: threads,
            payload_bytes_received: 100 * threads,
            payload_bytes_sent: 7 * threads,
        };
        assert_eq!(method.call_counts(), counted);
        assert_eq!((counted.messages(), counted.payload_bytes()), (2 * threads, 107 * threads));
        let difference = CallSnapshot::of_process() - before;
        let own: Vec<CallCounts> =
            difference.rows().filter(|(name, _)| name.path == "/counted.Test/Sum").map(|(_, counts)| counts).collect();
        assert_eq!(own, [counted]);
        assert!(difference.messages(Side::Server) >= 2 * threads);
        let codes = method.calls_by_code();
        assert_eq!((codes[0], codes[5], codes[2]), (threads, threads, 1), "a code that is none is UNKNOWN");
        assert_eq!(CODE_NAMES[5], "NOT_FOUND");
    }
}
