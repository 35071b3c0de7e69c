//! One case as data: what one process of the study is told, in one flag, `--case JSON`.
//!
//! Whoever starts a process builds a [`Case`], sets the environment variable of its instrument
//! ([`Instrument::environment`]), and passes [`Case::to_json`]. Both ends are built together, so the format has no
//! versions and no defaults.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ladder::{Glue, NoSuchStep, Runtime, StepSet, Tuning};
use super::scenario::{CHUNK_MAX, METADATA_MAX, SPANS_MAX, Scenario, Workload};
use crate::record::Instrument;

/// What the server or the client of one case is told. Where both are told the same, they measure the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The RPC shape.
    pub scenario: Scenario,
    /// Which steps are on.
    pub set: StepSet,
    /// The traffic.
    pub workload: Workload,
    /// What the process measures with.
    pub instrument: Instrument,
    /// Which repetition this is, from 0, for the record.
    pub round: u32,
    /// The server's runtime, whatever the steps say.
    pub runtime: Option<Runtime>,
    /// Where a server listens (`host:port`; port 0 takes a free one), or what a client connects to: what the server
    /// printed, `host:port` or a Unix socket's path.
    pub address: String,
    /// Where `stacks` writes dhat's JSON, and `cpu` its folded stacks.
    pub stacks_file: Option<PathBuf>,
}

impl Case {
    /// A case of the scenario as it comes: stock, timed, on any free port.
    pub fn new(scenario: Scenario) -> Case {
        Case {
            scenario,
            set: StepSet::Baseline,
            workload: Workload::default(),
            instrument: Instrument::Time,
            round: 0,
            runtime: None,
            address: "127.0.0.1:0".to_owned(),
            stacks_file: None,
        }
    }

    /// What differs from stock.
    ///
    /// # Errors
    /// [`BadCase`] when the ladder lacks a named step, or nothing could be measured of the workload.
    pub fn tuning(&self) -> Result<Tuning, BadCase> {
        let Workload { messages, warmup, streams, connections, rate_bits, metadata, spans, idle, .. } = self.workload;
        let Workload { chunk, large_first, .. } = self.workload;
        BadCase::check(&[
            (messages, "messages"),
            (warmup, "warm-up messages"),
            (u64::from(streams), "streams"),
            (u64::from(connections), "connections"),
            (chunk as u64, "bytes of a message"),
            (rate_bits.unwrap_or(u64::MAX), "bits a second"),
        ])?;
        let largest = chunk.max(large_first as usize);
        if largest > CHUNK_MAX {
            return Err(BadCase::Chunk(largest));
        }
        if large_first > 0 && !idle {
            return Err(BadCase::LargeFirst);
        }
        if metadata > METADATA_MAX || spans > SPANS_MAX {
            return Err(BadCase::TooMuch);
        }
        let elsewhere = match self.scenario {
            Scenario::Put => metadata > 0 || spans > 0,
            Scenario::Get => metadata > 0 || idle,
            Scenario::Unary => idle,
        };
        if elsewhere {
            return Err(BadCase::Elsewhere(self.scenario));
        }
        let Workload { echo, compress, retain, .. } = self.workload;
        if echo > 0 && (self.scenario != Scenario::Put || idle || compress.is_some() || retain > 0) {
            return Err(BadCase::Echo);
        }
        let mut tuning = self.set.tuning(self.scenario)?;
        if let Some(runtime) = self.runtime {
            tuning.runtime = runtime;
        }
        if tuning.glue == Glue::ByHand && !can_be_by_hand(&self.workload) {
            return Err(BadCase::ByHand);
        }
        Ok(tuning)
    }

    /// The case as `--case` takes it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, names and UTF-8 paths are JSON")
    }

    /// Reads what [`to_json`](Case::to_json) wrote.
    ///
    /// # Errors
    /// When the text is not a case.
    pub fn from_json(text: &str) -> Result<Case, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// Whether code that is written by hand carries this traffic: it knows of no compression and no metadata.
pub fn can_be_by_hand(workload: &Workload) -> bool {
    workload.compress.is_none() && workload.metadata == 0
}

/// Why nothing can be measured of a case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCase {
    /// A number is 0 that must not be.
    #[error("there is nothing to measure in 0 {0}")]
    Nothing(&'static str),
    /// tonic would refuse the messages.
    #[error("a chunk of {0} bytes exceeds tonic's receive limit; at most {CHUNK_MAX} bytes fit")]
    Chunk(usize),
    /// More is asked of a message than the study has.
    #[error("a call carries at most {METADATA_MAX} entries of metadata and {SPANS_MAX} spans")]
    TooMuch,
    /// Traffic that only another scenario has.
    #[error("metadata is unary's, spans are unary's and get's, idle streams are put's; `{0}` has others")]
    Elsewhere(Scenario),
    /// An echo of what does not come back.
    #[error("an echo is of put's messages, neither idle nor compressed nor kept")]
    Echo,
    /// Only streams that stay open have a first message of its own.
    #[error("a large first message is for streams that stay open")]
    LargeFirst,
    /// A step is to carry what it cannot.
    #[error("what is written by hand carries no metadata and does not compress")]
    ByHand,
    /// The ladder lacks a named step.
    #[error(transparent)]
    Step(#[from] NoSuchStep),
}

impl BadCase {
    /// Refuses the first number that is 0.
    pub(super) fn check(numbers: &[(u64, &'static str)]) -> Result<(), BadCase> {
        let zero = numbers.iter().find(|(number, _)| *number == 0);
        zero.map_or(Ok(()), |(_, what)| Err(BadCase::Nothing(what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Compression;

    #[test]
    fn a_case_is_read_as_it_was_written() {
        let case = Case {
            set: StepSet::UpTo("rope".to_owned()),
            runtime: Some(Runtime::PerCore),
            stacks_file: Some("stacks/dhat.json".into()),
            workload: Workload { rate_bits: Some(5_000_000_000), ..Workload::default() },
            ..Case::new(Scenario::Put)
        };
        assert_eq!(Case::from_json(&case.to_json()).expect("reads"), case);
        assert!(Case::from_json(&case.to_json().replacen("{", "{\"more\": 1, ", 1)).is_err(), "one way to say it");
    }

    #[test]
    fn a_case_in_which_nothing_happens_is_refused() {
        let of = |workload| Case { workload, ..Case::new(Scenario::Get) }.tuning();
        let stock = Workload::default();
        assert_eq!(of(stock), Ok(Tuning::default()));
        assert_eq!(of(Workload { messages: 0, ..stock }), Err(BadCase::Nothing("messages")));
        assert_eq!(of(Workload { chunk: CHUNK_MAX + 1, ..stock }), Err(BadCase::Chunk(CHUNK_MAX + 1)));
        let set = StepSet::UpTo("by-hand".to_owned());
        let workload = Workload { compress: Some(Compression::Gzip), ..stock };
        assert_eq!(Case { set: set.clone(), workload, ..Case::new(Scenario::Unary) }.tuning(), Err(BadCase::ByHand));
        let workload = Workload { metadata: 1, ..stock };
        assert_eq!(Case { set, workload, ..Case::new(Scenario::Unary) }.tuning(), Err(BadCase::ByHand));
        assert_eq!(of(workload), Err(BadCase::Elsewhere(Scenario::Get)));
        let workload = Workload { spans: SPANS_MAX + 1, ..stock };
        assert_eq!(Case { workload, ..Case::new(Scenario::Unary) }.tuning(), Err(BadCase::TooMuch));
        let echo = Workload { echo: 1, ..stock };
        assert_eq!(of(echo), Err(BadCase::Echo), "get sends nothing that could come back");
        assert_eq!(Case { workload: echo, ..Case::new(Scenario::Put) }.tuning(), Ok(Tuning::default()));
        let workload = Workload { compress: Some(Compression::Gzip), ..echo };
        assert_eq!(Case { workload, ..Case::new(Scenario::Put) }.tuning(), Err(BadCase::Echo));
        let workload = Workload { large_first: 1 << 20, ..stock };
        assert_eq!(of(workload), Err(BadCase::LargeFirst));
        let workload = Workload { idle: true, ..workload };
        assert_eq!(Case { workload, ..Case::new(Scenario::Put) }.tuning(), Ok(Tuning::default()));
        let workload = Workload { large_first: 5 << 20, ..workload };
        assert_eq!(Case { workload, ..Case::new(Scenario::Put) }.tuning(), Err(BadCase::Chunk(5 << 20)));
        let set = StepSet::Only("step".to_owned());
        assert!(matches!(Case { set, ..Case::new(Scenario::Get) }.tuning(), Err(BadCase::Step(_))));
    }
}
