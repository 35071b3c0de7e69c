//! What the report says of a run, as values: figures, their samples, changes and whether a change is one.
//!
//! It knows records and statistics; it knows nothing of markup. What was not measured is `None`, never zero.

use std::rc::Rc;

use alloc_ladder::record::{Counts, Instrument, Run, Shape, StepRecord};
use alloc_ladder::subject::ladder::{self, Step, StepSet};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage, Tally};

use crate::analyse::cpu::Spent;
pub(crate) use crate::analyse::judge::ALPHA;
use crate::analyse::judge::{self, Judged, Ratio};
use crate::analyse::marks::{Against, Marks, Unsettled};
use crate::analyse::metric::{self, Better, Metric, Part, Whose};
use crate::analyse::profiles::Profiles;
use crate::analyse::stats;
use crate::cli::numbers;

/// A figure the page shows: a row of the one table of metrics, or a share of the samples of CPU time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Figure {
    Metric(&'static Metric),
    /// Neither more nor less of it is better by itself.
    Share(Spent),
}

/// What a program keeps of its calls.
pub(crate) const LIVE: Figure = Figure::Metric(&metric::LIVE_PER_MESSAGE);

/// What an open stream holds.
pub(crate) const PER_STREAM: Figure = Figure::Metric(&metric::LIVE_PER_STREAM);
/// System calls that move bytes.
pub(crate) const SOCKET_CALLS: Figure = Figure::Metric(&metric::SOCKET_CALLS_PER_MESSAGE);

/// What one side is said of, in the order the page shows it.
const OF_SIDE: [&Metric; 9] = [
    &metric::ALLOCS_PER_MESSAGE,
    &metric::AMPLIFICATION,
    &metric::BYTES_PER_MESSAGE,
    &metric::CPU_PER_GB,
    &metric::CPU_PER_MESSAGE,
    &metric::LIVE_PER_MESSAGE,
    &metric::PEAK_HEAP,
    &metric::PEAK_RSS,
    &metric::SETUP_ALLOCS,
];

/// What is said of a side besides, in runs that have it.
const OF_SOME: [&Metric; 5] = [
    &metric::LIVE_PER_STREAM,
    &metric::SWITCHES_PER_MESSAGE,
    &metric::READS_PER_MESSAGE,
    &metric::WRITES_PER_MESSAGE,
    &metric::INSTRUCTIONS_PER_MESSAGE,
];

/// What client and server together are said of.
const OF_PAIR: [&Metric; 6] = [
    &metric::CPU_PER_GB,
    &metric::CPU_PER_MESSAGE,
    &metric::THROUGHPUT,
    &metric::CALLS_PER_SECOND,
    &metric::LATENCY_P50,
    &metric::LATENCY_P99,
];

/// The four figures of the head, the ladder and the README.
#[derive(Clone, Copy)]
pub(crate) struct Headline {
    pub(crate) blocks: Figure,
    pub(crate) bytes: Figure,
    pub(crate) cpu: Figure,
    pub(crate) rate: Figure,
}

impl Headline {
    /// What a payload byte costs says little of a unary call, which hardly has any: there the figures are per call.
    pub(crate) fn of(run: &Run) -> Headline {
        let [bytes, cpu, rate] = match run.subject.shape {
            Shape::Upload | Shape::Download => [&metric::AMPLIFICATION, &metric::CPU_PER_GB, &metric::THROUGHPUT],
            Shape::Unary | Shape::Program => {
                [&metric::BYTES_PER_MESSAGE, &metric::CPU_PER_MESSAGE, &metric::CALLS_PER_SECOND]
            }
        };
        let [blocks, bytes, cpu, rate] = [&metric::ALLOCS_PER_MESSAGE, bytes, cpu, rate].map(Figure::Metric);
        Headline { blocks, bytes, cpu, rate }
    }

    /// Those that the page shows: of a program, what was measured of it, and what it keeps of its calls where steps
    /// may change that.
    pub(crate) fn shown(self, run: &Run) -> Vec<Figure> {
        if run.workload.idle {
            return vec![PER_STREAM, self.blocks];
        }
        let all = [self.blocks, self.bytes, self.cpu, self.rate, LIVE].into_iter();
        let all = all.filter(|figure| *figure != LIVE || is_climbed(run));
        let shown = |figure: &Figure| {
            run.subject.shape != Shape::Program || run.steps.iter().any(|step| figure.pair(run, step).is_some())
        };
        all.filter(shown).collect()
    }
}

impl Figure {
    /// The figures of one side, in the order the table shows them. Of a program only what was measured of it; of a
    /// ladder the others say "not measured", but for those that few runs have.
    pub(crate) fn of_side(run: &Run, profiles: &Profiles) -> Vec<Figure> {
        let shape = run.subject.shape;
        let metrics = OF_SIDE.into_iter().filter(|metric| {
            let wanted = match shape {
                Shape::Upload | Shape::Download => **metric != metric::BYTES_PER_MESSAGE,
                Shape::Unary | Shape::Program => true,
            };
            let always = shape != Shape::Program && metric.part == Part::Measured;
            wanted && metric.is_meant_for(shape) && metric.says_something_of(run) && (always || anywhere(run, metric))
        });
        let of_some = OF_SOME.into_iter().filter(|metric| anywhere(run, metric));
        let sampled =
            (0..run.steps.len()).any(|step| Side::ALL.iter().any(|side| profiles.samples(step, *side).is_some()));
        let shares = [Spent::Allocator, Spent::Copy, Spent::Kernel].into_iter().filter(|_| sampled);
        metrics.chain(of_some).map(Figure::Metric).chain(shares.map(Figure::Share)).collect()
    }

    /// The figures of client and server together; none of a program, which is one process.
    pub(crate) fn of_pair(run: &Run) -> Vec<Figure> {
        let shape = run.subject.shape;
        let pair = OF_PAIR.into_iter().filter(|metric| shape != Shape::Program && metric.is_meant_for(shape));
        pair.map(Figure::Metric).collect()
    }

    pub(crate) fn label(self, noun: &str) -> String {
        match self {
            Figure::Metric(metric) => metric.title(noun),
            Figure::Share(Spent::Allocator) => "CPU in the allocator".to_owned(),
            Figure::Share(Spent::Copy) => "CPU in memcpy".to_owned(),
            Figure::Share(Spent::Kernel) => "CPU in the kernel".to_owned(),
            Figure::Share(Spent::Own) => "CPU in own code".to_owned(),
        }
    }

    pub(crate) fn format(self, value: f64) -> String {
        match self {
            Figure::Metric(metric) => metric.show(value),
            Figure::Share(_) => numbers::share(value),
        }
    }

    /// Whether more of it is what one wants.
    pub(crate) fn more_is_better(self) -> bool {
        matches!(self, Figure::Metric(metric) if metric.better == Better::More)
    }

    /// Who saw a figure of the pair, in words.
    pub(crate) fn seen_by(self, run: &Run) -> String {
        self.taken_from(run).map_or_else(|| "both sides".to_owned(), |side| format!("as the {side} saw it"))
    }

    /// The one side this figure of a pair is taken from; `None` where both sides add up.
    fn taken_from(self, run: &Run) -> Option<Side> {
        let Figure::Metric(metric) = self else { return None };
        match metric.sides(run.subject.shape) {
            [side] => Some(*side),
            _ => None,
        }
    }

    /// What was measured of this on one side; `None` where nothing was.
    pub(crate) fn sample(self, step: &StepRecord, side: Side) -> Option<Sample> {
        let Figure::Metric(metric) = self else { return None };
        Sample::of(metric.samples(step, side, None), metric.is_exact(), metric.slack(step, side))
    }

    /// The same of a step by its index, shares of CPU time included.
    pub(crate) fn sample_at(self, run: &Run, profiles: &Profiles, step: usize, side: Side) -> Option<Sample> {
        match self {
            Figure::Metric(_) => self.sample(run.steps.get(step)?, side),
            Figure::Share(spent) => Sample::of(vec![profiles.samples(step, side)?.share(spent)], true, 0.0),
        }
    }

    /// Server and client together: costs add up round by round, rates and latencies are one side's. A program is one
    /// side alone.
    pub(crate) fn pair(self, run: &Run, step: &StepRecord) -> Option<Sample> {
        let Figure::Metric(metric) = self else { return None };
        let slack = match self.taken_from(run) {
            Some(side) => metric.slack(step, side),
            None => Side::ALL.map(|side| metric.slack(step, side)).iter().sum(),
        };
        let rounds = metric.rounds(step, run.subject.shape, Whose::Pair);
        Sample::of(rounds.into_values().collect(), metric.is_exact(), slack)
    }
}

pub(crate) fn anywhere(run: &Run, metric: &Metric) -> bool {
    run.steps.iter().any(|step| Side::ALL.into_iter().any(|side| !metric.samples(step, side, None).is_empty()))
}

/// The sides the page speaks of: both of a ladder, and of a program those that were measured.
pub(crate) fn sides(run: &Run) -> Vec<Side> {
    let measured = |side: &Side| {
        let of_side =
            |step: &StepRecord| step.measurements.iter().any(|m| m.side == *side) || step.stacks(*side).is_some();
        run.subject.shape != Shape::Program || run.steps.iter().any(of_side)
    };
    Side::ALL.into_iter().filter(measured).collect()
}

/// A side as tables name it. Nobody said that a recorded program is a server: it is taken for one.
pub(crate) fn of_side(run: &Run, side: Side) -> String {
    let is_said = !is_program(run) || side != Side::Server || run.steps.iter().all(|step| step.stacks(side).is_none());
    if is_said { format!(", {}", side.name()) } else { String::new() }
}

/// The values of one metric, one a round. Counts are exact, and rounds of a stream may still differ in them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) values: Vec<f64>,
    pub(crate) exact: bool,
    /// By how much the instrument itself may have an exact figure wrong.
    pub(crate) slack: f64,
}

/// Rounds of an exact count that differ by less than this share need no ± on the page.
const STEADY: f64 = 0.01;

impl Sample {
    fn of(values: Vec<f64>, exact: bool, slack: f64) -> Option<Sample> {
        (!values.is_empty()).then_some(Sample { values, exact, slack })
    }

    pub(crate) fn timed(values: Vec<f64>) -> Option<Sample> {
        Sample::of(values, false, 0.0)
    }

    pub(crate) fn median(&self) -> f64 {
        stats::median(&self.values)
    }

    /// The 95 % interval of the median of timed rounds.
    pub(crate) fn interval(&self) -> Option<(f64, f64)> {
        (!self.exact && self.values.len() > 1).then(|| stats::interval95(&self.values))
    }

    /// How far the interval reaches from the median, as a share of it: of timed rounds, and of counts that differ from
    /// round to round. `None` of one round, and of a median of zero.
    pub(crate) fn spread(&self) -> Option<f64> {
        let spread = (self.values.len() > 1).then(|| stats::spread(&self.values))??;
        (!self.exact || spread >= STEADY).then_some(spread)
    }
}

/// How a figure moved, as the page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Movement {
    Better,
    Worse,
    /// Moved, and neither direction is better.
    Moved,
    /// Exactly the same.
    Same,
    /// Exact, and within what rounds differ by or the instrument may be wrong by.
    Close,
    /// Timed, with an interval so narrow that more rounds would tell nothing that matters, and no mark.
    Settled,
    /// Timed, and within what rounds differ by anyhow.
    Noise,
    /// Timed in so few rounds that none could tell.
    TooFew,
    /// Counted once each, and different: not comparable.
    OneRound,
}

/// A figure against another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FigureChange {
    pub(crate) before: f64,
    pub(crate) after: f64,
    /// Of timed rounds, pair by pair.
    pub(crate) ratio: Option<Ratio>,
    pub(crate) verdict: Movement,
}

impl FigureChange {
    /// From `before` to `after`, which were counted; `None` where either was not measured. What was timed is compared
    /// round by round, with all that a table marks: [`StepView::change`].
    pub(crate) fn between(figure: Figure, before: Option<&Sample>, after: Option<&Sample>) -> Option<FigureChange> {
        let (before, after) = (before?, after?);
        let (old, new) = (before.median(), after.median());
        let Figure::Metric(metric) = figure else {
            return Some(FigureChange::of(old, new, judge::once(old, new), true, true));
        };
        let slack = before.slack + after.slack;
        let judged = judge::samples(metric, &before.values, &after.values, slack, ALPHA);
        Some(FigureChange::of(old, new, judged, false, metric.is_exact()))
    }

    /// Between two exact costs that were taken once.
    pub(crate) fn cost(before: f64, after: f64) -> FigureChange {
        FigureChange::of(before, after, judge::once(before, after), false, true)
    }

    fn of(before: f64, after: f64, judged: Judged, neutral: bool, exact: bool) -> FigureChange {
        let verdict = match judged.verdict {
            judge::Verdict::Equal => Movement::Same,
            judge::Verdict::OneRound => Movement::OneRound,
            judge::Verdict::TooFew => Movement::TooFew,
            judge::Verdict::Unclear if exact => Movement::Close,
            judge::Verdict::Unclear if judged.ratio.is_some_and(|ratio| ratio.is_settled()) => Movement::Settled,
            judge::Verdict::Unclear => Movement::Noise,
            judge::Verdict::Better | judge::Verdict::Worse if neutral => Movement::Moved,
            judge::Verdict::Better => Movement::Better,
            judge::Verdict::Worse => Movement::Worse,
        };
        FigureChange { before, after, ratio: judged.ratio, verdict }
    }

    /// The change in words: `×0.793 [0.781, 0.814]` over rounds, or else `−92.4%`, `gone`, `new`, `=`.
    pub(crate) fn words(&self) -> String {
        self.ratio.map_or_else(|| stats::change(self.before, self.after).to_string(), |ratio| ratio.to_string())
    }

    /// Whether there is more of it than before.
    pub(crate) fn rises(&self) -> bool {
        self.ratio.map_or(self.after > self.before, |ratio| ratio.middle > 1.0)
    }
}

/// Names of foreign runs can be of any length; a heading cannot.
const TITLE_MAX: usize = 60;

/// The first `max` characters, and an ellipsis where there are more.
pub(crate) fn clipped(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// One step of the run with what the ladder says of it.
pub(crate) struct StepView<'a> {
    /// Counted from 0 in the run.
    pub(crate) index: usize,
    pub(crate) record: &'a StepRecord,
    /// `None` for a run of somebody else's program or a step this version does not know.
    pub(crate) step: Option<&'static Step>,
    pub(crate) previous: Option<&'a StepRecord>,
    pub(crate) baseline: &'a StepRecord,
    marks: Rc<Marks>,
}

impl StepView<'_> {
    pub(crate) fn title(&self) -> String {
        let title = match (self.record.set.parse(), self.step) {
            (Ok(StepSet::Only(_)), Some(step)) => format!("Only {}", step.title().to_lowercase()),
            (Ok(StepSet::Without(_)), Some(step)) => format!("Without {}", step.title().to_lowercase()),
            (_, Some(step)) => step.title(),
            (_, None) => return clipped(&self.record.name, TITLE_MAX),
        };
        match repeated(self.record) {
            Some(number) => format!("{title} ({number})"),
            None => title,
        }
    }

    /// The CPU times of the run's neighbours that more rounds would tell more of.
    pub(crate) fn unsettled(&self, run: &Run) -> Vec<Unsettled> {
        self.marks.unsettled(run)
    }

    /// How a figure of this step stands; `None` where either step lacks it.
    pub(crate) fn change(&self, run: &Run, figure: Figure, whose: Whose, against: Against) -> Option<FigureChange> {
        let other = match against {
            Against::Previous => self.previous?,
            Against::First => self.previous.map(|_| self.baseline)?,
        };
        let sample = |step: &StepRecord| match whose {
            Whose::Side(side) => figure.sample(step, side),
            Whose::Pair => figure.pair(run, step),
        };
        let (before, after) = (sample(other)?, sample(self.record)?);
        match figure {
            Figure::Metric(metric) if !metric.is_exact() => {
                let judged = *self.marks.get(self.index, against, metric, whose)?;
                Some(FigureChange::of(before.median(), after.median(), judged, false, false))
            }
            _ => FigureChange::between(figure, Some(&before), Some(&after)),
        }
    }

    /// The id of the step's section: an index, because names of foreign runs can hold anything.
    pub(crate) fn anchor(&self) -> String {
        format!("step-{}", self.index + 1)
    }
}

/// Which time a step is there, where a run has it more than once: the name of the second is `baseline-2`.
fn repeated(record: &StepRecord) -> Option<u32> {
    let (_, number) = record.name.strip_prefix(record.set.trim_start_matches("up-to="))?.split_once('-')?;
    number.parse().ok()
}

/// The steps of a run, in order.
pub(crate) fn steps(run: &Run) -> Vec<StepView<'_>> {
    let marks = Rc::new(Marks::of(run));
    let known = |record: &StepRecord| {
        let name = match record.set.parse().ok()? {
            StepSet::Baseline => ladder::ladder(Scenario::of(&run.subject)?).first()?.name.to_owned(),
            StepSet::UpTo(name) | StepSet::Only(name) | StepSet::Without(name) => name,
        };
        ladder::step(Scenario::of(&run.subject)?, &name).ok().map(|(_, step)| step)
    };
    run.steps
        .iter()
        .enumerate()
        .map(|(index, record)| StepView {
            index,
            record,
            step: known(record),
            previous: run.before(index).map(|previous| &run.steps[previous]),
            baseline: &run.steps[0],
            marks: marks.clone(),
        })
        .collect()
}

/// Whether anything at all was measured of a step; a run that ended early has records of those it never reached.
pub(crate) fn is_measured(step: &StepRecord) -> bool {
    !step.measurements.is_empty() || !step.stacks.is_empty() || !step.cpu.is_empty()
}

/// What the first step of a run is to the others: a run of some steps only may lack the baseline.
pub(crate) fn first_is(step: &StepView<'_>) -> &'static str {
    if step.baseline.set == StepSet::Baseline.to_string() { "baseline" } else { "first step" }
}

/// Whether the run is of somebody's program: then the page speaks of what was measured and of nothing else.
pub(crate) fn is_program(run: &Run) -> bool {
    run.subject.shape == Shape::Program
}

/// Whether the run is of somebody's program and its steps are those of a file, measured in windows of a number of messages.
pub(crate) fn is_climbed(run: &Run) -> bool {
    let of_a_file = |step: &StepRecord| step.set == StepSet::Baseline.to_string() || step.set.starts_with("up-to=");
    is_program(run) && run.steps.iter().any(of_a_file)
}

/// Whether the page has a place for flame graphs: that of a ladder says where call sites were not measured.
pub(crate) fn has_call_sites(run: &Run, profiles: &Profiles) -> bool {
    let seen = |step: usize| Side::ALL.into_iter().any(|side| profiles.get(step, side).is_some());
    !is_program(run) || (0..run.steps.len()).any(seen)
}

/// What one message is called. Of a program that nobody said a number of messages of, figures are per run.
pub(crate) fn noun(run: &Run) -> &'static str {
    if is_program(run) && run.workload.messages == 1 { "run" } else { run.subject.shape.message_noun() }
}

/// One stage of one side, per message, from the exact counts.
pub(crate) fn stage_per_message(step: &StepRecord, side: Side, stage: Stage) -> Option<PerMessage> {
    per_message(step, side, |counts| counts.stage(stage))
}

/// All stages but the instrument's own, per message.
pub(crate) fn subject_per_message(step: &StepRecord, side: Side) -> Option<PerMessage> {
    per_message(step, side, Counts::subject)
}

/// The mean of the rounds: means of stages add up to the mean of their side, and of two rounds it is the median.
fn per_message(step: &StepRecord, side: Side, of: impl Fn(&Counts) -> Tally) -> Option<PerMessage> {
    let counted = || step.of(side, Instrument::Count).filter_map(|m| Some((m.counts.as_ref()?, m.messages)));
    counted().next()?;
    Some(PerMessage::of(counted().map(|(counts, _)| of(counts)).sum(), counted().map(|(_, messages)| messages).sum()))
}

/// The stages whose sum is the figure of the head: all but the instrument's own.
pub(crate) fn subject_stages() -> impl Iterator<Item = Stage> {
    Stage::ALL.into_iter().filter(|stage| *stage != Stage::Instrument)
}

/// Blocks and bytes per message.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PerMessage {
    pub(crate) blocks: f64,
    pub(crate) bytes: f64,
}

impl PerMessage {
    fn of(tally: Tally, messages: u64) -> PerMessage {
        let messages = messages.max(1) as f64;
        PerMessage { blocks: tally.blocks as f64 / messages, bytes: tally.bytes as f64 / messages }
    }
}

/// The largest value of `of` over all steps; 0 where nothing was measured.
pub(crate) fn largest(run: &Run, of: impl Fn(&StepRecord) -> Option<f64>) -> f64 {
    run.steps.iter().filter_map(of).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use crate::fixture;

    use super::{steps as steps_of, *};

    const CPU: Figure = Figure::Metric(&metric::CPU_PER_GB);

    #[test]
    fn a_timed_change_within_noise_is_no_change() {
        let step = |cpu: &[u64]| {
            let rounds = (0..).zip(cpu).map(|(round, cpu)| fixture::time(Side::Server, round, *cpu, 1_000_000));
            fixture::step("rope", rounds.collect())
        };
        let slow = [2000, 2100, 1900, 2050, 1950, 2010, 2020, 2030, 1990, 1980];
        let (fast, again): (Vec<u64>, Vec<u64>) = (
            slow.iter().map(|cpu| cpu / 2).collect(),
            slow.iter()
                .zip([980, 1030, 1010, 960, 1020, 990, 1040, 970, 1000, 1015])
                .map(|(a, b)| a * b / 1000)
                .collect(),
        );
        let steps = |of: &[&[u64]]| Run {
            steps: of.iter().map(|cpu| step(cpu)).collect(),
            ..fixture::run("put-a", Scenario::Put)
        };
        let change = |run: &Run, index: usize| {
            steps_of(run)[index].change(run, CPU, Whose::Side(Side::Server), Against::Previous).expect("measured")
        };
        let run = steps(&[&slow, &fast, &slow, &again, &again]);
        assert_eq!(change(&run, 1).verdict, Movement::Better);
        assert!(change(&run, 1).words().starts_with("×0.500 [") && !change(&run, 1).rises());
        assert_eq!(change(&run, 2).verdict, Movement::Worse);
        assert_eq!(change(&run, 3).verdict, Movement::Noise);
        assert_eq!(change(&run, 4).verdict, Movement::Same);
        // One round proves nothing, however far it is off.
        assert_eq!(change(&steps(&[&[2000], &[1000]]), 1).verdict, Movement::TooFew);
        assert_eq!(FigureChange::between(CPU, None, None), None);
        assert_eq!(steps_of(&run)[0].change(&run, CPU, Whose::Side(Side::Server), Against::Previous), None);
        let near: Vec<u64> = slow
            .iter()
            .zip([999, 1001, 1000, 1002, 998, 1000, 1001, 999, 1003, 997])
            .map(|(a, b)| a * b / 1000)
            .collect();
        assert_eq!(change(&steps(&[&slow, &near]), 1).verdict, Movement::Settled);
    }

    #[test]
    fn a_step_that_is_there_twice_says_so() {
        let step = |name: &str, set: &str| StepRecord { set: set.to_owned(), ..fixture::step(name, Vec::new()) };
        let run = Run {
            steps: vec![
                step("baseline", "baseline"),
                step("baseline-2", "baseline"),
                step("tuned-h2-3", "up-to=tuned-h2"),
            ],
            ..fixture::run("put-a", Scenario::Put)
        };
        let titles: Vec<String> = steps_of(&run).iter().map(StepView::title).collect();
        assert_eq!(titles, ["Baseline", "Baseline (2)", "Tuned h2 (3)"]);
        let named = fixture::step("tuned-h2", Vec::new());
        assert_eq!(repeated(&named), None);
    }

    #[test]
    fn a_count_that_differs_from_round_to_round_is_no_exact_saving() {
        let rounds = |values: [f64; 2]| Sample::of(values.to_vec(), true, 0.0);
        let change =
            |before, after| FigureChange::between(Figure::Metric(&metric::PEAK_HEAP), before, after).expect("measured");
        let (wide, low, steady) = (rounds([1.49e6, 3.07e6]), rounds([1.2e6, 1.2e6]), rounds([1.2e6, 1.2e6]));
        assert_eq!(change(wide.as_ref(), low.as_ref()).verdict, Movement::Close);
        assert_eq!(change(low.as_ref(), steady.as_ref()).verdict, Movement::Same);
        assert_eq!(change(rounds([3.0e6, 3.0e6]).as_ref(), low.as_ref()).verdict, Movement::Better);
        assert!(wide.as_ref().and_then(Sample::spread).is_some_and(|spread| spread > 0.3), "and it says so");
        assert_eq!(low.as_ref().and_then(Sample::spread), None);
        let step = StepRecord {
            measurements: (0..)
                .zip([1000, 3000])
                .map(|(round, blocks)| fixture::count(Side::Server, round, &[(Stage::Handler, blocks, 0)]))
                .collect(),
            ..fixture::step("baseline", Vec::new())
        };
        let blocks = subject_per_message(&step, Side::Server).map(|per_message| per_message.blocks);
        assert_eq!(blocks, Some(2.0), "the first round is no better than the others");
        assert_eq!(
            Figure::Metric(&metric::ALLOCS_PER_MESSAGE).sample(&step, Side::Server).map(|sample| sample.median()),
            blocks
        );
    }

    #[test]
    fn an_exact_change_needs_no_p() {
        assert_eq!(FigureChange::cost(5.0, 5.0).verdict, Movement::Same);
        assert_eq!(FigureChange::cost(5.0, 5.01).verdict, Movement::Close);
        assert_eq!(FigureChange::cost(5.0, 0.0).verdict, Movement::Better);
        assert_eq!(FigureChange::cost(0.0, 5.0).words(), "new");
        assert_eq!(FigureChange::cost(5.0, 0.0).words(), "gone");
    }
}
