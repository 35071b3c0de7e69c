//! What the report says of a run, as values: figures, their samples, changes and whether a change is one.
//!
//! It knows records and statistics; it knows nothing of markup. What was not measured is `None`, never zero.

use std::collections::BTreeMap;

use alloc_ladder::ladder::{self, Step, StepSet};
use alloc_ladder::record::{Run, StepRecord};
use alloc_ladder::scenario::Scenario;
use alloc_ladder::{Side, Stage, Tally};

use super::units;
use crate::{metric, stats};

/// Below this p a change of timed rounds counts as one.
pub(crate) const ALPHA: f64 = 0.05;

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
            Figure::BytesPerMessage | Figure::PeakHeap | Figure::PeakRss => units::bytes(value),
            Figure::CpuPerMessage => units::nanoseconds(value * 1e3),
            Figure::LatencyP50 | Figure::LatencyP99 => units::nanoseconds(value),
            Figure::AllocatorShare | Figure::CopyShare | Figure::KernelShare => units::share(value),
            _ => units::number(value),
        }
    }

    /// The row of the one table of metrics this figure is; the shares of a CPU profile are not in it.
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

    /// Whether a share of something else: neither more nor less of it is better by itself.
    fn is_share(self) -> bool {
        matches!(self, Figure::AllocatorShare | Figure::CopyShare | Figure::KernelShare)
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
            return Some(Sample::exact(share, 0.0));
        };
        let values = metric.samples(step, side, None);
        match metric.kind {
            metric::Kind::Sampled => Sample::timed(values),
            // A `count` case runs twice to prove that it repeats; the first is the figure.
            _ => values.first().map(|value| Sample::exact(*value, metric.slack(step, side))),
        }
    }

    /// Server and client together: costs add up round by round, rates and latencies are one side's.
    pub(crate) fn pair(self, step: &StepRecord) -> Option<Sample> {
        if let Some(side) = self.taken_from() {
            return self.sample(step, side);
        }
        let metric = self.metric()?;
        let [server, client] = Side::ALL.map(|side| self.sample(step, side));
        let (server, client) = (server?, client?);
        if server.exact {
            return Some(Sample::exact(server.median() + client.median(), server.slack + client.slack));
        }
        let rounds = |side| -> BTreeMap<u32, f64> {
            let of_side = step.of(side, metric.instrument);
            of_side.filter_map(|measurement| Some((measurement.round, metric.take(measurement, None)?))).collect()
        };
        let client = rounds(Side::Client);
        let sums = rounds(Side::Server).into_iter().filter_map(|(round, server)| Some(server + client.get(&round)?));
        Sample::timed(sums.collect())
    }
}

/// The values of one metric: one exact count, or a value per timed round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) values: Vec<f64>,
    pub(crate) exact: bool,
    /// By how much the instrument itself may have an exact figure wrong.
    pub(crate) slack: f64,
}

impl Sample {
    fn exact(value: f64, slack: f64) -> Sample {
        Sample { values: vec![value], exact: true, slack }
    }

    pub(crate) fn timed(values: Vec<f64>) -> Option<Sample> {
        (!values.is_empty()).then_some(Sample { values, exact: false, slack: 0.0 })
    }

    pub(crate) fn median(&self) -> f64 {
        stats::median(&self.values)
    }

    /// The 95 % interval of the median of timed rounds.
    pub(crate) fn interval(&self) -> Option<(f64, f64)> {
        (!self.exact && self.values.len() > 1).then(|| stats::interval95(&self.values))
    }

    /// How far the interval reaches from the median, as a share of it.
    pub(crate) fn spread(&self) -> Option<f64> {
        self.interval().map(|_| stats::spread(&self.values))
    }
}

/// How a figure moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Better,
    Worse,
    /// Moved, and neither direction is better.
    Moved,
    /// Exactly the same.
    Same,
    /// Exact, and less than half a percent or what the instrument may be wrong by apart.
    Close,
    /// Timed, and within what rounds differ by anyhow.
    Noise,
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
    pub(crate) fn between(metric: Figure, before: Option<&Sample>, after: Option<&Sample>) -> Option<Change> {
        let (before, after) = (before?, after?);
        let p = (!before.exact && !after.exact && before.values.len() > 1 && after.values.len() > 1)
            .then(|| stats::mann_whitney(&before.values, &after.values));
        let mut change =
            Change::of(before.median(), after.median(), p, metric.more_is_better(), metric.is_share(), before.exact);
        if before.exact
            && change.verdict != Verdict::Same
            && (change.after - change.before).abs() <= before.slack + after.slack
        {
            change.verdict = Verdict::Close;
        }
        Some(change)
    }

    /// Between two exact costs.
    pub(crate) fn cost(before: f64, after: f64) -> Change {
        Change::of(before, after, None, false, false, true)
    }

    fn of(before: f64, after: f64, p: Option<f64>, more_is_better: bool, neutral: bool, exact: bool) -> Change {
        let verdict = if before == after {
            Verdict::Same
        } else if exact && before != 0.0 && ((after - before) / before).abs() < 0.005 {
            Verdict::Close
        } else if !exact && p.is_none_or(|p| p >= ALPHA) {
            Verdict::Noise
        } else if neutral {
            Verdict::Moved
        } else if (after > before) == more_is_better {
            Verdict::Better
        } else {
            Verdict::Worse
        };
        Change { before, after, p, verdict }
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
    let measurement = step.counts(side)?;
    Some(PerMessage::of(measurement.counts.as_ref()?.stage(stage), measurement.messages))
}

/// All stages but the instrument's own, per message.
pub(crate) fn subject_per_message(step: &StepRecord, side: Side) -> Option<PerMessage> {
    let measurement = step.counts(side)?;
    Some(PerMessage::of(measurement.counts.as_ref()?.subject(), measurement.messages))
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
        assert_eq!(change(Figure::CpuPerGb, &sample(&[2.0]), &sample(&[1.0])).verdict, Verdict::Noise);
        assert_eq!(Change::between(Figure::CpuPerGb, None, Some(&fast)), None);
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
