//! How the times of a run were taken.

use serde::{Deserialize, Serialize};

/// How the times of a run were taken, and what else the machine did meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Messages (unary: calls) of a timed round, of the step that carried most of them: each carries as many as take a while.
    pub messages: u64,
    /// Processes that shared them, one after the other; 0 for one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub processes: u32,
    /// Rounds that were measured before those of the record and thrown away.
    pub discarded: u32,
    /// Seconds that the rounds might take; `None` for a fixed number of rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_seconds: Option<u64>,
    /// The cores that a server was held to; none if it was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_cores: Vec<usize>,
    /// The same of a server whose runtime has several threads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_cores_of_many: Vec<usize>,
    /// The cores that a client was held to; none if it was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_cores: Vec<usize>,
    /// The congestion control of the connections; `None` where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub congestion: Option<String>,
    /// What governs the clock of the first core; `None` where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Processes that ran or waited to, over the minute before the first round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_average: Option<f64>,
    /// The share of the machine's time that its host took away during the rounds, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal_share: Option<f64>,
    /// The share of the machine's time that other programs took during the rounds, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_share: Option<f64>,
}

const fn is_zero(number: &u32) -> bool {
    *number == 0
}
