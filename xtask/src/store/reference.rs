//! The study's reference runs: those of the checkout, or where there is none, those that this command was built with.

use alloc_ladder::record::Run;
use alloc_ladder::subject::scenario::Scenario;

use crate::store::{find, layout};

/// The reference run of a scenario.
///
/// # Errors
/// When the checkout has one that cannot be read.
pub(crate) fn run(scenario: Scenario) -> anyhow::Result<Run> {
    let folder = layout::reference(scenario);
    if folder.join(layout::RUN_JSON).is_file() {
        return Ok(find::load(&folder.to_string_lossy())?.1);
    }
    Ok(Run::from_json(built_with(scenario))?)
}

fn built_with(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Put => include_str!("../../../profiles/reference/put/run.json"),
        Scenario::Get => include_str!("../../../profiles/reference/get/run.json"),
        Scenario::Unary => include_str!("../../../profiles/reference/unary/run.json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_one_built_in() {
        for scenario in Scenario::ALL {
            let built = Run::from_json(built_with(scenario)).expect("a run");
            assert_eq!(Scenario::of(&built.subject), Some(scenario));
            assert_eq!(run(scenario).expect("a run"), built, "the checkout's");
        }
    }
}
