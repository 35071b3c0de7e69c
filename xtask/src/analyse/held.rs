//! A run held to its budgets: which are kept, and what grew where one is not.
//!
//! Only figures the budgets name are looked at. A count is allowed what is written and nothing more unless a tolerance is
//! written beside it.

use std::collections::BTreeSet;

use alloc_ladder::record::{Counts, Measurement, Run, Shape, StepRecord};
use alloc_ladder::{Side, Stage};
use serde::Serialize;

use crate::analyse::budget::{Budget, Budgets, Place};
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
    /// The line of the file that it stands in, counted from 1.
    pub(crate) line: usize,
    pub(crate) figure: f64,
    pub(crate) tolerance: f64,
    /// The median of the run's rounds; `None` where the run lacks it.
    pub(crate) measured: Option<f64>,
    /// Of the rounds the one that comes closest to the limit, or is farthest beyond.
    pub(crate) worst: Option<f64>,
    pub(crate) verdict: Kept,
    /// What the run lacks, where it did not measure it.
    #[serde(skip)]
    pub(crate) missing: Option<Missing>,
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

/// What a run lacks of what a budget is for: which name, and those that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Step(Vec<String>),
    Side(Vec<String>),
    Method(Vec<String>),
    /// Everything was counted under one stage.
    Stages,
    /// The place is there, and the figure was not taken.
    Figure,
}

impl Missing {
    /// What of a budget a run lacks.
    fn of(run: &Run, budget: &Budget) -> Missing {
        let Place { step, side, method, stage, .. } = &budget.place;
        let Some(found) = run.steps.iter().find(|found| found.name == *step) else {
            return Missing::Step(run.steps.iter().map(|step| step.name.clone()).collect());
        };
        let counts = || found.measurements.iter().filter_map(|measured| Some((measured, measured.counts.as_ref()?)));
        if let Some(method) = method {
            let rows = counts().flat_map(|(measured, counts)| counts.rows.iter().map(move |row| (measured.side, row)));
            let here = rows.filter(|(own, row)| !row.rpc.is_empty() && row.side.unwrap_or(*own) == *side);
            let names: BTreeSet<&String> = here.map(|(_, row)| &row.rpc).collect();
            if !names.contains(method) {
                return Missing::Method(names.into_iter().cloned().collect());
            }
        }
        let sides: BTreeSet<Side> = found.measurements.iter().map(|measured| measured.side).collect();
        match () {
            () if !sides.contains(side) => Missing::Side(sides.iter().map(|side| side.name().to_owned()).collect()),
            () if stage.is_some() && counts().all(|(_, counts)| !tells_stages(counts)) => Missing::Stages,
            () => Missing::Figure,
        }
    }

    /// In words: what is not there, the name that was asked for, and those that are there.
    pub(crate) fn words(&self, budget: &Budget) -> (String, Option<(String, &[String])>) {
        let Place { step, side, method, .. } = &budget.place;
        let (what, name, names) = match self {
            Missing::Step(names) => ("step", step.clone(), names),
            Missing::Side(names) => ("side", side.name().to_owned(), names),
            Missing::Method(names) => ("method", method.clone().unwrap_or_default(), names),
            Missing::Stages => {
                return ("the run does not tell stages apart: the program has no seams".to_owned(), None);
            }
            Missing::Figure => return (format!("the run has no {} there", budget.metric.label), None),
        };
        (format!("the run has no {what} `{name}`"), Some((name, names)))
    }
}

/// The budgets of a run's subject, in the order they are written.
pub(crate) fn checked(budgets: &Budgets, run: &Run) -> Vec<Checked> {
    let of_run = budgets.all.iter().filter(|budget| budget.is_for(run));
    of_run
        .map(|budget| {
            let step = run.steps.iter().find(|step| step.name == budget.place.step);
            let samples = step.map(|step| samples(run, step, budget)).filter(|samples| !samples.is_empty());
            let measured = samples.as_deref().map(stats::median);
            let worst = samples.as_deref().map(judge::range).map(|(low, high)| match budget.metric.better {
                Better::Less => high,
                Better::More => low,
            });
            let verdict = measured.map_or(Kept::Unmeasured, |measured| Kept::of(budget, measured));
            let missing = measured.is_none().then(|| Missing::of(run, budget));
            let Budget { line, figure, tolerance, .. } = *budget;
            Checked { budget: budget.clone(), line, figure, tolerance, measured, worst, verdict, missing }
        })
        .collect()
}

/// The figures of a budget's place, one a round.
fn samples(run: &Run, step: &StepRecord, Budget { place, metric, .. }: &Budget) -> Vec<f64> {
    let Place { side, method, stage, .. } = place;
    // A program without seams has one stage, and nothing in any other says nothing.
    let is_told = |measured: &&Measurement| {
        run.subject.shape != Shape::Program
            || stage.is_none_or(|stage| stage == Stage::Other)
            || measured.counts.as_ref().is_some_and(tells_stages)
    };
    let measured = step.measurements.iter().filter(is_told);
    match method {
        Some(method) => measured.filter_map(|measured| metric.take_of(measured, *side, method, *stage)).collect(),
        None => measured.filter(|m| m.side == *side).filter_map(|m| metric.take(m, *stage)).collect(),
    }
}

/// Whether counts are of more stages than one, or of nothing.
fn tells_stages(counts: &Counts) -> bool {
    let told = |stage: Stage| !matches!(stage, Stage::Other | Stage::Instrument);
    counts.subject().blocks == 0 || counts.rows.iter().any(|row| told(row.stage) && row.tally.blocks > 0)
}

/// The share that a new budget of a count lets figures vary by: what calls allocate varies with how the kernel delivers
/// them.
const COUNTS_VARY: f64 = 0.05;
/// The same for the peak of the heap, which varies with how many calls overlap.
const PEAK_VARIES: f64 = 0.25;

/// The usual budgets of the steps of a program's run that have none: blocks and bytes of each side and of each of its
/// methods, and the peak of its heap.
pub(crate) fn usual(budgets: &Budgets, run: &Run) -> Vec<Budget> {
    let has = |name: &str| budgets.all.iter().any(|budget| budget.is_for(run) && budget.place.step == name);
    let mut usual = Vec::new();
    for step in run.steps.iter().filter(|step| !has(&step.name)) {
        let mut places: Vec<(Side, Option<&str>)> = Vec::new();
        for (measured, counts) in step.measurements.iter().filter_map(|m| Some((m, m.counts.as_ref()?))) {
            let methods = counts.rows.iter().filter(|row| !row.rpc.is_empty());
            let methods = methods.map(|row| (row.side.unwrap_or(measured.side), Some(row.rpc.as_str())));
            for place in std::iter::once((measured.side, None)).chain(methods) {
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
        places.sort_by_key(|(side, method)| (*side, *method));
        for (side, method) in places {
            for (metric, tolerance) in [
                (&metric::ALLOCS_PER_MESSAGE, COUNTS_VARY),
                (&metric::BYTES_PER_MESSAGE, COUNTS_VARY),
                (&metric::PEAK_HEAP, PEAK_VARIES),
            ] {
                let (subject, name) = (run.subject.name.clone(), step.name.clone());
                let place = Place { subject, step: name, side, method: method.map(str::to_owned), stage: None };
                let mut budget = Budget { place, metric, figure: 0.0, tolerance, line: 0 };
                let samples = samples(run, step, &budget);
                if samples.is_empty() {
                    continue;
                }
                // As many digits as a person would write, and rounded up: what was measured keeps to it.
                budget.figure = (stats::median(&samples) * 1e4).ceil() / 1e4;
                if budget.figure == 0.0 {
                    // A share of nothing is nothing.
                    budget.tolerance = 0.0;
                }
                usual.push(budget);
            }
        }
    }
    usual
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

/// What grew on one side of a step, against the reference run. Where there is none, what is largest.
#[derive(Debug, Serialize)]
pub(crate) struct Grown {
    pub(crate) step: String,
    pub(crate) side: Side,
    /// Empty where there is none.
    pub(crate) reference: String,
    /// Blocks and bytes per message of stages that grew: before and after.
    pub(crate) stages: Vec<(Stage, sites::Amount, sites::Amount)>,
    /// Call sites that grew, or the largest there are, first those that are most; `None` where one of the runs has no
    /// stacks.
    pub(crate) sites: Option<Vec<sites::Site>>,
    /// Whether these are the largest: there is no reference, or no site grew.
    pub(crate) largest: bool,
    /// Why nothing can be told, where nothing can.
    pub(crate) unknown: Option<String>,
    #[serde(skip)]
    pub(crate) subject: String,
}

/// The budgets that a run exceeds.
pub(crate) fn over<'a>(run: &Run, lines: &'a [Checked]) -> Vec<&'a Budget> {
    let over = lines.iter().filter(|line| line.verdict == Kept::Over);
    over.map(|line| &line.budget).filter(|budget| budget.is_for(run)).collect()
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
