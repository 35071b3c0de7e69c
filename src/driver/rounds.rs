//! Opening and closing the windows of a program that runs, by what its seams counted or by the clock.
//!
//! The driver's thread looks at the counters some forty times a window, and more often towards its end, by the rate so far.
//! So a window is a little longer than was asked for, and its record says how long it was: figures per message are of the
//! messages that were counted. What passes while the counters are read, some tens of microseconds, may be on one side of
//! an edge and not on the other.
//!
//! The clock of a warm-up, where that is a time, starts with the first message: a server waits for its load. In a program
//! without a seam it starts with the driver.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::usage::usage;
use super::window::{Amount, Window, window_error_file, window_file};
use super::{INTERVAL, Peak, instrument_of, write_whole};
use crate::method::{self, CallSnapshot};
use crate::record::{CallRow, Counts, HeapSample, Instrument, Measurement, Usage};
use crate::{Side, Snapshot};

/// How long the driver's thread sleeps where no messages come.
const IDLE: Duration = Duration::from_millis(5);
/// How long it sleeps at least.
const LOOK_MIN: Duration = Duration::from_micros(500);
/// Looks at a window at least, which are also the points of its heap curve.
const LOOKS: u32 = 32;
/// Points of the heap curve at most.
const HEAP_MAX: usize = 256;

/// The windows of this process.
#[derive(Debug)]
pub(super) struct Rounds {
    window: Window,
    side: Side,
    folder: PathBuf,
    process: u32,
    name: String,
    peak: Peak,
    state: State,
    closed: u32,
    /// Read at every look.
    calls: CallSnapshot,
    /// Why a window could not be written.
    trouble: Option<String>,
}

#[derive(Debug)]
enum State {
    Warming {
        /// When time began.
        began: Option<Instant>,
        pace: Pace,
    },
    Open(Box<Open>),
    Done,
}

/// A window that is open.
#[derive(Debug)]
struct Open {
    before: Snapshot,
    /// For the counters when it closes.
    after: Snapshot,
    calls: CallSnapshot,
    /// Messages before it opened.
    messages: u64,
    usage: Usage,
    began: Instant,
    heap: Vec<HeapSample>,
    pace: Pace,
}

/// How fast messages come.
#[derive(Clone, Copy, Debug)]
struct Pace {
    at: Instant,
    messages: u64,
}

impl Pace {
    fn new(messages: u64) -> Pace {
        Pace { at: Instant::now(), messages }
    }

    /// How long to sleep, now that there are so many messages: half of what `left` of `length` take by the rate so far.
    fn sleep(&self, messages: u64, left: u64, length: u64) -> Duration {
        let came = messages.saturating_sub(self.messages);
        if came == 0 {
            return IDLE;
        }
        let each = self.at.elapsed().as_secs_f64() / came as f64;
        let next = (left as f64 / 2.0).min(length as f64 / f64::from(LOOKS));
        Duration::from_secs_f64((each * next).clamp(LOOK_MIN.as_secs_f64(), INTERVAL.as_secs_f64()))
    }
}

impl Rounds {
    pub(super) fn new(window: Window, side: Side, folder: PathBuf, process: u32, name: String, peak: Peak) -> Rounds {
        let calls = CallSnapshot::of_process();
        let state = State::Warming { began: None, pace: Pace::new(calls.messages(side)) };
        Rounds { window, side, folder, process, name, peak, state, closed: 0, calls, trouble: None }
    }

    /// Opens and closes what is due; says when to look again.
    pub(super) fn look(&mut self) -> Duration {
        loop {
            self.calls.read();
            let messages = self.calls.messages(self.side);
            let left = match &mut self.state {
                State::Done => return INTERVAL,
                State::Warming { began, pace } => {
                    if messages > 0 || !method::has_seam(self.side) {
                        began.get_or_insert_with(Instant::now);
                    }
                    match (self.window.warmup, began) {
                        (Amount::Messages(warmup), _) if messages < warmup => {
                            pace.sleep(messages, warmup - messages, warmup)
                        }
                        (Amount::Messages(_), _) => Duration::ZERO,
                        (Amount::Time(_), None) => IDLE,
                        (Amount::Time(warmup), Some(began)) => warmup.saturating_sub(began.elapsed()),
                    }
                }
                State::Open(open) => open.look(messages, self.window.length),
            };
            if !left.is_zero() {
                return left.min(INTERVAL);
            }
            match std::mem::replace(&mut self.state, State::Done) {
                State::Open(open) => self.close(*open),
                _ => self.open(),
            }
        }
    }

    fn open(&mut self) {
        self.state = State::Open(Box::new(Open::new(self.side, &mut self.peak)));
    }

    /// Closes a window, writes it, and opens the next: what writing costs is in none.
    fn close(&mut self, open: Open) {
        let n = self.closed;
        let measurement = Measurement { round: n, ..open.close(self.side, n == 0) };
        let file = window_file(&self.folder, self.process, &self.name, n);
        match write_whole(&file, &measurement) {
            Ok(()) => self.closed += 1,
            Err(error) => {
                self.trouble = Some(format!("cannot write window {n} to {}: {error}", file.display()));
                return;
            }
        }
        if self.closed < self.window.rounds {
            self.open();
        }
    }

    /// The program ends: says what is missing.
    pub(super) fn finish(mut self) {
        self.look();
        let Some(missing) = self.missing() else { return };
        say(&self.folder, self.process, &self.name, &missing);
    }

    /// Why there are fewer windows than were asked for.
    fn missing(&self) -> Option<String> {
        if let Some(trouble) = &self.trouble {
            return Some(trouble.clone());
        }
        let Window { warmup, length, rounds } = self.window;
        let messages = self.calls.messages(self.side);
        let (what, counted, of) = match &self.state {
            State::Done => return None,
            State::Warming { .. } => ("no window was opened: the warm-up".to_owned(), messages, warmup),
            State::Open(open) => {
                let what = format!("{} of {rounds} windows closed: the next", self.closed);
                (what, messages.saturating_sub(open.messages), length)
            }
        };
        let seen = match of {
            Amount::Messages(of) => format!("{what} had {counted} of {of} messages when the program ended"),
            Amount::Time(of) => format!("{what}, of {} s, had not passed when the program ended", of.as_secs_f64()),
        };
        let help = if method::has_seam(self.side) {
            "make more calls, or ask for less"
        } else {
            "no seam counts calls on this side: put alloc_ladder::tonic's layer around the service, or ask for seconds"
        };
        Some(format!("{seen}; {help}"))
    }
}

/// Writes why there are fewer windows than were asked for. Nobody is told where that fails too.
pub(super) fn say(folder: &std::path::Path, process: u32, name: &str, words: &str) {
    let _ = std::fs::write(window_error_file(folder, process, name), format!("{words}\n"));
}

impl Open {
    /// Its memory is there before the counters are read, and the clock starts last: opening a window is not in it.
    fn new(side: Side, peak: &mut Peak) -> Open {
        let (mut before, after) = (Snapshot::empty(), Snapshot::empty());
        let mut calls = CallSnapshot::empty();
        let mut heap = Vec::with_capacity(HEAP_MAX);
        heap.push(HeapSample { messages: 0, live_bytes: Snapshot::live_bytes() });
        peak.begin();
        before.read();
        calls.read();
        let messages = calls.messages(side);
        Open { before, after, calls, messages, pace: Pace::new(messages), heap, usage: usage(), began: Instant::now() }
    }

    /// How much is left of it; zero when it is over.
    fn look(&mut self, messages: u64, length: Amount) -> Duration {
        let came = messages.saturating_sub(self.messages);
        if self.heap.len() < HEAP_MAX && self.heap.last().is_none_or(|last| last.messages < came) {
            self.heap.push(HeapSample { messages: came, live_bytes: Snapshot::live_bytes() });
        }
        match length {
            Amount::Messages(length) if came < length => self.pace.sleep(messages, length - came, length),
            Amount::Messages(_) => Duration::ZERO,
            Amount::Time(length) => length.saturating_sub(self.began.elapsed()).min(length / LOOKS),
        }
    }

    fn close(mut self, side: Side, first: bool) -> Measurement {
        let wall = self.began.elapsed();
        let used = usage() - self.usage;
        let mut calls = CallSnapshot::empty();
        calls.read();
        self.after.read();
        let (peak_bytes, peak_slack_bytes) = Snapshot::peak_bytes();
        let calls = calls - self.calls;
        let setup = self.before.total_without_instrument();
        let counted = self.after - self.before;
        let instrument = instrument_of(&counted);
        let is_counted = instrument == Instrument::Count;
        let counts = Counts { peak_bytes, peak_slack_bytes, heap: self.heap, ..Counts::from(&counted) };
        Measurement {
            messages: calls.messages(side),
            payload_bytes: calls.payload_bytes(side),
            wall_ns: wall.as_nanos() as u64,
            usage: used,
            counts: is_counted.then_some(counts),
            setup: (is_counted && first).then_some(setup),
            calls: CallRow::all(&calls),
            ..Measurement::new(side, instrument)
        }
    }
}
