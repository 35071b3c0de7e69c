//! The limits without gRPC: the same payload over raw TCP, bare h2 and hyper, as a server and a client process.
//!
//! A ladder's figure says little by itself; beside the cost of moving the same bytes through a socket it says how
//! much of it is gRPC's. So a peer does what a ladder's server does, less the gRPC: it receives or sends
//! `chunk × messages` bytes on one connection and measures itself over the same part of the stream. It knows nothing
//! of protobuf, and nobody reads its payload.
//!
//! The HTTP/2 kinds share one client, built on bare h2: the server is what they differ in.
//!
//! # What is measured
//! A window of the stream in payload bytes: it opens after `warmup` messages and closes
//! `messages` messages later, while the tail is still under way, so that both ends are steady state. Each side counts
//! for itself what it handed to, or took from, the layer below. Connection set-up and the tail are not in it.

use serde::{Deserialize, Serialize};

use crate::Side;
use crate::subject::ladder::{Http2, Reads};
use crate::subject::scenario::{Scenario, Workload};

mod case;
#[cfg(feature = "subject")]
mod http2;
#[cfg(feature = "subject")]
mod hyper;
#[cfg(feature = "subject")]
mod outcome;
#[cfg(feature = "subject")]
pub mod pace;
#[cfg(feature = "subject")]
mod raw;
#[cfg(feature = "subject")]
mod run;
#[cfg(feature = "subject")]
mod settings;
#[cfg(feature = "subject")]
pub mod window;

pub use case::PeerCase;
#[cfg(feature = "subject")]
pub use outcome::PeerError;
#[cfg(feature = "subject")]
pub use run::{connect, serve};

/// Which way the payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The client uploads: the server is a sink.
    Put,
    /// The client downloads: the server is a source.
    Get,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Direction; 2] = [Direction::Put, Direction::Get];

    /// The direction's one name.
    pub const fn name(self) -> &'static str {
        self.scenario().name()
    }

    /// The scenario whose payload goes the same way.
    pub const fn scenario(self) -> Scenario {
        match self {
            Direction::Put => Scenario::Put,
            Direction::Get => Scenario::Get,
        }
    }

    /// The direction in which a scenario's payload goes; `None` where it has none to speak of.
    pub const fn of(scenario: Scenario) -> Option<Direction> {
        match scenario {
            Scenario::Put => Some(Direction::Put),
            Scenario::Get => Some(Direction::Get),
            Scenario::Unary => None,
        }
    }

    /// The side the payload comes from.
    pub const fn sender(self) -> Side {
        match self {
            Direction::Put => Side::Client,
            Direction::Get => Side::Server,
        }
    }
}

/// What a peer is built on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Blocking TCP, a thread.
    RawStd,
    /// TCP on a current-thread tokio runtime: what every ratio is to.
    RawTokio,
    /// Bare h2 with its default settings.
    H2,
    /// Bare h2 with frames above the message size.
    H2Tuned,
    /// hyper's HTTP/2 with its default settings.
    Hyper,
    /// hyper's HTTP/2 with frames above the message size.
    HyperTuned,
    /// The same, reading whole frames: the ladders' `aligned-reads` without gRPC.
    HyperAligned,
}

impl Kind {
    /// Every kind, the barest first.
    pub const ALL: [Kind; 7] =
        [Kind::RawStd, Kind::RawTokio, Kind::H2, Kind::H2Tuned, Kind::Hyper, Kind::HyperTuned, Kind::HyperAligned];

    /// The kind's one name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::RawStd => "raw-std",
            Kind::RawTokio => "raw-tokio",
            Kind::H2 => "h2",
            Kind::H2Tuned => "h2-tuned",
            Kind::Hyper => "hyper",
            Kind::HyperTuned => "hyper-tuned",
            Kind::HyperAligned => "hyper-aligned",
        }
    }

    /// The kind in words, for tables.
    pub const fn words(self) -> &'static str {
        match self {
            Kind::RawStd => "blocking TCP, std",
            Kind::RawTokio => "TCP on a current-thread tokio",
            Kind::H2 => "bare h2, default settings",
            Kind::H2Tuned => "bare h2, frames above the message size",
            Kind::Hyper => "hyper HTTP/2, default settings",
            Kind::HyperTuned => "hyper HTTP/2, frames above the message size",
            Kind::HyperAligned => "hyper HTTP/2, the same with aligned reads",
        }
    }

    /// How the server reads its socket.
    pub const fn reads(self) -> Reads {
        match self {
            Kind::HyperAligned => Reads::Aligned,
            _ => Reads::Stock,
        }
    }

    /// The HTTP/2 settings; stock where there is no HTTP/2.
    pub const fn http2(self) -> Http2 {
        match self {
            Kind::H2Tuned | Kind::HyperTuned | Kind::HyperAligned => Http2::Tuned,
            Kind::RawStd | Kind::RawTokio | Kind::H2 | Kind::Hyper => Http2::Stock,
        }
    }
}

/// How much a peer moves: the part of a [`Workload`] that means something without messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes written at a time.
    pub chunk: usize,
    /// Chunks in the measured part.
    pub messages: u64,
    /// Chunks before the measured part, and again after it.
    pub warmup: u64,
}

impl Traffic {
    /// Payload bytes of the whole stream.
    pub const fn bytes_total(self) -> u64 {
        self.chunk as u64 * (2 * self.warmup + self.messages)
    }
}

impl From<Workload> for Traffic {
    fn from(workload: Workload) -> Traffic {
        Traffic { chunk: workload.chunk, messages: workload.messages, warmup: workload.warmup }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "clap")]
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn names_agree_between_flag_and_json() {
        for kind in Kind::ALL {
            #[cfg(feature = "clap")]
            assert_eq!(kind.to_possible_value().expect("no variant is skipped").get_name(), kind.name());
            assert_eq!(serde_json::to_value(kind).expect("serialises"), kind.name());
        }
        for direction in Direction::ALL {
            #[cfg(feature = "clap")]
            assert_eq!(direction.to_possible_value().expect("no variant is skipped").get_name(), direction.name());
            assert_eq!(serde_json::to_value(direction).expect("serialises"), direction.name());
            assert_eq!(Direction::of(direction.scenario()), Some(direction));
        }
    }
}
