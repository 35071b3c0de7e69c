//! Counts messages and measures the part between the warm-up and the tail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::Side;
use crate::Stage;
use crate::driver::instrument::{self, Options, Window};
use crate::driver::usage::usage;
use crate::record::{Instrument, Measurement, SocketCalls, Usage};
use crate::subject::scenario::Workload;
use crate::subject::socket;

/// One process's stopwatch: opened by the last warm-up message, closed by the last measured one.
pub struct Meter {
    side: Side,
    round: u32,
    begin: u64,
    end: u64,
    options: Options,
    /// Streams that are open all the time, where they are what is measured.
    open_streams: Option<u32>,
    /// Messages that went by.
    seen: AtomicU64,
    /// Of the measured part, payload bytes and then messages: when all its messages are in, so are their bytes.
    bytes: AtomicU64,
    measured: AtomicU64,
    state: Mutex<State>,
}

enum State {
    Warming(oneshot::Sender<Measurement>),
    Measuring(Box<Measuring>),
    Done,
}

struct Measuring {
    window: Window,
    started: Instant,
    usage: Usage,
    socket: SocketCalls,
    done: oneshot::Sender<Measurement>,
}

impl Meter {
    /// A meter for one side of a case, and what it will have measured.
    pub fn new(
        side: Side,
        workload: &Workload,
        round: u32,
        options: Options,
    ) -> (Meter, oneshot::Receiver<Measurement>) {
        let (done, measured) = oneshot::channel();
        let begin = workload.warmup * u64::from(workload.streams);
        let meter = Meter {
            side,
            round,
            begin,
            end: begin + workload.messages,
            options,
            open_streams: workload.idle.then_some(workload.streams),
            seen: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            state: Mutex::new(State::Warming(done)),
        };
        (meter, measured)
    }

    /// Whether the measured part is over.
    pub fn is_done(&self) -> bool {
        matches!(*self.lock(), State::Done)
    }

    /// One more message of `bytes` payload bytes went by.
    pub fn message(&self, bytes: usize) {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if seen < self.begin || seen > self.end {
            return;
        }
        if seen == self.begin {
            return self.open(&mut self.lock());
        }
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        // Release and acquire: the last one sees the bytes of all.
        if self.measured.fetch_add(1, Ordering::AcqRel) + 1 == self.end - self.begin {
            return self.close();
        }
        // PERF: no lock for a message where time is measured.
        if instrument::chosen() == Instrument::Count
            && let State::Measuring(measuring) = &mut *self.lock()
        {
            measuring.window.sample(seen - self.begin);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, state: &mut State) {
        let _guard = Stage::Instrument.enter();
        let State::Warming(done) = std::mem::replace(state, State::Done) else { return };
        let window = Window::begin(&self.options);
        // The clock starts last, so that opening the window is not in it.
        *state = State::Measuring(Box::new(Measuring {
            window,
            done,
            socket: socket::calls(),
            started: Instant::now(),
            usage: usage(),
        }));
    }

    fn close(&self) {
        let now = Instant::now();
        let used = usage();
        let calls = socket::calls();
        let measuring = loop {
            let mut state = self.lock();
            match std::mem::replace(&mut *state, State::Done) {
                State::Measuring(measuring) => break measuring,
                // Another thread's message opens the measured part and has not come to it yet.
                warming @ State::Warming(_) => *state = warming,
                State::Done => return,
            }
            drop(state);
            std::thread::yield_now();
        };
        let _guard = Stage::Instrument.enter();
        let Measuring { window, started, usage, socket, done } = *measuring;
        let mut measurement = Measurement {
            round: self.round,
            messages: self.end - self.begin,
            payload_bytes: self.bytes.load(Ordering::Relaxed),
            wall_ns: u64::try_from((now - started).as_nanos()).unwrap_or(u64::MAX),
            usage: used - usage,
            socket: Some(SocketCalls { reads: calls.reads - socket.reads, writes: calls.writes - socket.writes }),
            open_streams: self.open_streams,
            ..Measurement::new(self.side, instrument::chosen())
        };
        window.end(&mut measurement);
        // The receiver is gone only when the process is already ending.
        let _ = done.send(measurement);
    }
}
