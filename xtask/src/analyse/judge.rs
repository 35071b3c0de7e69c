//! Whether a figure became better or worse: the one place that decides, for `compare`, the page, the terminal and
//! `advise`.
//!
//! Times are judged by a rank test: within a run by the ratios of its rounds, because a round runs every step, and
//! between runs, whose rounds have nothing in common, value against value. Counts need none: two counts that differ are different, as long as rounds of one
//! program do not differ by as much. Streams share reads and frames as the kernel delivers them, so some counts do, and
//! the peak of the heap most of all. It knows records and metrics; it knows nothing of how a verdict is shown.

use std::collections::BTreeMap;
use std::fmt;

use alloc_ladder::record::{Instrument, Run, StepRecord};
use alloc_ladder::{Side, Stage};
use serde::Serialize;

use crate::analyse::metric::{Accuracy, Better, Metric, Whose};
use crate::analyse::stats::{self, Change, change, paired};
use crate::cli::numbers;

/// The p-value below which times count as different, unless a command is told otherwise.
pub(crate) const ALPHA: f64 = 0.05;

/// A cost that was taken once shows nothing of how it varies: a share below this of it is no change.
const ONCE: f64 = 0.005;

/// A ratio of rounds that is no further than this from one is no change, whatever the rank test says: equal programs differ by
/// as much. Twenty runs of `profile put --steps baseline,baseline --budget 10` had -0.8 to +0.5 % of the pair's CPU time.
pub(crate) const EQUALS: f64 = 0.01;

/// How a figure fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Better,
    Worse,
    /// All values are equal.
    Equal,
    /// The samples cannot tell.
    Unclear,
    /// No samples of these sizes could tell.
    TooFew,
    /// Counts that differ, each taken once: nothing shows by how much rounds of one program differ.
    OneRound,
}

impl Verdict {
    /// Whether the figure moved, for better or worse.
    pub(crate) fn moved(self) -> bool {
        matches!(self, Verdict::Better | Verdict::Worse)
    }
}

/// What can be said of two samples of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    /// Of the medians, or of the rounds where those are pairs. A ratio to zero has none in JSON.
    #[serde(serialize_with = "ratio")]
    pub(crate) change: Change,
    /// Of the rank test; exact counts need none.
    pub(crate) p: Option<f64>,
    /// The ratio of the rounds, where those are pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<Ratio>,
}

/// A figure as a multiple of another, taken round by round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// Rounds that have both.
    pub(crate) rounds: usize,
    /// The Hodges–Lehmann estimate over the rounds.
    pub(crate) middle: f64,
    /// The ends of its interval, which [`paired::shift`] describes.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A ratio whose interval reaches no further than this share from its middle is settled.
pub(crate) const SETTLED: f64 = 0.02;

impl Ratio {
    /// The ratio of these rounds, each `(before, after)`. `None` of no rounds, and where a figure is not above zero.
    pub(crate) fn of(rounds: &[(f64, f64)]) -> Option<Ratio> {
        if rounds.iter().any(|(before, after)| *before <= 0.0 || *after <= 0.0) {
            return None;
        }
        let logarithms: Vec<f64> = rounds.iter().map(|(before, after)| (after / before).ln()).collect();
        let shift = paired::shift(&logarithms)?;
        let [middle, low, high] = [shift.middle, shift.low, shift.high].map(f64::exp);
        Some(Ratio { rounds: rounds.len(), middle, low, high })
    }

    /// How far the interval reaches from the middle, as a share of it. What a single round reaches nobody knows.
    pub(crate) fn reach(&self) -> f64 {
        if self.rounds < 2 {
            return f64::INFINITY;
        }
        (self.high / self.middle - 1.0).max(1.0 - self.low / self.middle)
    }

    /// Whether it is known well enough: more rounds would tell nothing that matters. Only of six rounds and more there
    /// is a 95 % interval.
    pub(crate) fn is_settled(&self) -> bool {
        self.rounds >= INTERVAL_MIN && self.reach() <= SETTLED
    }
}

/// The fewest rounds that have a 95 % interval.
pub(crate) const INTERVAL_MIN: usize = 6;

impl Ratio {
    /// `×0.793`.
    pub(crate) fn multiple(&self) -> String {
        format!("×{}", numbers::ratio(self.middle))
    }

    /// `[0.781, 0.814]`.
    pub(crate) fn interval(&self) -> String {
        format!("[{}, {}]", numbers::ratio(self.low), numbers::ratio(self.high))
    }
}

impl fmt::Display for Ratio {
    /// `×0.793 [0.781, 0.814]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.multiple(), self.interval())
    }
}

fn ratio<S: serde::Serializer>(change: &Change, serializer: S) -> Result<S::Ok, S::Error> {
    match change {
        Change::Same => serializer.serialize_f64(0.0),
        Change::By(ratio) => serializer.serialize_f64(*ratio),
        Change::Gone | Change::New => serializer.collect_str(change),
    }
}

/// One figure of two steps, and what can be said of it.
#[derive(Clone, Debug)]
pub(crate) struct JudgedPair {
    pub(crate) old: Vec<f64>,
    pub(crate) new: Vec<f64>,
    pub(crate) judged: Judged,
}

/// Judges one figure of two steps. `runs` are the runs they are of: the rounds of all their steps show how much the
/// figure varies, and where they are one run, the rounds are pairs. `None` where either step lacks it.
pub(crate) fn steps(
    runs: &[&Run],
    metric: &Metric,
    side: Side,
    stage: Option<Stage>,
    [before, after]: [&StepRecord; 2],
    alpha: f64,
) -> Option<JudgedPair> {
    let (old, new) = (metric.samples(before, side, stage), metric.samples(after, side, stage));
    if old.is_empty() || new.is_empty() {
        return None;
    }
    let varies = variation(runs, metric, side, stage)(stats::median(&old).max(stats::median(&new)));
    // Each of the two may be off by what its instrument may have wrong.
    let slack = metric.slack(before, side) + metric.slack(after, side);
    let judged = match runs {
        [first, rest @ ..] if !metric.is_exact() && rest.iter().all(|run| run.id == first.id) => {
            let [before, after] =
                [before, after].map(|step| metric.rounds(step, first.subject.shape, Whose::Side(side)));
            rounds(metric, &before, &after, alpha)
        }
        _ => samples(metric, &old, &new, slack.max(varies), alpha),
    };
    Some(JudgedPair { old, new, judged })
}

/// Judges one timed figure of two steps of a run by the rounds that have both.
///
/// They are different when the signed-rank test's p is below `alpha` and their ratio a hundredth from one. Figures of zero have no ratio: of those the
/// differences are judged, and the change is that of the medians.
pub(crate) fn rounds(metric: &Metric, before: &BTreeMap<u32, f64>, after: &BTreeMap<u32, f64>, alpha: f64) -> Judged {
    let pairs: Vec<(f64, f64)> =
        before.iter().filter_map(|(round, before)| Some((*before, *after.get(round)?))).collect();
    let ratio = Ratio::of(&pairs);
    let difference = |(before, after): &(f64, f64)| match ratio {
        Some(_) => (after / before).ln(),
        None => after - before,
    };
    let differences: Vec<f64> = pairs.iter().map(difference).collect();
    let middle = |of: fn(&(f64, f64)) -> f64| stats::median(&pairs.iter().map(of).collect::<Vec<_>>());
    let (old, new) = match ratio {
        Some(ratio) => (1.0, ratio.middle),
        None if pairs.is_empty() => (1.0, 1.0),
        None => (middle(|pair| pair.0), middle(|pair| pair.1)),
    };
    let change = change(old, new);
    let judged = |verdict, p| Judged { verdict, change, p, ratio };
    if pairs.is_empty() || paired::smallest_p(pairs.len()) >= alpha {
        let equal = !pairs.is_empty() && differences.iter().all(|difference| *difference == 0.0);
        return judged(if equal { Verdict::Equal } else { Verdict::TooFew }, None);
    }
    if differences.iter().all(|difference| *difference == 0.0) {
        return judged(Verdict::Equal, None);
    }
    let p = paired::wilcoxon(&differences);
    let none = old == new || ratio.is_some_and(|ratio| (ratio.middle - 1.0).abs() < EQUALS);
    let verdict = if p >= alpha || none { Verdict::Unclear } else { towards(metric.better, old, new) };
    judged(verdict, Some(p))
}

/// Judges timed figures as one family: each keeps its verdict only if Holm's procedure lets it, so that a table in
/// which nothing differs has a mark in a share of at most `alpha` of runs. `p` becomes that of the procedure.
pub(crate) fn family<'a>(judged: impl IntoIterator<Item = &'a mut Judged>, alpha: f64) {
    let mut tested: Vec<&mut Judged> = judged.into_iter().filter(|judged| judged.p.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|judged| judged.p).collect();
    let size = p.len() as f64;
    for (judged, p) in tested.iter_mut().zip(paired::holm(&p)) {
        let beyond = judged.ratio.is_some_and(|ratio| size * paired::smallest_p(ratio.rounds) >= alpha);
        judged.p = Some(p);
        judged.verdict = match judged.verdict {
            Verdict::Equal => Verdict::Equal,
            _ if p < alpha => judged.verdict,
            _ if beyond => Verdict::TooFew,
            _ => Verdict::Unclear,
        };
    }
}

/// Judges two samples of one figure.
///
/// Exact counts that differ are different, unless rounds differ among themselves by as much or `slack` is as wide. Two
/// counts of one round each are not compared at all: what streams allocate varies with how the kernel delivers them,
/// and only a second round shows by how much. (Instructions are counted once, and state what they vary by.) Samples are
/// different when the rank test's p is below `alpha`.
pub(crate) fn samples(metric: &Metric, old: &[f64], new: &[f64], slack: f64, alpha: f64) -> Judged {
    let (before, after) = (stats::median(old), stats::median(new));
    let change = change(before, after);
    let towards = towards(metric.better, before, after);
    if old.iter().chain(new).all(|value| *value == before) {
        return Judged { verdict: Verdict::Equal, change, p: None, ratio: None };
    }
    match metric.accuracy {
        Accuracy::Exact | Accuracy::Within(_)
            if metric.instrument == Instrument::Count && old.len() < 2 && new.len() < 2 =>
        {
            Judged { verdict: Verdict::OneRound, change, p: None, ratio: None }
        }
        Accuracy::Exact | Accuracy::Within(_) => {
            let ((old_low, old_high), (new_low, new_high)) = (range(old), range(new));
            let apart = (new_low - old_high).max(old_low - new_high);
            let within = (old_high - old_low).max(new_high - new_low).max(slack);
            let verdict = if apart > within { towards } else { Verdict::Unclear };
            Judged { verdict, change, p: None, ratio: None }
        }
        Accuracy::Sampled => {
            let p = stats::mann_whitney(old, new);
            let verdict = match () {
                () if stats::smallest_p(old.len(), new.len()) >= alpha => Verdict::TooFew,
                () if p >= alpha || before == after => Verdict::Unclear,
                () => towards,
            };
            Judged { verdict, change, p: Some(p), ratio: None }
        }
    }
}

/// Judges two costs that were taken once each.
pub(crate) fn once(before: f64, after: f64) -> Judged {
    let change = change(before, after);
    let verdict = match change {
        Change::Same => Verdict::Equal,
        Change::By(ratio) if ratio.abs() < ONCE => Verdict::Unclear,
        _ => towards(Better::Less, before, after),
    };
    Judged { verdict, change, p: None, ratio: None }
}

fn towards(better: Better, before: f64, after: f64) -> Verdict {
    match (better, after < before) {
        (Better::Less, true) | (Better::More, false) => Verdict::Better,
        (Better::Less, false) | (Better::More, true) => Verdict::Worse,
    }
}

/// By how much a count of streamed traffic varies from round to round: the largest range among the steps of the runs,
/// as a share of the step's own figure and in full, whichever allows less. Two rounds may agree by chance; those of
/// all steps hardly do.
fn variation(runs: &[&Run], metric: &Metric, side: Side, stage: Option<Stage>) -> impl Fn(f64) -> f64 + use<> {
    let (mut share, mut full) = (0.0_f64, 0.0_f64);
    for step in runs.iter().flat_map(|run| &run.steps) {
        let samples = metric.samples(step, side, stage);
        let (low, high) = range(&samples);
        if samples.len() > 1 && high > low {
            share = share.max((high - low) / high);
            full = full.max(high - low);
        }
    }
    move |figure| full.min(share * figure)
}

/// The smallest and the largest; infinities of none.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    let fold = |start: f64, pick: fn(f64, f64) -> f64| values.iter().copied().fold(start, pick);
    (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max))
}

#[cfg(test)]
mod tests {
    use alloc_ladder::subject::scenario::Scenario;

    use crate::analyse::metric;
    use crate::fixture;

    use super::*;

    fn judged(metric: &Metric, old: &[f64], new: &[f64]) -> Judged {
        samples(metric, old, new, 0.0, ALPHA)
    }

    #[test]
    fn exact_counts_are_equal_or_different_unless_rounds_differ_by_as_much() {
        let allocs = |old: &[f64], new: &[f64]| judged(&metric::ALLOCS_PER_MESSAGE, old, new).verdict;
        assert_eq!(allocs(&[3.0, 3.0], &[3.0, 3.0]), Verdict::Equal);
        assert_eq!(allocs(&[3.0, 3.0], &[2.999, 2.999]), Verdict::Better);
        assert_eq!(allocs(&[3.0, 3.0], &[3.001]), Verdict::Worse, "the rounds of one side show that they repeat");
        assert_eq!(allocs(&[3.0, 3.01], &[3.005, 3.02]), Verdict::Unclear);
        assert_eq!(allocs(&[3.0, 3.01], &[3.019, 3.02]), Verdict::Unclear);
        assert_eq!(allocs(&[3.0, 3.01], &[3.05, 3.06]), Verdict::Worse);
        assert_eq!(judged(&metric::ALLOCS_PER_MESSAGE, &[3.0, 3.0], &[0.0, 0.0]).change, Change::Gone);
        let peak = &metric::PEAK_HEAP;
        assert_eq!(samples(peak, &[100_000.0; 2], &[104_000.0; 2], 4096.0, ALPHA).verdict, Verdict::Unclear);
        assert_eq!(samples(peak, &[100_000.0; 2], &[104_100.0; 2], 4096.0, ALPHA).verdict, Verdict::Worse);
    }

    #[test]
    fn rounds_that_differ_by_less_than_equal_programs_do_show_no_change() {
        let verdict = |share: f64| {
            let before: BTreeMap<u32, f64> = (0..20).map(|round| (round, 100.0 + f64::from(round % 7))).collect();
            let after = before.iter().map(|(round, cost)| (*round, cost * share)).collect();
            rounds(&metric::CPU_PER_GB, &before, &after, ALPHA).verdict
        };
        assert_eq!([0.992, 1.0, 1.008].map(verdict), [Verdict::Unclear, Verdict::Equal, Verdict::Unclear]);
        assert_eq!([0.985, 1.015].map(verdict), [Verdict::Better, Verdict::Worse]);
    }

    #[test]
    fn two_counts_of_one_round_each_are_not_compared_unless_they_are_equal() {
        for metric in [&metric::ALLOCS_PER_MESSAGE, &metric::BYTES_PER_MESSAGE, &metric::PEAK_HEAP] {
            assert_eq!(judged(metric, &[3.0], &[3.0]).verdict, Verdict::Equal);
            assert_eq!(judged(metric, &[3.0], &[300.0]).verdict, Verdict::OneRound);
            assert_eq!(judged(metric, &[300.0], &[3.0]).verdict, Verdict::OneRound);
            assert!(!judged(metric, &[3.0], &[300.0]).verdict.moved());
        }
        // Counted once by design, with a share that it varies by.
        let instructions = &metric::INSTRUCTIONS_PER_MESSAGE;
        assert_eq!(samples(instructions, &[1000.0], &[1100.0], 10.0, ALPHA).verdict, Verdict::Worse);
    }

    #[test]
    fn a_p_that_no_sample_of_that_size_could_beat_is_told_apart() {
        // Three against three: 0.1 at best, however far apart they are.
        assert_eq!(judged(&metric::CPU_PER_GB, &[1.0, 1.1, 1.2], &[9.0, 9.1, 9.2]).verdict, Verdict::TooFew);
        assert_eq!(judged(&metric::CPU_PER_GB, &[1.0, 1.1, 1.2, 1.3], &[9.0, 9.1, 9.2, 9.3]).verdict, Verdict::Worse);
        assert_eq!(
            judged(&metric::CPU_PER_GB, &[1.0, 1.1, 1.2, 1.3], &[1.05, 1.15, 1.0, 1.3]).verdict,
            Verdict::Unclear
        );
    }

    #[test]
    fn a_count_that_varies_is_judged_by_how_much_it_varies_in_any_step() {
        let rounds = |blocks: [u64; 2]| {
            let count = |(round, blocks)| fixture::count(Side::Server, round, &[(Stage::Transport, blocks, 0)]);
            (0..).zip(blocks).map(count).collect()
        };
        let run = |id, first, last| Run {
            steps: vec![fixture::step("baseline", rounds(first)), fixture::step("rope", rounds(last))],
            ..fixture::run(id, Scenario::Put)
        };
        // The two rounds of the old baseline agree by chance.
        let (old, new) = (run("old", [13_800, 13_800], [3000, 3010]), run("new", [13_900, 13_990], [3100, 3100]));
        let allocs = |before: &StepRecord, after: &StepRecord| {
            let runs = [&old, &new];
            steps(&runs, &metric::ALLOCS_PER_MESSAGE, Side::Server, None, [before, after], ALPHA)
                .map(|pair| pair.judged.verdict)
        };
        let varies = variation(&[&old, &new], &metric::ALLOCS_PER_MESSAGE, Side::Server, None);
        assert_eq!((varies(14.0) * 1e6).round() / 1e6, 0.09, "no more than was ever seen");
        assert!(varies(3.0) < 0.03, "and no larger a share");
        assert_eq!(allocs(&old.steps[0], &new.steps[0]), Some(Verdict::Worse), "100 blocks apart, 90 within");
        assert_eq!(allocs(&old.steps[1], &new.steps[1]), Some(Verdict::Worse), "90 blocks apart, 20 within");
        let same = run("same", [13_850, 13_890], [3000, 3000]);
        assert_eq!(allocs(&same.steps[0], &new.steps[0]), Some(Verdict::Unclear));
    }

    #[test]
    fn times_are_judged_by_rank_and_the_better_direction() {
        let slow: Vec<f64> = (0..10).map(|i| 1.0 + f64::from(i) / 1000.0).collect();
        let fast: Vec<f64> = slow.iter().map(|value| value * 1.5).collect();
        assert_eq!(judged(&metric::THROUGHPUT, &slow, &fast).verdict, Verdict::Better);
        assert_eq!(judged(&metric::THROUGHPUT, &fast, &slow).verdict, Verdict::Worse);
        assert_eq!(judged(&metric::CPU_PER_GB, &slow, &fast).verdict, Verdict::Worse);
        assert_eq!(judged(&metric::CPU_PER_GB, &slow, &slow).verdict, Verdict::Unclear);
        assert_eq!(judged(&metric::CPU_PER_GB, &slow[..3], &fast[..3]).verdict, Verdict::TooFew);
        assert_eq!(judged(&metric::CPU_PER_GB, &[1.0; 9], &[1.0; 9]).verdict, Verdict::Equal);
    }

    #[test]
    fn of_a_cost_taken_once_half_a_percent_is_no_change() {
        let verdict = |before, after| once(before, after).verdict;
        assert_eq!(verdict(5.0, 5.0), Verdict::Equal);
        assert_eq!(verdict(5.0, 5.01), Verdict::Unclear);
        assert_eq!(verdict(5.0, 5.1), Verdict::Worse);
        assert_eq!(verdict(5.0, 0.0), Verdict::Better);
        assert_eq!(verdict(0.0, 5.0), Verdict::Worse);
    }
}
