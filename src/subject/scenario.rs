//! What is measured: the RPC shape, how much of it, and which steps are on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Side;
pub use crate::record::Workload;
use crate::record::{Shape, Subject};

/// The congestion control of the study's connections: what Linux has unless told otherwise. A kernel that was told to take BBR
/// paces what is sent, even on loopback, to a rate that each connection finds for itself; what a message costs then differs
/// by a fifth from one connection to the next, and stays so for as long as the connection lasts.
pub const CONGESTION: &str = "cubic";

/// The RPC shape. One name everywhere: flag, JSON, folder, bench id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
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
            Scenario::Put => Rpc::Put.path(),
            Scenario::Get => Rpc::Get.path(),
            Scenario::Unary => Rpc::CreateUser.path(),
        }
    }

    /// What its traffic looks like.
    pub const fn shape(self) -> Shape {
        match self {
            Scenario::Put => Shape::Upload,
            Scenario::Get => Shape::Download,
            Scenario::Unary => Shape::Unary,
        }
    }

    /// What a record says a run of it is of.
    pub fn subject(self) -> Subject {
        Subject { name: self.name().to_owned(), shape: self.shape() }
    }

    /// The scenario that a record says a run is of; `None` for anything else, a program of the same name included.
    pub fn of(subject: &Subject) -> Option<Scenario> {
        Scenario::ALL.into_iter().find(|scenario| scenario.name() == subject.name && scenario.shape() == subject.shape)
    }

    /// What one message is called in tables: unary counts calls.
    pub const fn message_noun(self) -> &'static str {
        self.shape().message_noun()
    }

    /// The side that receives the payload: its receive ladder is the scenario's subject.
    pub const fn receiver(self) -> Side {
        self.shape().receiver()
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A method of the study's service: each scenario's own, and what put calls where its messages come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rpc {
    /// `Put(stream Chunk)`.
    Put,
    /// `Get(GetRequest) returns (stream Chunk)`.
    Get,
    /// `CreateUser(User) returns (User)`.
    CreateUser,
    /// `Echo(stream Chunk) returns (stream Chunk)`.
    Echo,
}

impl Rpc {
    /// Every method.
    pub const ALL: [Rpc; 4] = [Rpc::Put, Rpc::Get, Rpc::CreateUser, Rpc::Echo];

    /// What a scenario calls for this traffic.
    pub const fn of(scenario: Scenario, workload: &Workload) -> Rpc {
        match scenario {
            Scenario::Put if workload.echo > 0 => Rpc::Echo,
            Scenario::Put => Rpc::Put,
            Scenario::Get => Rpc::Get,
            Scenario::Unary => Rpc::CreateUser,
        }
    }

    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Rpc::Put => "/ladder.v1.Ladder/Put",
            Rpc::Get => "/ladder.v1.Ladder/Get",
            Rpc::CreateUser => "/ladder.v1.Ladder/CreateUser",
            Rpc::Echo => "/ladder.v1.Ladder/Echo",
        }
    }

    /// Whether the client receives payload.
    pub const fn client_receives(self) -> bool {
        matches!(self, Rpc::Get | Rpc::Echo)
    }
}

impl From<Scenario> for Rpc {
    fn from(scenario: Scenario) -> Rpc {
        Rpc::of(scenario, &Workload::default())
    }
}

/// tonic's default limit on a received message, in bytes (`DEFAULT_MAX_RECV_MESSAGE_SIZE` in tonic's codec).
pub const RECEIVE_LIMIT: usize = 4 * 1024 * 1024;

/// The largest chunk payload in bytes that passes [`RECEIVE_LIMIT`]: the limit less the field's tag and length.
pub const CHUNK_MAX: usize = RECEIVE_LIMIT - 1 - length_prefix_bytes(RECEIVE_LIMIT);

/// The most entries of custom metadata that a call of the study carries.
pub const METADATA_MAX: u32 = 16;

/// The most spans that an export of the study carries: some 2.5 MB.
pub const SPANS_MAX: u32 = 10_000;

/// Bytes that each span of an export takes, with what stands before it.
pub const SPAN_BYTES: usize = 203;

/// Bytes of the varint that says `len`.
pub const fn length_prefix_bytes(len: usize) -> usize {
    let bits = (usize::BITS - len.leading_zeros()) as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "clap")]
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn names_agree_between_flag_json_and_display() {
        for scenario in Scenario::ALL {
            #[cfg(feature = "clap")]
            assert_eq!(scenario.to_possible_value().expect("no variant is skipped").get_name(), scenario.name());
            assert_eq!(serde_json::to_value(scenario).expect("serialises"), scenario.name());
        }
    }

    #[test]
    fn a_subject_names_its_scenario_and_a_program_of_that_name_does_not() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::of(&scenario.subject()), Some(scenario));
        }
        assert_eq!(Scenario::of(&Subject { name: "put".to_owned(), shape: Shape::Program }), None);
    }

    #[test]
    fn the_largest_chunk_fills_the_receive_limit_exactly() {
        assert_eq!(CHUNK_MAX, 4_194_299);
        assert_eq!(CHUNK_MAX + 1 + length_prefix_bytes(CHUNK_MAX), RECEIVE_LIMIT);
    }
}
