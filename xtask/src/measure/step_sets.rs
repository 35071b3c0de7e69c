//! The step sets a command line names.

use alloc_ladder::subject::ladder::{NoSuchStep, StepSet, apart, every_step, ladder, step};
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

/// What each step changes, where that is not the step before it: a step that is apart stands between those of the ladder,
/// changes the baseline, and has nothing to do with the step after it.
pub(crate) fn changed(scenario: Scenario, sets: &[(String, StepSet)]) -> Vec<Option<String>> {
    let is_apart = |set: &StepSet| match set {
        StepSet::UpTo(name) | StepSet::Only(name) => apart(scenario).iter().any(|(_, step)| step.name == name),
        StepSet::Baseline | StepSet::Without(_) => false,
    };
    let baseline = sets.iter().find(|(_, set)| *set == StepSet::Baseline).map(|(name, _)| name);
    let (mut before, mut climbed) = (None, None);
    let changes = sets.iter().map(|(name, set)| {
        let changed = if is_apart(set) { baseline } else { climbed };
        let elsewhere = changed.filter(|changed| Some(*changed) != before).cloned();
        before = Some(name);
        if !is_apart(set) {
            climbed = Some(name);
        }
        elsewhere
    });
    changes.collect()
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

    #[test]
    fn a_step_that_is_apart_stands_between_two_that_have_nothing_to_do_with_it() {
        let of = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            changed(Scenario::Put, &step_sets(Scenario::Put, &wanted).expect("steps"))
        };
        let baseline = Some("baseline".to_owned());
        let allocators = of(&["baseline", "mimalloc", "jemalloc", "pooled-message", "bytes-field"]);
        assert_eq!(allocators, [None, None, baseline.clone(), baseline.clone(), None]);
        assert_eq!(
            of(&["baseline", "rope", "adaptive-window", "one-frame"]),
            [None, None, baseline, Some("rope".to_owned())]
        );
        assert_eq!(of(&["baseline", "baseline"]), [None, None]);
        assert_eq!(of(&["mimalloc", "rope"]), [None, None], "there is nothing that they change");
    }
}
