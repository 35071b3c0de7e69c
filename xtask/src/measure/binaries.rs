//! The programs of a run: one for each instrument and allocator, each built once.

use std::collections::HashMap;

use alloc_ladder::record::Instrument;
use alloc_ladder::subject::ladder::{Allocator, StepSet};
use alloc_ladder::subject::scenario::Scenario;

use crate::cli::terminal::{self, Style};
use crate::measure::build::{Binary, Variant, build_variant};
use crate::measure::interrupt::Cancel;
use crate::measure::plan::Plan;
use crate::measure::remote::Remote;
use crate::measure::{instructions, program};

/// What was built for a run.
#[derive(Debug)]
pub(crate) struct Binaries {
    scenario: Scenario,
    /// The run's allocator, of the steps that choose none.
    allocator: Allocator,
    built: HashMap<(Instrument, Allocator), Binary>,
}

impl Binaries {
    /// Nothing yet.
    pub(crate) fn none(plan: &Plan) -> Binaries {
        Binaries { scenario: plan.scenario, allocator: plan.allocator, built: HashMap::new() }
    }

    /// Builds what the plan's instruments need for these steps, here and where the servers run.
    ///
    /// # Errors
    /// What [`build_variant`] and [`Variant::of`] give.
    pub(crate) fn build(&mut self, plan: &Plan, sets: &[StepSet], remote: Option<&Remote>) -> anyhow::Result<()> {
        let mut built: HashMap<Variant, Binary> = HashMap::new();
        let allocators = self.allocators(sets)?;
        for instrument in &plan.instruments {
            if *instrument == Instrument::Instructions && program::find("valgrind").is_none() {
                terminal::labelled(Style::Warning, "skipped", instructions::MISSING);
                continue;
            }
            for allocator in &allocators {
                // dhat is on the system's alone: steps of another allocator have no stacks.
                if *instrument == Instrument::Stacks && *allocator != self.allocator {
                    continue;
                }
                let variant = Variant::of(*instrument, *allocator)?.for_traffic(&plan.workload);
                let binary = match built.get(&variant) {
                    Some(binary) => binary.clone(),
                    None => {
                        if let Some(remote) = remote {
                            remote.build(*instrument, *allocator, &plan.profile)?;
                        }
                        build_variant(&variant, &plan.profile, &Cancel::default())?
                    }
                };
                built.insert(variant, binary.clone());
                self.built.insert((*instrument, *allocator), binary);
            }
        }
        Ok(())
    }

    /// Whether anything was built for an instrument.
    pub(crate) fn has(&self, instrument: Instrument) -> bool {
        self.built.keys().any(|(built, _)| *built == instrument)
    }

    /// The program that a step needs; `None` where there is none of its allocator and the instrument together.
    ///
    /// # Errors
    /// When the ladder lacks the step.
    pub(crate) fn of(&self, set: &StepSet, instrument: Instrument) -> anyhow::Result<Option<&Binary>> {
        Ok(self.built.get(&(instrument, self.allocator(set)?)))
    }

    /// The allocators of all steps, each once.
    fn allocators(&self, sets: &[StepSet]) -> anyhow::Result<Vec<Allocator>> {
        let mut all = Vec::new();
        for set in sets {
            let allocator = self.allocator(set)?;
            if !all.contains(&allocator) {
                all.push(allocator);
            }
        }
        Ok(all)
    }

    /// What a step's programs ask for memory: the step's own choice, or else the run's.
    fn allocator(&self, set: &StepSet) -> anyhow::Result<Allocator> {
        let own = set.tuning(self.scenario)?.allocator;
        Ok(if own.is_system() { self.allocator } else { own })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_its_own_allocator_and_else_the_runs() {
        let sets = ["baseline", "up-to=mimalloc", "up-to=rope", "only=jemalloc"].map(|set| set.parse().expect("a set"));
        let of = |allocator| {
            let plan = Plan { allocator, ..Plan::new(Scenario::Put, Vec::new()) };
            Binaries::none(&plan).allocators(&sets).expect("steps of put")
        };
        assert_eq!(of(Allocator::System), Allocator::ALL);
        assert_eq!(of(Allocator::Jemalloc), [Allocator::Jemalloc, Allocator::Mimalloc]);
    }
}
