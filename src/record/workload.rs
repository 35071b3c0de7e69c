//! How much traffic a case makes.

use serde::{Deserialize, Serialize};

/// How much traffic one case makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Payload bytes of one streamed message; unary ignores it.
    pub chunk: usize,
    /// Messages (unary: calls) of the measured part, over all streams.
    pub messages: u64,
    /// Messages per stream before the measured part, and again after it so that both ends are steady state.
    pub warmup: u64,
    /// Concurrent streams (unary: concurrent callers).
    pub streams: u32,
    /// Connections the streams are spread over.
    pub connections: u32,
    /// Messages a handler keeps before it lets the oldest go: a handler that holds on to what it receives.
    pub retain: u32,
    /// Bits a second that each stream is held to where it is timed; `None` where it goes as fast as it can.
    #[serde(default)]
    pub rate_bits: Option<u64>,
    /// What messages are compressed with, both ways; `None` where they are sent as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compression>,
    /// Entries of custom metadata that every unary call carries, and its answer; a stream has its metadata once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub metadata: u32,
    /// Spans of the export that a unary call carries in place of a user, and a message of get in place of a chunk; 0 where
    /// they carry those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spans: u32,
    /// How many messages of a stream are under way at most where the server of put sends every one back, on the stream it
    /// came on; 0 where it sends none. A message and its echo count as one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub echo: u32,
    /// Whether connections are encrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Whether streams stay open with next to nothing to carry, so that what they hold is measured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// Payload bytes of the first message of each stream that stays open; 0 where it is as the others are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub large_first: u32,
    /// The round trip between client and server in microseconds, beside what the machine itself takes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub round_trip_us: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A compression of messages, by the name that gRPC has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Level 6, as tonic has it.
    Gzip,
    /// Level 3, as tonic has it.
    Zstd,
}

impl Compression {
    /// Both.
    pub const ALL: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

    /// The one name.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

impl Workload {
    /// What this traffic has besides messages, streams and connections, each in a few words: `gzip`, `TLS`.
    pub fn special(&self) -> Vec<String> {
        let plural = |count: u32, one: &str, more: &str| match count {
            0 => None,
            1 => Some(format!("one {one}")),
            count => Some(format!("{count} {more}")),
        };
        let words = [
            self.compress.map(|compression| compression.name().to_owned()),
            plural(self.metadata, "entry of metadata", "entries of metadata"),
            plural(self.spans, "span", "spans"),
            (self.echo > 0).then(|| format!("echo, {} under way", self.echo)),
            self.tls.then(|| "TLS".to_owned()),
            self.idle.then(|| "idle".to_owned()),
            (self.large_first > 0).then(|| format!("a first message of {} B", self.large_first)),
            (self.round_trip_us > 0).then(|| format!("round trip {} ms", f64::from(self.round_trip_us) / 1000.0)),
        ];
        words.into_iter().flatten().collect()
    }

    /// Messages each stream carries before, during and after the measured part.
    pub fn messages_per_stream(&self) -> u64 {
        2 * self.warmup + self.messages.div_ceil(u64::from(self.streams))
    }

    /// Payload bytes of all streams, before, during and after the measured part.
    pub fn payload_bytes(&self) -> u64 {
        self.chunk as u64 * self.messages_per_stream() * u64::from(self.streams)
    }
}

impl Default for Workload {
    fn default() -> Self {
        Workload {
            chunk: 64 * 1024,
            messages: 2000,
            warmup: 256,
            streams: 1,
            connections: 1,
            retain: 0,
            rate_bits: None,
            compress: None,
            metadata: 0,
            spans: 0,
            echo: 0,
            tls: false,
            idle: false,
            large_first: 0,
            round_trip_us: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_recorded_before_rates_were_is_of_none() {
        let old = r#"{"chunk": 65536, "messages": 2000, "warmup": 256, "streams": 1, "connections": 1, "retain": 0}"#;
        assert_eq!(serde_json::from_str::<Workload>(old).expect("reads"), Workload::default());
    }

    #[test]
    fn what_is_special_is_said_in_words() {
        assert!(Workload::default().special().is_empty());
        let workload = Workload {
            compress: Some(Compression::Zstd),
            metadata: 10,
            spans: 1,
            echo: 3,
            tls: true,
            idle: true,
            large_first: 70_000,
            round_trip_us: 2500,
            ..Workload::default()
        };
        let words = [
            "zstd",
            "10 entries of metadata",
            "one span",
            "echo, 3 under way",
            "TLS",
            "idle",
            "a first message of 70000 B",
            "round trip 2.5 ms",
        ];
        assert_eq!(workload.special(), words);
        let json = serde_json::to_string(&workload).expect("serialises");
        assert_eq!(serde_json::from_str::<Workload>(&json).expect("reads"), workload);
    }

    #[test]
    fn a_compression_is_written_as_its_name() {
        for compression in Compression::ALL {
            assert_eq!(serde_json::to_value(compression).expect("serialises"), compression.name());
            let workload = Workload { compress: Some(compression), ..Workload::default() };
            let json = serde_json::to_string(&workload).expect("serialises");
            assert_eq!(serde_json::from_str::<Workload>(&json).expect("reads"), workload);
        }
    }
}
