//! What a process is measured with.

use std::ffi::CStr;

use serde::{Deserialize, Serialize};

/// What a process measures. Figures of different instruments are never mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Instrument {
    /// CPU seconds, throughput, latency: the plain allocator.
    Time,
    /// Exact counts and bytes per stage: [`CountingAlloc`](crate::CountingAlloc).
    Count,
    /// Call sites: dhat.
    Stacks,
    /// Live bytes per allocating stage: tracking-allocator.
    Retained,
    /// Where CPU time goes: a sampling profiler inside the process, beside the plain allocator.
    Cpu,
    /// What one allocation in so many bytes costs: the sampler for production, installed and not read.
    Sampled,
    /// Instructions executed: callgrind around a `time` process.
    Instructions,
}

impl Instrument {
    /// Every instrument.
    pub const ALL: [Instrument; 7] = [
        Instrument::Time,
        Instrument::Count,
        Instrument::Stacks,
        Instrument::Retained,
        Instrument::Cpu,
        Instrument::Sampled,
        Instrument::Instructions,
    ];

    /// The environment variable that says what a process measures with, read at its first allocation.
    pub const VARIABLE: &CStr = c"ALLOC_LADDER_INSTRUMENT";

    /// The variable and its value that make a process measure with this.
    pub fn environment(self) -> (&'static str, &'static str) {
        (Instrument::VARIABLE.to_str().expect("its name is ASCII"), self.name())
    }

    /// The instrument's one name.
    pub const fn name(self) -> &'static str {
        match self {
            Instrument::Time => "time",
            Instrument::Count => "count",
            Instrument::Stacks => "stacks",
            Instrument::Retained => "retained",
            Instrument::Cpu => "cpu",
            Instrument::Sampled => "sampled",
            Instrument::Instructions => "instructions",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Side, Stage};

    #[test]
    fn names_agree_between_json_and_name() {
        for instrument in Instrument::ALL {
            assert_eq!(serde_json::to_value(instrument).expect("serialises"), instrument.name());
        }
        for stage in Stage::ALL {
            assert_eq!(serde_json::to_value(stage).expect("serialises"), stage.name());
        }
        for side in Side::ALL {
            assert_eq!(serde_json::to_value(side).expect("serialises"), side.name());
        }
    }

    #[cfg(feature = "clap")]
    #[test]
    fn names_agree_between_flag_and_name() {
        use clap::ValueEnum;

        let flag =
            |value: Option<clap::builder::PossibleValue>| value.expect("no variant is skipped").get_name().to_owned();
        for instrument in Instrument::ALL {
            assert_eq!(flag(instrument.to_possible_value()), instrument.name());
        }
        for stage in Stage::ALL {
            assert_eq!(flag(stage.to_possible_value()), stage.name());
        }
        for side in Side::ALL {
            assert_eq!(flag(side.to_possible_value()), side.name());
        }
    }
}
