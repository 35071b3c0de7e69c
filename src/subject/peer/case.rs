//! One peer's case as data, in one flag, `--case JSON`: the counterpart of the study's own [`Case`].
//!
//! [`Case`]: crate::subject::case::Case

use serde::{Deserialize, Serialize};

use super::{Direction, Kind, Traffic};
use crate::Side;
use crate::record::Instrument;
use crate::subject::case::BadCase;

/// What one side of a peer is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerCase {
    /// Which side the process is.
    pub side: Side,
    /// What to build on.
    pub kind: Kind,
    /// Which way the payload goes.
    pub direction: Direction,
    /// How much of it.
    pub traffic: Traffic,
    /// What the process measures with.
    pub instrument: Instrument,
    /// Where a server listens (port 0 takes a free one), or what a client connects to: what the server printed.
    pub address: String,
    /// Bits of payload a second that a client sends, or reads, at most.
    pub rate_bits: Option<u64>,
}

impl PeerCase {
    /// Refuses traffic of which nothing could be measured.
    ///
    /// # Errors
    /// [`BadCase::Nothing`] says what there is none of.
    pub fn check(&self) -> Result<(), BadCase> {
        BadCase::check(&[
            (self.traffic.messages, "messages"),
            (self.traffic.chunk as u64, "bytes of a message"),
            (self.rate_bits.unwrap_or(u64::MAX), "bits a second"),
        ])
    }

    /// The case as `--case` takes it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and names are JSON")
    }

    /// Reads what [`to_json`](PeerCase::to_json) wrote.
    ///
    /// # Errors
    /// When the text is not a peer's case.
    pub fn from_json(text: &str) -> Result<PeerCase, serde_json::Error> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_as_it_was_written() {
        let case = PeerCase {
            side: Side::Client,
            kind: Kind::HyperAligned,
            direction: Direction::Get,
            traffic: Traffic { chunk: 65_536, messages: 2000, warmup: 64 },
            instrument: Instrument::Count,
            address: "127.0.0.1:4000".to_owned(),
            rate_bits: None,
        };
        assert_eq!(PeerCase::from_json(&case.to_json()).expect("reads"), case);
    }
}
