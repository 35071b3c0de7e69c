//! Holding a stream to a rate: a token bucket, kept by the clock alone.
//!
//! A link of a given speed is imitated by the client: it sends, or reads, no faster than the rate, and flow control
//! holds the other side to the same. It costs one clock reading a call. Timers are coarse (tokio's tick is a
//! millisecond), so what a late wake-up missed may be made up for, up to [`BURST_BYTES`] at once: the mean is exact,
//! the spacing is not that of a wire.

use std::time::{Duration, Instant};

/// How far a stream may catch up after a late wake-up: some 7 ms of 5 Gbit/s.
pub const BURST_BYTES: u64 = 4 << 20;

/// A stream's pace.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    bits_per_second: u64,
    /// When the bytes so far are due, at the rate.
    due: Instant,
}

impl Pace {
    /// A pace of `bits_per_second` from now on; the rate must not be zero.
    pub fn new(bits_per_second: u64) -> Pace {
        assert!(bits_per_second > 0, "a rate of zero never ends");
        Pace { bits_per_second, due: Instant::now() }
    }

    /// Accounts for `bytes` and says when they may go; `None` for at once.
    pub fn next(&mut self, bytes: usize) -> Option<Instant> {
        self.next_at(bytes, Instant::now())
    }

    fn next_at(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let may_go = self.due.max(now.checked_sub(self.span(BURST_BYTES)).unwrap_or(now));
        self.due = may_go + self.span(bytes as u64);
        (may_go > now).then_some(may_go)
    }

    fn span(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.bits_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Blocks the thread until `bytes` may go.
    pub fn wait_blocking(&mut self, bytes: usize) {
        if let Some(at) = self.next(bytes) {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
    }

    /// Waits until `bytes` may go.
    pub async fn wait(&mut self, bytes: usize) {
        if let Some(at) = self.next(bytes) {
            tokio::time::sleep_until(at.into()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_due_when_the_rate_says_so() {
        let mut pace = Pace::new(8_000_000);
        let start = pace.due;
        assert_eq!(pace.next_at(1000, start), None);
        assert_eq!(pace.next_at(500, start), Some(start + Duration::from_millis(1)));
        assert_eq!(pace.next_at(1, start), Some(start + Duration::from_micros(1500)));
    }

    #[test]
    fn a_late_stream_catches_up_by_one_burst_and_no_more() {
        let mut pace = Pace::new(8_000_000);
        let late = pace.due + Duration::from_secs(100);
        let mut sent = 0;
        while pace.next_at(1 << 20, late).is_none() {
            sent += 1u64 << 20;
        }
        assert_eq!(sent, BURST_BYTES + (1 << 20), "the burst and the chunk that is due now");
    }
}
