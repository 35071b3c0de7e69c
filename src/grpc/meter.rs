//! Counts messages and measures the part between the warm-up and the tail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::Side;
use crate::Stage;
use crate::instrument::{self, Options, Window};
use crate::record::{Measurement, Usage};
use crate::scenario::Workload;
use crate::usage::usage;

/// One process's stopwatch: opened by the last warm-up message, closed by the last measured one.
pub struct Meter {
    side: Side,
    round: u32,
    begin: u64,
    end: u64,
    options: Options,
    seen: AtomicU64,
    bytes: AtomicU64,
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
    bytes: u64,
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
            seen: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            state: Mutex::new(State::Warming(done)),
        };
        (meter, measured)
    }

    /// One more message of `bytes` payload bytes went by.
    pub fn message(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if seen < self.begin || seen > self.end {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if seen == self.begin {
            self.open(&mut state);
        } else if seen == self.end {
            self.close(&mut state);
        } else if let State::Measuring(measuring) = &mut *state {
            measuring.window.sample(seen - self.begin);
        }
    }

    fn open(&self, state: &mut State) {
        let _guard = Stage::Instrument.enter();
        let State::Warming(done) = std::mem::replace(state, State::Done) else { return };
        let bytes = self.bytes.load(Ordering::Relaxed);
        let window = Window::begin(&self.options);
        // The clock starts last, so that opening the window is not in it.
        *state = State::Measuring(Box::new(Measuring { window, bytes, done, started: Instant::now(), usage: usage() }));
    }

    fn close(&self, state: &mut State) {
        let now = Instant::now();
        let used = usage();
        let State::Measuring(measuring) = std::mem::replace(state, State::Done) else { return };
        let _guard = Stage::Instrument.enter();
        let Measuring { window, started, usage, bytes, done } = *measuring;
        let mut measurement = Measurement {
            side: self.side,
            instrument: instrument::INSTRUMENT,
            round: self.round,
            messages: self.end - self.begin,
            payload_bytes: self.bytes.load(Ordering::Relaxed) - bytes,
            wall_ns: u64::try_from((now - started).as_nanos()).unwrap_or(u64::MAX),
            usage: used - usage,
            counts: None,
            setup: None,
            retained: Vec::new(),
            latency: None,
            instructions: None,
        };
        window.end(&mut measurement);
        // The receiver is gone only when the process is already ending.
        let _ = done.send(measurement);
    }
}
