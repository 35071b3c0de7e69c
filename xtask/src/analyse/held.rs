//! A run held to its budgets: which are kept, and what grew where one is not.
//!
//! Only figures the budgets name are looked at. A count is allowed what is written and nothing more unless a tolerance is
//! written beside it.

use alloc_ladder::record::{Run, StepRecord};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use serde::Serialize;

use crate::analyse::budget::{Budget, Budgets};
use crate::analyse::judge;
use crate::analyse::metric::{self, Better};
use crate::analyse::sites;
use crate::analyse::stats;

/// The share of a budget without tolerance from which on it is nearly used up.
const NEAR: f64 = 0.9;

/// One budget, checked.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    #[serde(rename = "budget", serialize_with = "name_of")]
    pub(crate) budget: Budget,
    pub(crate) figure: f64,
    pub(crate) tolerance: f64,
    /// The median of the run's rounds; `None` where the run lacks it.
    pub(crate) measured: Option<f64>,
    /// Of the rounds the one that comes closest to the limit, or is farthest beyond.
    pub(crate) worst: Option<f64>,
    pub(crate) verdict: Kept,
}

fn name_of<S: serde::Serializer>(budget: &Budget, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(budget)
}

/// How a budget was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kept {
    Ok,
    /// Within its tolerance, or nearly used up.
    Near,
    Over,
    /// The run did not measure it.
    Unmeasured,
}

impl Kept {
    pub(crate) fn of(budget: &Budget, measured: f64) -> Kept {
        let Budget { figure, tolerance, .. } = *budget;
        let (beyond, over, used) = match budget.metric.better {
            Better::Less => (measured > figure, measured > figure * (1.0 + tolerance), measured / figure),
            Better::More => (measured < figure, measured < figure * (1.0 - tolerance), figure / measured),
        };
        match () {
            () if over => Kept::Over,
            // A budget with a tolerance states what is usual; one without states a limit.
            () if beyond => Kept::Near,
            () if tolerance == 0.0 && measured != figure && used >= NEAR => Kept::Near,
            () => Kept::Ok,
        }
    }
}

/// The budgets of a run's scenario, in the order they are written.
pub(crate) fn checked(budgets: &Budgets, run: &Run) -> Vec<Checked> {
    let of_run = budgets.all.iter().filter(|budget| Scenario::of(&run.subject) == Some(budget.scenario));
    of_run
        .map(|budget| {
            let samples = step_of(run, budget).map(|step| budget.metric.samples(step, budget.side, budget.stage));
            let samples = samples.filter(|samples| !samples.is_empty());
            let measured = samples.as_deref().map(stats::median);
            let worst = samples.as_deref().map(judge::range).map(|(low, high)| match budget.metric.better {
                Better::Less => high,
                Better::More => low,
            });
            let verdict = measured.map_or(Kept::Unmeasured, |measured| Kept::of(budget, measured));
            Checked { budget: *budget, figure: budget.figure, tolerance: budget.tolerance, measured, worst, verdict }
        })
        .collect()
}

fn step_of<'a>(run: &'a Run, budget: &Budget) -> Option<&'a StepRecord> {
    run.steps.iter().find(|step| step.name == budget.step.name)
}

impl Checked {
    /// The figure that blessing writes: what is usual becomes what was measured. A limit that holds stays as it was
    /// written, for it says what is allowed and not what happened: 0.01 allocations a message are not 0 because one run
    /// had none. A limit that was passed becomes the worst of the rounds, so that the next run may do the same.
    pub(crate) fn blessed(&self) -> Blessed {
        let measured = if self.tolerance > 0.0 { self.measured } else { self.worst };
        match measured {
            None => Blessed::Unmeasured,
            Some(measured) if measured == self.figure => Blessed::Same,
            Some(_) if self.tolerance == 0.0 && self.verdict != Kept::Over => Blessed::Held,
            Some(measured) => Blessed::Becomes(measured),
        }
    }
}

/// What blessing does with a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Blessed {
    /// Writes this figure.
    Becomes(f64),
    /// It says what was measured already.
    Same,
    /// A limit that was not reached.
    Held,
    Unmeasured,
}

/// What grew on one side of a step, against the reference run.
#[derive(Debug, Serialize)]
pub(crate) struct Grown {
    pub(crate) step: String,
    pub(crate) side: Side,
    pub(crate) reference: String,
    /// Blocks and bytes per message of stages that grew: before and after.
    pub(crate) stages: Vec<(Stage, sites::Amount, sites::Amount)>,
    /// Call sites that grew, the largest first; `None` where one of the runs has no stacks.
    pub(crate) sites: Option<Vec<sites::Site>>,
    /// Why nothing can be told, where nothing can.
    pub(crate) unknown: Option<String>,
    #[serde(skip)]
    pub(crate) scenario: Scenario,
}

/// The budgets that a run exceeds.
pub(crate) fn over<'a>(run: &Run, lines: &'a [Checked]) -> Vec<&'a Budget> {
    let over = lines.iter().filter(|line| line.verdict == Kept::Over);
    over.map(|line| &line.budget).filter(|budget| Scenario::of(&run.subject) == Some(budget.scenario)).collect()
}

/// The stages that allocate more than before, by more than rounds differ by: before and after.
pub(crate) fn grown_stages(
    runs: [&Run; 2],
    steps: [&StepRecord; 2],
    side: Side,
) -> Vec<(Stage, sites::Amount, sites::Amount)> {
    let judged = |stage| {
        let of = |metric| judge::steps(&runs, metric, side, Some(stage), steps, judge::ALPHA);
        let (blocks, bytes) = (of(&metric::ALLOCS_PER_MESSAGE)?, of(&metric::BYTES_PER_MESSAGE)?);
        let grew = [&blocks, &bytes].iter().any(|pair| pair.judged.verdict == judge::Verdict::Worse);
        let amount = |blocks: &[f64], bytes: &[f64]| sites::Amount {
            blocks: stats::median(blocks),
            bytes: stats::median(bytes),
        };
        grew.then(|| (stage, amount(&blocks.old, &bytes.old), amount(&blocks.new, &bytes.new)))
    };
    Stage::ALL.into_iter().filter_map(judged).collect()
}
