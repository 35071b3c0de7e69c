//! The measured part of a stream, in payload bytes.
//!
//! Outside its two edges it costs an addition and two comparisons a call; at each edge the clock, `getrusage` and the
//! chosen [instrument] are read once. The instrument closes its record right at the edge, which
//! may allocate: after the window, never in it.

use std::time::Instant;

use super::Traffic;
use crate::Side;
use crate::driver::instrument;
use crate::driver::usage::usage;
use crate::record::{Measurement, Usage};

/// Watches payload go by and measures from one position to another.
#[derive(Debug)]
pub struct Window {
    side: Side,
    messages: u64,
    opens: u64,
    closes: u64,
    position: u64,
    opened: Option<Opened>,
    measured: Option<Measurement>,
}

#[derive(Debug)]
struct Opened {
    at: Instant,
    usage: Usage,
    position: u64,
    instrument: instrument::Window,
}

impl Window {
    /// The window of `traffic` as `side` sees it; nothing has gone by yet.
    pub fn new(side: Side, traffic: Traffic) -> Window {
        let opens = traffic.chunk as u64 * traffic.warmup;
        Window {
            side,
            messages: traffic.messages,
            opens,
            closes: opens + traffic.chunk as u64 * traffic.messages,
            position: 0,
            opened: None,
            measured: None,
        }
    }

    /// `bytes` more of payload went by.
    #[inline]
    pub fn advance(&mut self, bytes: usize) {
        self.position += bytes as u64;
        if self.position >= self.opens && self.measured.is_none() {
            self.measure();
        }
    }

    /// Payload bytes so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn measure(&mut self) {
        if self.opened.is_none() {
            let instrument = instrument::Window::begin(&instrument::Options {
                messages: self.messages,
                ..instrument::Options::default()
            });
            self.opened = Some(Opened { at: Instant::now(), usage: usage(), position: self.position, instrument });
        } else if self.position >= self.closes
            && let Some(opened) = self.opened.take()
        {
            let mut measurement = Measurement {
                messages: self.messages,
                payload_bytes: self.position - opened.position,
                wall_ns: opened.at.elapsed().as_nanos() as u64,
                usage: usage() - opened.usage,
                ..Measurement::new(self.side, instrument::chosen())
            };
            opened.instrument.end(&mut measurement);
            self.measured = Some(measurement);
        }
    }

    /// What was measured; `None` when the stream ended before the window closed.
    pub fn finish(self) -> Option<Measurement> {
        self.measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAFFIC: Traffic = Traffic { chunk: 100, messages: 10, warmup: 2 };

    #[test]
    fn the_window_is_the_bytes_between_its_edges_wherever_reads_end() {
        let mut window = Window::new(Side::Server, TRAFFIC);
        let mut left = TRAFFIC.bytes_total();
        while left > 0 {
            let read = left.min(70);
            window.advance(read as usize);
            left -= read;
        }
        assert_eq!(window.position(), 1400);
        let measured = window.finish().expect("the stream was complete");
        // It opened at 210, the first read at or past 200, and closed at 1260, the first at or past 1200.
        assert_eq!(measured.payload_bytes, 1050);
        assert_eq!(measured.messages, 10);
    }

    #[test]
    fn a_stream_that_ends_early_measures_nothing() {
        let mut window = Window::new(Side::Client, TRAFFIC);
        window.advance(1100);
        window.advance(99);
        assert!(window.finish().is_none());
    }

    #[test]
    fn without_warm_up_the_window_opens_with_the_first_bytes() {
        let traffic = Traffic { warmup: 0, ..TRAFFIC };
        let mut window = Window::new(Side::Client, traffic);
        for _ in 0..traffic.messages {
            window.advance(traffic.chunk);
        }
        // The first chunk opens the window, so it is not in it.
        assert_eq!(window.finish().expect("complete").payload_bytes, 900);
    }
}
