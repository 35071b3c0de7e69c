//! Quantities as people write them on a command line: rates and sizes with units.

use std::str::FromStr;
use std::time::Duration;

/// Bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let scale = match &text[digits.len()..] {
            "kbit" => 1e3,
            "mbit" => 1e6,
            "gbit" => 1e9,
            _ => return Err("a rate is a number and kbit, mbit or gbit, as in 5gbit".to_owned()),
        };
        let bits = digits.parse::<f64>().map_err(|error| error.to_string())? * scale;
        if (1e6..=1e12).contains(&bits) {
            Ok(Rate(bits as u64))
        } else {
            Err("a rate is from 1mbit to 1000gbit".to_owned())
        }
    }
}

impl Rate {
    pub(crate) fn gbit(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// How long so many bytes take.
    pub(crate) fn takes(self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 * 8.0 / self.0 as f64)
    }

    /// The part of each of so many streams.
    pub(crate) fn shared_by(self, streams: u32) -> Rate {
        Rate((self.0 / u64::from(streams)).max(1))
    }
}

/// The most seconds that a flag takes: a day. More is a slip, and near 2⁶⁴ no clock can add it.
pub(crate) const SECONDS_MAX: u64 = 86_400;
/// The most messages of a case. More would take hours, and the clients' latencies gigabytes.
pub(crate) const MESSAGES_MAX: u64 = 100_000_000;

/// How a rate is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// The client sends, or reads, no faster; over loopback.
    Paced,
    /// Two network namespaces joined by a veth pair shaped with tc (needs root).
    Veth,
}

impl Mode {
    /// The share of the rate that must get through as payload for the link to count as full: headers take a part of
    /// a shaped wire, none of a paced sender.
    pub(crate) fn full(self) -> f64 {
        match self {
            Mode::Paced => 0.97,
            Mode::Veth => 0.92,
        }
    }
}

/// A number of bytes as a reader writes it: `32760`, `64KiB`, `1MiB`, `2GiB`; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err("a size is a number of bytes, KiB, MiB or GiB, as in 32760 or 64KiB".to_owned()),
        };
        match digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit)) {
            Some(0) => Err("a size is at least 1 byte".to_owned()),
            Some(bytes) => Ok(Size(bytes)),
            None => Err(format!("`{digits}` is not a valid number, or too large")),
        }
    }
}

/// A time between two ends as a reader writes it, `10ms` or `500us`: from 0.1 ms to a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoundTrip {
    pub(crate) micros: u32,
}

impl FromStr for RoundTrip {
    type Err = String;

    fn from_str(text: &str) -> Result<RoundTrip, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "us" => 1,
            "ms" => 1000,
            _ => return Err("a round trip is a whole number of ms or us, as in 10ms".to_owned()),
        };
        match digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit)) {
            Some(micros @ 100..=1_000_000) => Ok(RoundTrip { micros }),
            _ => Err("a round trip is from 100us to 1000ms".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<RoundTrip>().map(|round_trip| round_trip.micros);
        assert_eq!((read("10ms"), read("500us")), (Ok(10_000), Ok(500)));
        for bad in ["", "10", "0ms", "10s", "1.5ms", "99us", "1001ms", "-1ms"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(read("32760"), Ok(32_760));
        assert_eq!(read("4KiB"), Ok(4096));
        assert_eq!(read("1MiB"), Ok(1 << 20));
        assert_eq!(read("4GiB"), Ok(4 << 30));
        for bad in ["", "KiB", "0", "0MiB", "4kb", "-1", "99999999999999999999", "18014398509481984KiB"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
