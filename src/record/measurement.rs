//! What one process measured.

use serde::{Deserialize, Serialize};

use super::{CallRow, Counts, Instrument, Retained};
use crate::{Side, Tally};

/// What a server process prints before it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// `host:port`, or a Unix socket's path.
    pub address: String,
}

/// The metrics of one case on one side: what a `server` or `client` process prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The side.
    pub side: Side,
    /// What the build measures.
    pub instrument: Instrument,
    /// Which repetition this is, from 0.
    pub round: u32,
    /// Messages (unary: calls) in the measured part.
    pub messages: u64,
    /// Payload bytes of those messages as this side counted them; 0 where nobody did.
    pub payload_bytes: u64,
    /// Wall time of the measured part.
    pub wall_ns: u64,
    /// What the operating system charged this process for it.
    pub usage: Usage,
    /// Exact counts (`count` builds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// Counts from the start of the process to the measured part: set-up and warm-up, a row of their own (`count` builds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Tally>,
    /// Live memory (`retained` builds).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retained: Vec<Retained>,
    /// Latency percentiles of unary calls as the client saw them (`time` builds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Instructions executed in the measured part (`instructions`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
    /// What went through the process's sockets, where those count it: the study's do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<SocketCalls>,
    /// Streams that were open all the time, where they are what is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_streams: Option<u32>,
    /// What the seams counted of calls, one row a method and side; empty where no seam did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallRow>,
}

impl Measurement {
    /// Nothing measured yet.
    pub fn new(side: Side, instrument: Instrument) -> Measurement {
        Measurement {
            side,
            instrument,
            round: 0,
            messages: 0,
            payload_bytes: 0,
            wall_ns: 0,
            usage: Usage::default(),
            counts: None,
            setup: None,
            retained: Vec::new(),
            latency: None,
            instructions: None,
            socket: None,
            open_streams: None,
            calls: Vec::new(),
        }
    }

    /// This and what another process measured after it, as one: a round whose messages several processes share. A percentile of
    /// all is the mean of theirs, weighted by messages; counts, stacks and retained memory are this one's.
    #[must_use]
    pub fn and(mut self, next: &Measurement) -> Measurement {
        let (own, other) = (self.messages as f64, next.messages as f64);
        let mean =
            |one: u64, another: u64| ((one as f64 * own + another as f64 * other) / (own + other)).round() as u64;
        self.latency = self.latency.zip(next.latency).map(|(one, another)| Latency {
            p50_ns: mean(one.p50_ns, another.p50_ns),
            p99_ns: mean(one.p99_ns, another.p99_ns),
            max_ns: one.max_ns.max(another.max_ns),
        });
        self.messages += next.messages;
        self.payload_bytes += next.payload_bytes;
        self.wall_ns += next.wall_ns;
        self.usage = self.usage.and(next.usage);
        self.socket = self
            .socket
            .zip(next.socket)
            .map(|(own, next)| SocketCalls { reads: own.reads + next.reads, writes: own.writes + next.writes });
        self
    }

    /// CPU seconds, user and system, per 10⁹ payload bytes.
    pub fn cpu_seconds_per_gb(&self) -> f64 {
        self.usage.cpu_ns() as f64 / self.payload_bytes as f64
    }

    /// CPU microseconds, user and system, per message.
    pub fn cpu_us_per_message(&self) -> f64 {
        self.usage.cpu_ns() as f64 / 1e3 / self.messages as f64
    }

    /// Payload gigabytes (10⁹ bytes) per second of wall time.
    pub fn throughput_gb_per_s(&self) -> f64 {
        self.payload_bytes as f64 / self.wall_ns as f64
    }

    /// Messages per second of wall time.
    pub fn messages_per_s(&self) -> f64 {
        self.messages as f64 * 1e9 / self.wall_ns as f64
    }

    /// Blocks allocated per message, without what the instrument allocates.
    pub fn blocks_per_message(&self) -> Option<f64> {
        Some(self.counts.as_ref()?.subject().blocks as f64 / self.messages as f64)
    }

    /// Bytes allocated per message, without what the instrument allocates.
    pub fn bytes_per_message(&self) -> Option<f64> {
        Some(self.counts.as_ref()?.subject().bytes as f64 / self.messages as f64)
    }

    /// Bytes allocated per payload byte, without what the instrument allocates; `None` where the payload is unknown.
    pub fn amplification(&self) -> Option<f64> {
        if self.payload_bytes == 0 {
            return None;
        }
        Some(self.counts.as_ref()?.subject().bytes as f64 / self.payload_bytes as f64)
    }
}

/// What `getrusage` charged a process for the measured part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// User CPU time, microseconds.
    pub user_us: u64,
    /// System CPU time, microseconds.
    pub system_us: u64,
    /// Peak resident set of the whole process, bytes.
    pub rss_bytes_max: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
}

impl Usage {
    /// This and another process's.
    fn and(self, next: Usage) -> Usage {
        Usage {
            user_us: self.user_us + next.user_us,
            system_us: self.system_us + next.system_us,
            rss_bytes_max: self.rss_bytes_max.max(next.rss_bytes_max),
            voluntary_switches: self.voluntary_switches + next.voluntary_switches,
            involuntary_switches: self.involuntary_switches + next.involuntary_switches,
        }
    }

    /// User and system CPU time in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        (self.user_us + self.system_us) * 1000
    }

    /// The kernel's share of the CPU time, 0 to 1; `None` where no time was charged.
    pub fn system_share(&self) -> Option<f64> {
        let all = self.user_us + self.system_us;
        (all > 0).then(|| self.system_us as f64 / all as f64)
    }
}

/// Reads and writes of sockets in the measured part, each of them a system call. Those that moved no bytes, because there
/// were none or there was no room, are not counted, nor is waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketCalls {
    /// Reads that brought bytes.
    pub reads: u64,
    /// Writes that took bytes.
    pub writes: u64,
}

/// Latency percentiles, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Slowest.
    pub max_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_processes_measured_adds_up() {
        let of = |messages: u64, user_us, rss_bytes_max, p50_ns| Measurement {
            messages,
            payload_bytes: 100 * messages,
            wall_ns: 10 * messages,
            usage: Usage { user_us, system_us: 1, rss_bytes_max, voluntary_switches: 3, involuntary_switches: 0 },
            latency: Some(Latency { p50_ns, p99_ns: 2 * p50_ns, max_ns: 9 * p50_ns }),
            socket: Some(SocketCalls { reads: messages, writes: 1 }),
            ..Measurement::new(Side::Client, Instrument::Time)
        };
        let all = of(10, 40, 7000, 100).and(&of(30, 20, 9000, 60)).and(&of(10, 0, 8000, 200));
        assert_eq!((all.messages, all.payload_bytes, all.wall_ns), (50, 5000, 500));
        let Usage { user_us, system_us, rss_bytes_max, voluntary_switches, .. } = all.usage;
        assert_eq!((user_us, system_us, rss_bytes_max, voluntary_switches), (60, 3, 9000, 9));
        assert_eq!(
            all.latency,
            Some(Latency { p50_ns: 96, p99_ns: 192, max_ns: 1800 }),
            "(1,000 + 1,800 + 2,000) / 50"
        );
        assert_eq!(all.socket, Some(SocketCalls { reads: 50, writes: 3 }));
        // What one of them does not have, all do not.
        let silent = Measurement { latency: None, ..of(1, 1, 1, 1) };
        assert_eq!(of(1, 1, 1, 1).and(&silent).latency, None);
    }
}
