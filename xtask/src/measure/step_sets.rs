//! The step sets a command line names.

use alloc_ladder::subject::ladder::{NoSuchStep, StepSet, every_step, ladder, step};
use alloc_ladder::subject::scenario::Scenario;

use crate::cli::failure::{Failure, Kind};
use crate::cli::suggest::{Named, nearest};

/// The step sets to measure, with their names. One that is named again is measured again, as a step of its own: the
/// second `baseline` is `baseline-2`.
pub(crate) fn step_sets(scenario: Scenario, wanted: &[String]) -> anyhow::Result<Vec<(String, StepSet)>> {
    let up_to = |name: &str| match step(scenario, name)? {
        (0, _) => Ok((name.to_owned(), StepSet::Baseline)),
        _ => Ok::<_, NoSuchStep>((name.to_owned(), StepSet::UpTo(name.to_owned()))),
    };
    let sets = if wanted.is_empty() {
        ladder(scenario).iter().map(|step| up_to(step.name)).collect::<Result<Vec<_>, _>>()
    } else {
        let named = |text: &String| match text.parse::<StepSet>() {
            Ok(set) => set.tuning(scenario).map(|_| (text.clone(), set)),
            Err(_) => up_to(text),
        };
        wanted.iter().map(named).collect()
    };
    let mut sets: Vec<(String, StepSet)> = sets.map_err(|error| no_such_step(&error))?;
    for at in 1..sets.len() {
        let times = 1 + sets[..at].iter().filter(|(_, set)| *set == sets[at].1).count();
        if times > 1 {
            sets[at].0 += &format!("-{times}");
        }
    }
    Ok(sets)
}

fn no_such_step(error: &NoSuchStep) -> Failure {
    let names: Vec<&str> = every_step(error.scenario).map(|step| step.name).collect();
    let nearest = nearest(Named::Step, &error.name, names.iter().copied());
    let suggestion = nearest.map_or_else(String::new, |name| format!("did you mean `{name}`? "));
    Failure::new(Kind::Usage, error.to_string()).help(format!("{suggestion}steps: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_named_again_is_a_step_of_its_own() {
        let wanted = ["baseline", "baseline", "rope", "only=rope", "up-to=rope", "baseline"].map(str::to_owned);
        let names: Vec<String> =
            step_sets(Scenario::Put, &wanted).expect("steps").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["baseline", "baseline-2", "rope", "only=rope", "up-to=rope-2", "baseline-3"]);
    }
}
