//! What was measured of the peers: the same payload without gRPC, round by round.

use alloc_ladder::record::{Limit, Measurement};

/// What the two processes of one case measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BothSides {
    pub(crate) server: Measurement,
    pub(crate) client: Measurement,
}

impl BothSides {
    /// These and what the next two processes measured, as one.
    pub(crate) fn and(self, next: &BothSides) -> BothSides {
        BothSides { server: self.server.and(&next.server), client: self.client.and(&next.client) }
    }
}

/// What a message costs each side, in instructions in user space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct InstructionsPerMessage {
    pub(crate) server: f64,
    pub(crate) client: f64,
}

/// One peer, and what was measured of it so far.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) words: String,
    /// One a round, in round order.
    pub(crate) measured: Vec<BothSides>,
    /// What its server allocates, where it counts.
    pub(crate) counts: Option<Measurement>,
    /// Where instructions were counted.
    pub(crate) instructions: Option<InstructionsPerMessage>,
}

impl Contender {
    /// One figure of each round's server.
    pub(crate) fn server(&self, figure: impl Fn(&Measurement) -> f64) -> Vec<f64> {
        self.measured.iter().map(|sides| figure(&sides.server)).collect()
    }

    /// One figure of each round's client.
    pub(crate) fn client(&self, figure: impl Fn(&Measurement) -> f64) -> Vec<f64> {
        self.measured.iter().map(|sides| figure(&sides.client)).collect()
    }

    /// The peer as a run's record has it.
    pub(crate) fn limit(&self) -> Limit {
        Limit {
            name: self.name.clone(),
            words: self.words.clone(),
            server_cpu_seconds_per_gb: self.server(Measurement::cpu_seconds_per_gb),
            blocks_per_message: self.counts.as_ref().and_then(Measurement::blocks_per_message),
        }
    }
}
