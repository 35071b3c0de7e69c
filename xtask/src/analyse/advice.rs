//! What is left of a run, and the steps that were measured to take it away.
//!
//! Nothing is claimed without its number. What a step does is read from two measured steps of a run that differ in that
//! step alone. A step helps where the stage has less by more than rounds differ by, of bytes or of blocks, and not more
//! of the other.

use alloc_ladder::record::{Run, StepRecord};
use alloc_ladder::subject::ladder::{Step, StepSet, ladder};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use serde::Serialize;

use crate::analyse::environments::environments;
use crate::analyse::judge::{self, ALPHA, Verdict};
use crate::analyse::metric::{self, ALLOCS_PER_MESSAGE, BYTES_PER_MESSAGE};
use crate::analyse::parts::{PARTS, Part};
use crate::analyse::sites::Amount;
use crate::analyse::stats;
use crate::cli::numbers;

/// What is left, and what takes it away.
#[derive(Debug, Serialize)]
pub(crate) struct Advice {
    pub(crate) run: String,
    pub(crate) step: String,
    /// The largest stage by bytes, and where it is another one, the largest by blocks.
    pub(crate) left: Vec<Left>,
}

/// One stage that still allocates.
#[derive(Debug, Serialize)]
pub(crate) struct Left {
    pub(crate) side: Side,
    pub(crate) stage: Stage,
    pub(crate) amount: Amount,
    /// Nobody said how many messages there were, so that the amount is of the whole run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) whole_run: bool,
    /// Of everything the two sides allocate, 0 to 1.
    pub(crate) share_of_bytes: f64,
    pub(crate) share_of_blocks: f64,
    /// The steps that were measured to reduce it, the one that takes most first; then those meant to.
    pub(crate) steps: Vec<NextStep>,
    /// Measured steps that are meant for it and do not reduce it.
    pub(crate) in_vain: Vec<NextStep>,
}

/// A step that is not on yet.
#[derive(Debug, Serialize)]
pub(crate) struct NextStep {
    /// Whose ladder it is on; `None` for a step that any service takes.
    pub(crate) scenario: Option<Scenario>,
    pub(crate) name: &'static str,
    pub(crate) cost: &'static str,
    /// Where it does harm, of a step that any service takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_when: Option<&'static str>,
    /// The line to write.
    pub(crate) switch: &'static str,
    /// Where it is described.
    pub(crate) file: String,
    pub(crate) evidence: Option<Evidence>,
    /// What else shows it: of a step for any service, what it takes in the study's other scenarios.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) more: Vec<Evidence>,
}

/// What two steps that differ in one step measured.
#[derive(Debug, Serialize)]
pub(crate) struct Evidence {
    pub(crate) run: String,
    /// The steps.
    pub(crate) before_step: String,
    pub(crate) after_step: String,
    /// Of the stage, per message.
    pub(crate) before: Amount,
    pub(crate) after: Amount,
    /// Whether that is less, by what rounds differ by anyhow.
    pub(crate) bytes: Verdict,
    pub(crate) blocks: Verdict,
    /// What else became better or worse.
    pub(crate) besides: Vec<Besides>,
    /// The study's scenario that it is from, where the run that is advised on is of something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) study: Option<Scenario>,
    /// In what the machine, or the build, is another one than the run's that is advised on; empty where it is the same.
    pub(crate) elsewhere: Vec<String>,
}

/// A figure that moved besides.
#[derive(Debug)]
pub(crate) struct Besides {
    metric: &'static str,
    /// With the figures.
    pub(crate) words: String,
}

impl Serialize for Besides {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.words)
    }
}

impl Advice {
    /// What is left of a run after a step that was counted.
    pub(crate) fn of(run: &Run, found: &StepRecord, references: &[Run]) -> Advice {
        let mut left = largest(run, found);
        for left in &mut left {
            let (steps, in_vain) = match Scenario::of(&run.subject) {
                Some(scenario) => steps(run, scenario, found, references, left.side, left.stage),
                None => parts(run, found, references, left.side, left.stage),
            };
            (left.steps, left.in_vain) = (steps, in_vain);
        }
        Advice { run: run.id.clone(), step: found.name.clone(), left }
    }
}

/// The stage with the most bytes and the stage with the most blocks, over both sides. What a program does beside its
/// calls is passed over where there are calls: no step takes it away.
fn largest(run: &Run, step: &StepRecord) -> Vec<Left> {
    let amounts: Vec<(Side, Stage, Amount)> = Side::ALL
        .into_iter()
        .flat_map(|side| Stage::ALL.map(|stage| (side, stage)))
        .filter(|(_, stage)| *stage != Stage::Instrument)
        .filter_map(|(side, stage)| Some((side, stage, amount(step, side, stage)?)))
        .collect();
    let total = |pick: fn(&Amount) -> f64| amounts.iter().map(|(_, _, amount)| pick(amount)).sum::<f64>();
    let (bytes, blocks) = (total(|amount| amount.bytes), total(|amount| amount.blocks));
    let is_call = |stage: Stage| Scenario::of(&run.subject).is_some() || stage != Stage::Other;
    let calls = amounts.iter().any(|(_, stage, amount)| is_call(*stage) && amount.blocks > 0.0);
    let most = |pick: fn(&Amount) -> f64| {
        let some = amounts.iter().filter(|(_, stage, amount)| pick(amount) > 0.0 && (is_call(*stage) || !calls));
        some.max_by(|a, b| pick(&a.2).total_cmp(&pick(&b.2)))
    };
    let mut largest: Vec<_> =
        [most(|amount| amount.bytes), most(|amount| amount.blocks)].into_iter().flatten().collect();
    largest.dedup_by_key(|(side, stage, _)| (*side, *stage));
    let left = largest.into_iter().map(|(side, stage, amount)| Left {
        side: *side,
        stage: *stage,
        amount: *amount,
        whole_run: Scenario::of(&run.subject).is_none() && run.workload.messages == 1,
        share_of_bytes: amount.bytes / bytes,
        share_of_blocks: amount.blocks / blocks,
        steps: Vec::new(),
        in_vain: Vec::new(),
    });
    left.collect()
}

/// What a stage of a side allocates per message; `None` where the side was not counted.
fn amount(step: &StepRecord, side: Side, stage: Stage) -> Option<Amount> {
    let median = |samples: Vec<f64>| (!samples.is_empty()).then(|| stats::median(&samples));
    Some(Amount {
        blocks: median(ALLOCS_PER_MESSAGE.samples(step, side, Some(stage)))?,
        bytes: median(BYTES_PER_MESSAGE.samples(step, side, Some(stage)))?,
    })
}

/// Steps that help or might, and those that were measured in vain.
type Sorted = (Vec<NextStep>, Vec<NextStep>);

/// Sorts steps by what was measured of them, those that take most first; the flag says that one is meant for the stage.
/// One that was measured to help nothing, and is not meant to, is left out.
fn sorted(steps: impl Iterator<Item = (NextStep, bool)>) -> Sorted {
    let (mut helpful, mut in_vain) = (Vec::new(), Vec::new());
    for (step, meant) in steps {
        match (step.evidence.as_ref().map(Evidence::reduces), meant) {
            (Some(true), _) | (None, true) => helpful.push(step),
            (Some(false), true) => in_vain.push(step),
            (Some(false) | None, false) => {}
        }
    }
    helpful.sort_by(|a, b| {
        let taken = |step: &NextStep| step.evidence.as_ref().map_or((f64::NEG_INFINITY, 0.0), Evidence::taken);
        let ((a_bytes, a_blocks), (b_bytes, b_blocks)) = (taken(a), taken(b));
        b_bytes.total_cmp(&a_bytes).then(b_blocks.total_cmp(&a_blocks))
    });
    (helpful, in_vain)
}

/// The steps above a step of the study that concern a stage.
fn steps(run: &Run, scenario: Scenario, from: &StepRecord, references: &[Run], side: Side, stage: Stage) -> Sorted {
    let steps = ladder(scenario).iter().enumerate().skip(1);
    sorted(steps.filter(|(index, step)| !is_on(&from.set, scenario, *index, step)).map(|(index, step)| {
        let runs = std::iter::once(run).chain(references).filter(|run| Scenario::of(&run.subject) == Some(scenario));
        let found = runs.filter_map(|of| Some((of, evidence(of, scenario, index, side, stage)?))).next();
        let evidence = found.map(|(of, evidence)| Evidence { elsewhere: environments(run, of), ..evidence });
        let next = NextStep {
            scenario: Some(scenario),
            name: step.name,
            cost: step.cost,
            not_when: None,
            switch: step.switch,
            file: step.file.to_owned(),
            evidence,
            more: Vec::new(),
        };
        (next, step.reduces == Some((side, stage)))
    }))
}

/// The steps for anybody that concern a stage of a program. What they take is read from the program's own steps where one
/// is called so, and from the study where not.
fn parts(run: &Run, from: &StepRecord, references: &[Run], side: Side, stage: Stage) -> Sorted {
    let reached = run.steps.iter().position(|step| step.name == from.name).unwrap_or(0);
    let is_on = |part: &Part| run.steps[..=reached].iter().any(|step| part.is_called(&step.name));
    let parts = PARTS.iter().filter(|part| !is_on(part));
    sorted(parts.filter_map(|part| {
        let own = (0..run.steps.len()).filter(|step| part.is_called(&run.steps[*step].name));
        let own = own.filter_map(|step| Some([run.before(step)?, step].map(|index| &run.steps[index])));
        let own = own.filter_map(|pair| between(run, pair, side, stage)).next();
        let mut shown = match own {
            Some(own) => vec![own],
            None => of_study(run, part, references, side, stage),
        };
        let evidence = (!shown.is_empty()).then(|| shown.remove(0));
        let next = NextStep {
            scenario: None,
            name: part.name,
            cost: part.cost,
            not_when: Some(part.not_when),
            switch: part.line(side)?,
            file: format!("alloc_ladder::steps, {}", part.title),
            evidence,
            // A scenario in which it helps nothing says nothing of this program.
            more: shown.into_iter().filter(Evidence::reduces).collect(),
        };
        Some((next, part.reduces.contains(&stage)))
    }))
}

/// What a step for anybody takes in each of the study's scenarios, the most first.
fn of_study(run: &Run, part: &Part, references: &[Run], side: Side, stage: Stage) -> Vec<Evidence> {
    let rank = |evidence: &Evidence| (evidence.reduces(), evidence.taken().0);
    let better = |a: &Evidence, b: &Evidence| {
        let ((a_reduces, a_bytes), (b_reduces, b_bytes)) = (rank(a), rank(b));
        a_reduces.cmp(&b_reduces).then(a_bytes.total_cmp(&b_bytes))
    };
    let of_scenario = |of: &Run| {
        let scenario = Scenario::of(&of.subject)?;
        let steps = part.study.iter().filter(|(on, _)| *on == scenario);
        let shown = steps.filter_map(|(_, step)| {
            let index = ladder(scenario).iter().position(|on| on.name == *step)?;
            evidence(of, scenario, index, side, stage)
        });
        let best = shown.max_by(better)?;
        Some(Evidence { study: Some(scenario), elsewhere: environments(run, of), ..best })
    };
    let mut shown: Vec<Evidence> = references.iter().filter_map(of_scenario).collect();
    shown.sort_by(|a, b| better(b, a));
    // Of somebody else's program, what a step does to time and memory is enough.
    let said = [&metric::CPU_PER_GB, &metric::CPU_PER_MESSAGE, &metric::PEAK_HEAP];
    for evidence in &mut shown {
        evidence.besides.retain(|besides| said.iter().any(|metric| besides.metric == metric.name));
    }
    shown
}

fn is_on(set: &str, scenario: Scenario, index: usize, step: &Step) -> bool {
    let place = |name: &str| ladder(scenario).iter().position(|step| step.name == name);
    match set.parse() {
        Ok(StepSet::Baseline) | Err(_) => false,
        Ok(StepSet::UpTo(last)) => place(&last).is_some_and(|last| index <= last),
        Ok(StepSet::Only(only)) => step.name == only,
        Ok(StepSet::Without(without)) => step.name != without,
    }
}

/// What a run measured of a step: the step that climbs it and the one right below, if it measured both.
fn evidence(run: &Run, scenario: Scenario, index: usize, side: Side, stage: Stage) -> Option<Evidence> {
    let climbed = |index: usize| {
        let set = match index {
            0 => StepSet::Baseline,
            _ => StepSet::UpTo(ladder(scenario)[index].name.to_owned()),
        };
        let same = move |step: &&StepRecord| {
            step.set == set.to_string() || (index == 0 && step.set == up_to_first(scenario).to_string())
        };
        run.steps.iter().find(same)
    };
    between(run, [climbed(index - 1)?, climbed(index)?], side, stage)
}

/// What two steps of a run measured of a stage.
fn between(run: &Run, [below, above]: [&StepRecord; 2], side: Side, stage: Stage) -> Option<Evidence> {
    let (before, after) = (amount(below, side, stage)?, amount(above, side, stage)?);
    let mut besides = Vec::new();
    let shape = run.subject.shape;
    for metric in metric::compared(shape) {
        for side in metric.sides(shape) {
            let Some(pair) = judge::steps(&[run], metric, *side, None, [below, above], ALPHA) else { continue };
            if metric.has_stages() || !pair.judged.verdict.moved() {
                continue;
            }
            let [old, new] = [pair.old, pair.new].map(|samples| metric.show(stats::median(&samples)));
            let p = pair.judged.p.map_or_else(String::new, |p| format!(", {}", numbers::p_value(p)));
            let words = format!("{side} {} {old} → {new} ({}{p})", metric.label, pair.judged.change);
            besides.push(Besides { metric: metric.name, words });
        }
    }
    let verdict =
        |metric| judge::steps(&[run], metric, side, Some(stage), [below, above], ALPHA).map(|pair| pair.judged.verdict);
    Some(Evidence {
        run: run.id.clone(),
        before_step: below.name.clone(),
        after_step: above.name.clone(),
        before,
        after,
        bytes: verdict(&BYTES_PER_MESSAGE)?,
        blocks: verdict(&ALLOCS_PER_MESSAGE)?,
        besides,
        study: None,
        elsewhere: Vec::new(),
    })
}

/// `up-to=baseline`, which is the baseline under another name.
fn up_to_first(scenario: Scenario) -> StepSet {
    StepSet::UpTo(ladder(scenario)[0].name.to_owned())
}

impl Evidence {
    pub(crate) fn verdicts(&self) -> [Verdict; 2] {
        [self.bytes, self.blocks]
    }

    /// Whether each of the two steps was counted once, so that nothing shows by how much rounds differ.
    pub(crate) fn is_once(&self) -> bool {
        self.verdicts().contains(&Verdict::OneRound)
    }

    /// Whether the stage has fewer bytes or blocks, and no more of the other. Of two counts of one round the figures have
    /// to do.
    pub(crate) fn reduces(&self) -> bool {
        if self.is_once() {
            let (bytes, blocks) = self.taken();
            return (bytes > 0.0 || blocks > 0.0) && bytes >= 0.0 && blocks >= 0.0;
        }
        self.verdicts().contains(&Verdict::Better) && !self.verdicts().contains(&Verdict::Worse)
    }

    /// Bytes and blocks per message that the stage has less.
    fn taken(&self) -> (f64, f64) {
        (self.before.bytes - self.after.bytes, self.before.blocks - self.after.blocks)
    }
}

/// The ladders that a run may climb: its own, and of a program every one.
pub(crate) fn ladders(run: &Run) -> Vec<Scenario> {
    Scenario::of(&run.subject).map_or_else(|| Scenario::ALL.to_vec(), |scenario| vec![scenario])
}
