//! What is measured: the RPC shape, how much of it, and which steps are on.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::Side;

/// The RPC shape. One name everywhere: flag, JSON, folder, bench id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Client-streaming upload: `Put(stream Chunk)`.
    Put,
    /// Server-streaming download: `Get(GetRequest) returns (stream Chunk)`.
    Get,
    /// One request, one response: `CreateUser`.
    Unary,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Scenario; 3] = [Scenario::Put, Scenario::Get, Scenario::Unary];

    /// The scenario's one name.
    pub const fn name(self) -> &'static str {
        match self {
            Scenario::Put => "put",
            Scenario::Get => "get",
            Scenario::Unary => "unary",
        }
    }

    /// The shape in words, for headings.
    pub const fn words(self) -> &'static str {
        match self {
            Scenario::Put => "client-streaming upload",
            Scenario::Get => "server-streaming download",
            Scenario::Unary => "unary CreateUser",
        }
    }

    /// The RPC method's path.
    pub const fn path(self) -> &'static str {
        match self {
            Scenario::Put => "/ladder.v1.Ladder/Put",
            Scenario::Get => "/ladder.v1.Ladder/Get",
            Scenario::Unary => "/ladder.v1.Ladder/CreateUser",
        }
    }

    /// What one message is called in tables: unary counts calls.
    pub const fn message_noun(self) -> &'static str {
        match self {
            Scenario::Put | Scenario::Get => "message",
            Scenario::Unary => "call",
        }
    }

    /// The side that receives the payload: its receive ladder is the scenario's subject.
    pub const fn receiver(self) -> Side {
        match self {
            Scenario::Put | Scenario::Unary => Side::Server,
            Scenario::Get => Side::Client,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// tonic's default limit on a received message, in bytes (`DEFAULT_MAX_RECV_MESSAGE_SIZE` in tonic's codec).
pub const RECEIVE_LIMIT: usize = 4 * 1024 * 1024;

/// The largest chunk payload in bytes that passes [`RECEIVE_LIMIT`]: the limit less the field's tag and length.
pub const CHUNK_MAX: usize = RECEIVE_LIMIT - 1 - length_prefix_bytes(RECEIVE_LIMIT);

/// Bytes of the varint that says `len`.
pub const fn length_prefix_bytes(len: usize) -> usize {
    let bits = (usize::BITS - len.leading_zeros()) as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

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
}

impl Workload {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_between_flag_json_and_display() {
        for scenario in Scenario::ALL {
            let value = scenario.to_possible_value().expect("no variant is skipped");
            assert_eq!(value.get_name(), scenario.name());
            assert_eq!(serde_json::to_value(scenario).expect("serialises"), scenario.name());
        }
    }

    #[test]
    fn a_workload_recorded_before_rates_were_is_of_none() {
        let old = r#"{"chunk": 65536, "messages": 2000, "warmup": 256, "streams": 1, "connections": 1, "retain": 0}"#;
        assert_eq!(serde_json::from_str::<Workload>(old).expect("reads"), Workload::default());
    }

    #[test]
    fn the_largest_chunk_fills_the_receive_limit_exactly() {
        assert_eq!(CHUNK_MAX, 4_194_299);
        assert_eq!(CHUNK_MAX + 1 + length_prefix_bytes(CHUNK_MAX), RECEIVE_LIMIT);
    }
}
