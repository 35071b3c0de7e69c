//! What the report says of a run, as values: figures, their samples, changes and whether a change is one.
//!
//! It knows records and statistics; it knows nothing of markup. What was not measured is `None`, never zero.

use std::collections::BTreeMap;

use alloc_ladder::record::{Counts, Instrument, Run, StepRecord};
use alloc_ladder::subject::ladder::{self, Step, StepSet};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage, Tally};

pub(crate) use crate::analyse::judge::ALPHA;
use crate::analyse::judge::{self, Judged};
use crate::analyse::metric;
use crate::analyse::stats;
use crate::cli::numbers;

/// A figure the page shows: a metric, or a share of a CPU profile, under the name a reader knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Blocks,
    Amplification,
    BytesPerMessage,
    CpuPerGb,
    CpuPerMessage,
    PeakHeap,
    PeakRss,
    SetupBlocks,
    Instructions,
    AllocatorShare,
    CopyShare,
    KernelShare,
    /// As the side that receives the payload saw it.
    Throughput(Side),
    MessagesPerSecond,
    LatencyP50,
    LatencyP99,
}

impl Figure {
    /// The metrics of one side, in the order the table shows them. What a payload byte costs says little of a
    /// unary call, which hardly has any: there the figures are per call.
    pub(crate) fn of_side(run: &Run) -> Vec<Figure> {
        use Figure::*;
        let per_payload = !matches!(run.scenario, Some(Scenario::Unary));
        let candidates = [
            Blocks,
            if per_payload { Amplification } else { BytesPerMessage },
            if per_payload { CpuPerGb } else { CpuPerMessage },
            PeakHeap,
            PeakRss,
            SetupBlocks,
            Instructions,
            AllocatorShare,
            CopyShare,
            KernelShare,
        ];
        candidates.into_iter().filter(|metric| !metric.is_extra() || metric.anywhere(run)).collect()
    }

    /// The metrics of client and server together.
    pub(crate) fn of_pair(run: &Run) -> Vec<Figure> {
        use Figure::*;
        if run.scenario == Some(Scenario::Unary) {
            vec![MessagesPerSecond, LatencyP50, LatencyP99]
        } else {
            vec![Throughput(receiver(run))]
        }
    }

    /// The four figures of the head and the ladder: blocks, bytes, CPU, throughput.
    pub(crate) fn headline(run: &Run) -> [Figure; 4] {
        use Figure::*;
        if run.scenario == Some(Scenario::Unary) {
            [Blocks, BytesPerMessage, CpuPerMessage, MessagesPerSecond]
        } else {
            [Blocks, Amplification, CpuPerGb, Throughput(receiver(run))]
        }
    }

    /// Rows that only appear where a run has them; the others say "not measured".
    fn is_extra(self) -> bool {
        use Figure::*;
        matches!(self, SetupBlocks | Instructions | AllocatorShare | CopyShare | KernelShare)
    }

    fn anywhere(self, run: &Run) -> bool {
        run.steps.iter().any(|step| Side::ALL.into_iter().any(|side| self.sample(step, side).is_some()))
    }

    pub(crate) fn label(self, noun: &str) -> String {
        match self {
            Figure::Blocks => format!("Allocations per {noun}"),
            Figure::Amplification => "Bytes allocated per payload byte".to_owned(),
            Figure::BytesPerMessage => format!("Bytes allocated per {noun}"),
            Figure::CpuPerGb => "CPU-seconds per GB".to_owned(),
            Figure::CpuPerMessage => format!("CPU per {noun}"),
            Figure::PeakHeap => "Peak heap".to_owned(),
            Figure::PeakRss => "Peak resident set".to_owned(),
            Figure::SetupBlocks => "Allocations of set-up".to_owned(),
            Figure::Instructions => format!("Instructions per {noun}"),
            Figure::AllocatorShare => "CPU in the allocator".to_owned(),
            Figure::CopyShare => "CPU in memcpy".to_owned(),
            Figure::KernelShare => "CPU in the kernel".to_owned(),
            Figure::Throughput(_) => "Throughput, GB/s".to_owned(),
            Figure::MessagesPerSecond => format!("{noun}s per second"),
            Figure::LatencyP50 => "Latency, median".to_owned(),
            Figure::LatencyP99 => "Latency, 99th percentile".to_owned(),
        }
    }

    pub(crate) fn format(self, value: f64) -> String {
        match self {
            Figure::BytesPerMessage | Figure::PeakHeap | Figure::PeakRss => numbers::bytes(value),
            Figure::CpuPerMessage => numbers::nanoseconds(value * 1e3),
            Figure::LatencyP50 | Figure::LatencyP99 => numbers::nanoseconds(value),
            Figure::AllocatorShare | Figure::CopyShare | Figure::KernelShare => numbers::share(value),
            _ => numbers::number(value),
        }
    }

    /// The row of the one table of metrics this figure is; the shares of a CPU profile are not in it: neither more nor
    /// less of one is better by itself.
    fn metric(self) -> Option<&'static metric::Metric> {
        metric::find(match self {
            Figure::Blocks => "allocs-per-message",
            Figure::Amplification => "amplification",
            Figure::BytesPerMessage => "bytes-per-message",
            Figure::CpuPerGb => "cpu-per-gb",
            Figure::CpuPerMessage => "cpu-per-message",
            Figure::PeakHeap => "peak-heap",
            Figure::PeakRss => "peak-rss",
            Figure::SetupBlocks => "setup-allocs",
            Figure::Instructions => "instructions-per-message",
            Figure::Throughput(_) => "throughput",
            Figure::MessagesPerSecond => "calls-per-second",
            Figure::LatencyP50 => "latency-p50",
            Figure::LatencyP99 => "latency-p99",
            Figure::AllocatorShare | Figure::CopyShare | Figure::KernelShare => return None,
        })
    }

    /// Whether more of it is what one wants.
    pub(crate) fn more_is_better(self) -> bool {
        self.metric().is_some_and(|metric| metric.better == metric::Better::More)
    }

    /// Who saw a figure of the pair, in words.
    pub(crate) fn seen_by(self) -> String {
        self.taken_from().map_or_else(|| "both sides".to_owned(), |side| format!("as the {side} saw it"))
    }

    /// The one side this figure of a pair is taken from; `None` where both sides add up.
    fn taken_from(self) -> Option<Side> {
        match self {
            Figure::Throughput(receiver) => Some(receiver),
            Figure::MessagesPerSecond | Figure::LatencyP50 | Figure::LatencyP99 => Some(Side::Client),
            _ => None,
        }
    }

    /// What was measured of this on one side; `None` where nothing was.
    pub(crate) fn sample(self, step: &StepRecord, side: Side) -> Option<Sample> {
        let Some(metric) = self.metric() else {
            let profile = step.cpu.iter().find(|profile| profile.side == side)?;
            let share = match self {
                Figure::CopyShare => profile.copy_share,
                Figure::KernelShare => profile.kernel_share,
                _ => profile.allocator_share,
            };
            return Sample::of(vec![share], true, 0.0);
        };
        Sample::of(metric.samples(step, side, None), metric.is_exact(), metric.slack(step, side))
    }

    /// Server and client together: costs add up round by round, rates and latencies are one side's.
    pub(crate) fn pair(self, step: &StepRecord) -> Option<Sample> {
        if let Some(side) = self.taken_from() {
            return self.sample(step, side);
        }
        let metric = self.metric()?;
        let rounds = |side| -> BTreeMap<u32, f64> {
            let of_side = step.of(side, metric.instrument);
            of_side.filter_map(|measurement| Some((measurement.round, metric.take(measurement, None)?))).collect()
        };
        let client = rounds(Side::Client);
        let sums = rounds(Side::Server).into_iter().filter_map(|(round, server)| Some(server + client.get(&round)?));
        let slack = Side::ALL.map(|side| metric.slack(step, side)).iter().sum();
        Sample::of(sums.collect(), metric.is_exact(), slack)
    }
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
pub(crate) enum Verdict {
    Better,
    Worse,
    /// Moved, and neither direction is better.
    Moved,
    /// Exactly the same.
    Same,
    /// Exact, and within what rounds differ by or the instrument may be wrong by.
    Close,
    /// Timed, and within what rounds differ by anyhow.
    Noise,
    /// Timed in so few rounds that none could tell.
    TooFew,
    /// Counted once each, and different: not comparable.
    OneRound,
}

/// A figure against another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) before: f64,
    pub(crate) after: f64,
    /// Mann–Whitney's p, for timed rounds.
    pub(crate) p: Option<f64>,
    pub(crate) verdict: Verdict,
}

impl Change {
    /// From `before` to `after`; `None` where either was not measured.
    pub(crate) fn between(figure: Figure, before: Option<&Sample>, after: Option<&Sample>) -> Option<Change> {
        let (before, after) = (before?, after?);
        let (old, new) = (before.median(), after.median());
        let Some(metric) = figure.metric() else {
            return Some(Change::of(old, new, judge::once(old, new), true, true));
        };
        let slack = before.slack + after.slack;
        let mut judged = judge::samples(metric, &before.values, &after.values, slack, ALPHA);
        // The p of one round against others says nothing but how few they are.
        judged.p = judged.p.filter(|_| before.values.len() > 1 && after.values.len() > 1);
        Some(Change::of(old, new, judged, false, metric.is_exact()))
    }

    /// Between two exact costs that were taken once.
    pub(crate) fn cost(before: f64, after: f64) -> Change {
        Change::of(before, after, judge::once(before, after), false, true)
    }

    fn of(before: f64, after: f64, judged: Judged, neutral: bool, exact: bool) -> Change {
        let verdict = match judged.verdict {
            judge::Verdict::Equal => Verdict::Same,
            judge::Verdict::OneRound => Verdict::OneRound,
            judge::Verdict::TooFew => Verdict::TooFew,
            judge::Verdict::Unclear if exact => Verdict::Close,
            judge::Verdict::Unclear => Verdict::Noise,
            judge::Verdict::Better | judge::Verdict::Worse if neutral => Verdict::Moved,
            judge::Verdict::Better => Verdict::Better,
            judge::Verdict::Worse => Verdict::Worse,
        };
        Change { before, after, p: judged.p, verdict }
    }

    /// The relative change in words: `−92.4%`, `gone`, `new`, `=`.
    pub(crate) fn words(&self) -> String {
        stats::change(self.before, self.after).to_string()
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
}

impl StepView<'_> {
    pub(crate) fn title(&self) -> String {
        match (&self.record.set, self.step) {
            (StepSet::Only(_), Some(step)) => format!("Only {}", step.title().to_lowercase()),
            (StepSet::Without(_), Some(step)) => format!("Without {}", step.title().to_lowercase()),
            (_, Some(step)) => step.title(),
            (_, None) => clipped(&self.record.name, TITLE_MAX),
        }
    }

    /// The id of the step's section: an index, because names of foreign runs can hold anything.
    pub(crate) fn anchor(&self) -> String {
        format!("step-{}", self.index + 1)
    }
}

/// The steps of a run, in order.
pub(crate) fn steps(run: &Run) -> Vec<StepView<'_>> {
    let known = |record: &StepRecord| {
        let name = match &record.set {
            StepSet::Baseline => &record.name,
            StepSet::UpTo(name) | StepSet::Only(name) | StepSet::Without(name) => name,
        };
        ladder::step(run.scenario?, name).ok().map(|(_, step)| step)
    };
    run.steps
        .iter()
        .enumerate()
        .map(|(index, record)| StepView {
            index,
            record,
            step: known(record),
            previous: index.checked_sub(1).map(|previous| &run.steps[previous]),
            baseline: &run.steps[0],
        })
        .collect()
}

/// Whether anything at all was measured of a step; a run that ended early has records of those it never reached.
pub(crate) fn is_measured(step: &StepRecord) -> bool {
    !step.measurements.is_empty() || !step.stacks.is_empty() || !step.cpu.is_empty()
}

/// What the first step of a run is to the others: a run of some steps only may lack the baseline.
pub(crate) fn first_is(step: &StepView<'_>) -> &'static str {
    if step.baseline.set == StepSet::Baseline { "baseline" } else { "first step" }
}

fn receiver(run: &Run) -> Side {
    run.scenario.map_or(Side::Server, Scenario::receiver)
}

/// What one message is called.
pub(crate) fn noun(run: &Run) -> &'static str {
    run.scenario.map_or("message", Scenario::message_noun)
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

    use super::*;

    #[test]
    fn a_timed_change_within_noise_is_no_change() {
        let sample = |values: &[f64]| Sample::timed(values.to_vec()).expect("values");
        let (slow, fast) = (sample(&[2.0, 2.1, 1.9, 2.05, 1.95]), sample(&[1.0, 1.1, 0.9, 1.05, 0.95]));
        let change = |metric, before, after| Change::between(metric, Some(before), Some(after)).expect("measured");
        assert_eq!(change(Figure::CpuPerGb, &slow, &fast).verdict, Verdict::Better);
        assert_eq!(change(Figure::Throughput(Side::Server), &slow, &fast).verdict, Verdict::Worse);
        let again = sample(&[2.01, 2.12, 1.92, 2.04, 1.93]);
        assert_eq!(change(Figure::CpuPerGb, &slow, &again).verdict, Verdict::Noise);
        // One round proves nothing, however far it is off.
        assert_eq!(change(Figure::CpuPerGb, &sample(&[2.0]), &sample(&[1.0])).verdict, Verdict::TooFew);
        assert_eq!(Change::between(Figure::CpuPerGb, None, Some(&fast)), None);
    }

    #[test]
    fn a_count_that_differs_from_round_to_round_is_no_exact_saving() {
        let rounds = |values: [f64; 2]| Sample::of(values.to_vec(), true, 0.0);
        let change = |before, after| Change::between(Figure::PeakHeap, before, after).expect("measured");
        let (wide, low, steady) = (rounds([1.49e6, 3.07e6]), rounds([1.2e6, 1.2e6]), rounds([1.2e6, 1.2e6]));
        assert_eq!(change(wide.as_ref(), low.as_ref()).verdict, Verdict::Close);
        assert_eq!(change(low.as_ref(), steady.as_ref()).verdict, Verdict::Same);
        assert_eq!(change(rounds([3.0e6, 3.0e6]).as_ref(), low.as_ref()).verdict, Verdict::Better);
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
        assert_eq!(Figure::Blocks.sample(&step, Side::Server).map(|sample| sample.median()), blocks);
    }

    #[test]
    fn an_exact_change_needs_no_p() {
        assert_eq!(Change::cost(5.0, 5.0).verdict, Verdict::Same);
        assert_eq!(Change::cost(5.0, 5.01).verdict, Verdict::Close);
        assert_eq!(Change::cost(5.0, 0.0).verdict, Verdict::Better);
        assert_eq!(Change::cost(0.0, 5.0).words(), "new");
        assert_eq!(Change::cost(5.0, 0.0).words(), "gone");
    }
}
