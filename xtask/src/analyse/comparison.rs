//! Two runs, or two steps of one, figure by figure: what `compare` says.
//!
//! It refuses to compare what was not measured alike, and never mixes figures of different instruments.

use std::collections::BTreeSet;

use alloc_ladder::record::{Instrument, Run, StepRecord};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use serde::Serialize;

use crate::analyse::environments::json_differences;
use crate::analyse::judge::{self, Judged, JudgedPair};
use crate::analyse::metric::{self, Metric};
use crate::analyse::sites;

/// In what two runs' figures mean different things; empty where they can be compared.
pub(crate) fn differences(old: &Run, new: &Run) -> Vec<String> {
    let mut differ = Vec::new();
    if !old.subject.is_like(&new.subject) {
        let name = |run: &Run| Scenario::of(&run.subject).map_or("another program", Scenario::name);
        differ.push(format!("scenario {} and {}", name(old), name(new)));
    }
    differ.extend(json_differences(&old.workload, &new.workload));
    differ
}

/// The names of the instruments that measured something of a run.
pub(crate) fn instruments(run: &Run) -> Vec<&'static str> {
    let used = |instrument| run.steps.iter().any(|step| step.measurements.iter().any(|m| m.instrument == instrument));
    Instrument::ALL.into_iter().filter(|instrument| used(*instrument)).map(Instrument::name).collect()
}

/// The whole comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The scenario's name, or the program's.
    pub(crate) subject: String,
    pub(crate) old: String,
    pub(crate) new: String,
    pub(crate) alpha: f64,
    pub(crate) steps: Vec<Compared>,
}

impl Report {
    /// The test that times were judged by: rounds of one run are pairs.
    pub(crate) fn test(&self) -> &'static str {
        if self.old == self.new { "Wilcoxon signed-rank over the rounds" } else { "Mann–Whitney" }
    }
}

/// One step, or a pair of steps, compared.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) before: String,
    pub(crate) after: String,
    #[serde(skip)]
    pub(crate) headings: (&'static str, &'static str),
    pub(crate) rows: Vec<ComparedFigure>,
    /// Figures only one of the two has.
    pub(crate) missing: BTreeSet<String>,
    /// The call sites that changed most, by side.
    pub(crate) sites: Vec<sites::Moved>,
}

/// One figure, compared.
#[derive(Debug, Serialize)]
pub(crate) struct ComparedFigure {
    #[serde(serialize_with = "name_of")]
    pub(crate) metric: &'static Metric,
    /// `None` for a figure of the whole case.
    pub(crate) side: Option<Side>,
    /// `None` for the whole side.
    pub(crate) stage: Option<Stage>,
    pub(crate) old: Vec<f64>,
    pub(crate) new: Vec<f64>,
    #[serde(flatten)]
    pub(crate) judged: Judged,
}

fn name_of<S: serde::Serializer>(metric: &&'static Metric, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(metric.name)
}

impl std::ops::Deref for ComparedFigure {
    type Target = Judged;

    fn deref(&self) -> &Judged {
        &self.judged
    }
}

/// What the columns of two steps are called: `old` and `new` of one step measured twice, `before` and `after` of two.
fn headings(before: &StepRecord, after: &StepRecord) -> (&'static str, &'static str) {
    if before.name == after.name { ("old", "new") } else { ("before", "after") }
}

impl Compared {
    pub(crate) fn new(runs: [&Run; 2], before: &StepRecord, after: &StepRecord, alpha: f64) -> Compared {
        let shape = runs[1].subject.shape;
        let headings = headings(before, after);
        let (mut rows, mut missing) = (Vec::new(), BTreeSet::new());
        let telling = |metric: &&Metric| runs.iter().any(|run| metric.says_something_of(run));
        for metric in metric::compared(shape).filter(telling) {
            for side in metric.sides(shape) {
                let whole_case = metric.sides(shape).len() == 1;
                let mut add = |stage: Option<Stage>| {
                    let steps = [before, after];
                    let Some(JudgedPair { old, new, judged }) = judge::steps(&runs, metric, *side, stage, steps, alpha)
                    else {
                        let [old, new] = steps.map(|step| metric.samples(step, *side, stage).len());
                        if old != new {
                            let has = if old == 0 { headings.1 } else { headings.0 };
                            missing.insert(format!("{side} {} figures (only {has})", metric.instrument.name()));
                        }
                        return;
                    };
                    // A stage is worth a line where it explains a change.
                    if stage.is_none() || judged.verdict.moved() {
                        rows.push(ComparedFigure {
                            metric,
                            side: (!whole_case).then_some(*side),
                            stage,
                            old,
                            new,
                            judged,
                        });
                    }
                };
                add(None);
                if metric.shows_stages() {
                    Stage::ALL.into_iter().for_each(|stage| add(Some(stage)));
                }
            }
        }
        Compared { before: before.name.clone(), after: after.name.clone(), headings, rows, missing, sites: Vec::new() }
    }
}

impl Report {
    /// The figures that are judged: stages explain them and are not counted again.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &ComparedFigure> {
        self.steps.iter().flat_map(|step| &step.rows).filter(|row| row.stage.is_none())
    }
}
