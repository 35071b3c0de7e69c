//! The marks of a run: every timed figure of every step against the step before and against the first, judged as
//! families.
//!
//! A table of forty comparisons has two by chance of which p is below 0.05. So nothing that was timed is marked better
//! or worse before all that a table marks was judged together ([`judge::family`]): what rounds are for (CPU time, rates,
//! latencies) of both sides and the pair over all steps as one family, and all other figures as another.

use std::collections::BTreeMap;

use alloc_ladder::Side;
use alloc_ladder::record::{Run, Shape, StepRecord};

use crate::analyse::judge::{self, ALPHA, Judged};
use crate::analyse::metric::{self, METRICS, Metric, Part, Whose};

/// What a step is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// The step that it changes, most often the one before.
    Previous,
    /// The first step of the run, which is the baseline unless the run has other steps.
    First,
}

/// One timed figure of one step against that of another.
#[derive(Clone, Debug)]
struct Mark {
    step: usize,
    against: Against,
    metric: &'static Metric,
    whose: Whose,
    judged: Judged,
}

/// All marks of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    marks: Vec<Mark>,
    /// As [`alone`].
    alone: Option<Side>,
}

/// A neighbour's figure of which the interval is wider than it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unsettled {
    /// The later of the two steps, counted from 0.
    pub(crate) step: usize,
    pub(crate) whose: Whose,
    /// How far the interval reaches, as a share; infinite where it has none.
    pub(crate) reach: f64,
}

/// What times are taken for; the rest that is timed comes with it.
const TIMED: [&Metric; 6] = [
    &metric::THROUGHPUT,
    &metric::CALLS_PER_SECOND,
    &metric::CPU_PER_GB,
    &metric::CPU_PER_MESSAGE,
    &metric::LATENCY_P50,
    &metric::LATENCY_P99,
];

/// The CPU time that steps of this traffic are judged by.
pub(crate) fn cpu(shape: Shape) -> &'static Metric {
    if shape.has_payload() { &metric::CPU_PER_GB } else { &metric::CPU_PER_MESSAGE }
}

/// How many figures of a step are judged as one family with those of the other steps.
pub(crate) fn judged_together(shape: Shape) -> usize {
    let of = |metric: &&&Metric| metric.is_meant_for(shape);
    let is_one = |metric: &Metric| shape == Shape::Program || metric.sides(shape).len() == 1;
    TIMED.iter().filter(of).map(|metric| if is_one(metric) { 1 } else { Whose::ALL.len() }).sum()
}

/// The side of a program that was measured by itself: what would be the pair's is its own, one figure and not two.
pub(crate) fn alone(run: &Run) -> Option<Side> {
    let is_there = |side: &Side| run.steps.iter().flat_map(|step| &step.measurements).any(|m| m.side == *side);
    let mut sides = Side::ALL.into_iter().filter(is_there);
    let first = sides.next().filter(|_| run.subject.shape == Shape::Program);
    first.filter(|_| sides.next().is_none())
}

impl Marks {
    /// Judges everything timed of a run.
    pub(crate) fn of(run: &Run) -> Marks {
        let timed = |metric: &&'static Metric| {
            !metric.is_exact()
                && metric.part == Part::Measured
                && metric.is_meant_for(run.subject.shape)
                && metric.says_something_of(run)
        };
        let (first, rest): (Vec<_>, Vec<_>) = METRICS.iter().filter(timed).partition(|metric| TIMED.contains(metric));
        let alone = alone(run);
        let mut marks = Vec::new();
        for family in [first, rest] {
            let rounds = family.iter().flat_map(|metric| of_metric(run, metric, alone)).collect::<Vec<_>>();
            for against in [Against::Previous, Against::First] {
                let mut judged: Vec<Mark> = rounds.iter().flat_map(|rounds| rounds.marks(against)).collect();
                judge::family(judged.iter_mut().map(|mark| &mut mark.judged), ALPHA);
                marks.append(&mut judged);
            }
        }
        Marks { marks, alone }
    }

    /// How a step's figure stands; `None` where either step lacks it, or it was counted.
    pub(crate) fn get(&self, step: usize, against: Against, metric: &Metric, whose: Whose) -> Option<&Judged> {
        let whose = if self.alone.is_some_and(|side| whose == Whose::Side(side)) { Whose::Pair } else { whose };
        let is =
            |mark: &&Mark| (mark.step, mark.against, mark.whose) == (step, against, whose) && mark.metric == metric;
        self.marks.iter().find(is).map(|mark| &mark.judged)
    }

    /// The CPU times of neighbours that more rounds would tell more of.
    pub(crate) fn unsettled(&self, run: &Run) -> Vec<Unsettled> {
        let cpu = cpu(run.subject.shape);
        let wide = |mark: &&Mark| mark.against == Against::Previous && mark.metric == cpu;
        let unsettled = self.marks.iter().filter(wide).filter_map(|Mark { step, whose, judged, .. }| {
            let ratio = judged.ratio.filter(|ratio| !ratio.is_settled())?;
            let whose = self.alone.map_or(*whose, Whose::Side);
            Some(Unsettled { step: *step, whose, reach: ratio.reach() })
        });
        let mut unsettled: Vec<Unsettled> = unsettled.collect();
        unsettled.sort_by_key(|unsettled| unsettled.step);
        unsettled
    }
}

/// The rounds of one figure of every step.
struct Rounds {
    metric: &'static Metric,
    whose: Whose,
    steps: Vec<BTreeMap<u32, f64>>,
    /// Of each step that which it changes, by index.
    before: Vec<Option<usize>>,
}

fn of_metric(run: &Run, metric: &'static Metric, alone: Option<Side>) -> impl Iterator<Item = Rounds> {
    let shape = run.subject.shape;
    // The pair of a rate is the side it is taken from: one figure, not two.
    let single = alone.is_some() || metric.sides(shape).len() == 1;
    Whose::ALL.into_iter().filter(move |whose| !single || *whose == Whose::Pair).map(move |whose| {
        let rounds = |step: &StepRecord| metric.rounds(step, shape, whose);
        let before = (0..run.steps.len()).map(|step| run.before(step)).collect();
        Rounds { metric, whose, steps: run.steps.iter().map(rounds).collect(), before }
    })
}

impl Rounds {
    fn marks(&self, against: Against) -> impl Iterator<Item = Mark> {
        let Rounds { metric, whose, steps, before } = self;
        (1..steps.len()).filter_map(move |step| {
            let before = &steps[match against {
                Against::Previous => before[step]?,
                Against::First => 0,
            }];
            let measured = !before.is_empty() && !steps[step].is_empty();
            let judged = || judge::rounds(metric, before, &steps[step], ALPHA);
            measured.then(|| Mark { step, against, metric, whose: *whose, judged: judged() })
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc_ladder::subject::scenario::Scenario;

    use crate::analyse::judge::Verdict;
    use crate::fixture;

    use super::*;

    /// A run whose steps take this much server CPU in each round, and the client a thousand microseconds.
    fn run(steps: &[&[u64]]) -> Run {
        let step = |server: &[u64]| {
            let rounds = (0..).zip(server).flat_map(|(round, cpu)| {
                [
                    fixture::time(Side::Server, round, *cpu, 1_000_000),
                    fixture::time(Side::Client, round, 1000, 1_000_000),
                ]
            });
            fixture::step("rope", rounds.collect())
        };
        Run { steps: steps.iter().map(|server| step(server)).collect(), ..fixture::run("put-a", Scenario::Put) }
    }

    #[test]
    fn a_step_is_judged_against_the_one_that_it_changes() {
        let [slow, fast, faster] =
            [10_000, 5_000, 4_000].map(|cpu| (0..12).map(|round| cpu + round).collect::<Vec<_>>());
        let mut run = run(&[&slow, &fast, &faster]);
        for (step, name) in run.steps.iter_mut().zip(["baseline", "gzip", "zstd"]) {
            step.name = name.to_owned();
        }
        let ratio = |run: &Run| {
            let marks = Marks::of(run);
            let zstd = marks.get(2, Against::Previous, &metric::CPU_PER_GB, Whose::Side(Side::Server));
            zstd.and_then(|judged| judged.ratio).expect("a ratio").middle
        };
        assert!((0.79..0.81).contains(&ratio(&run)), "the step before");
        run.steps[2].from = Some("baseline".to_owned());
        assert!((0.39..0.41).contains(&ratio(&run)), "the step that it names");
        assert_eq!((run.before(2), run.elsewhere(2), run.elsewhere(1)), (Some(0), Some("baseline"), None));
        // A run of some steps may lack the one that is named.
        run.steps[2].from = Some("left-out".to_owned());
        assert_eq!((run.before(0), run.before(2), run.elsewhere(2)), (None, Some(1), None));
    }

    #[test]
    fn rounds_are_pairs_and_the_machine_may_slow_down_between_them() {
        // The rounds of either step overlap; in every one the second step takes a tenth less.
        let first: Vec<u64> = (0..12).map(|round| 10_000 + 1000 * round).collect();
        let second: Vec<u64> = first.iter().zip(0..).map(|(cpu, round)| cpu * (895 + round) / 1000).collect();
        let run = run(&[&first, &second]);
        let marks = Marks::of(&run);
        let server = marks.get(1, Against::Previous, &metric::CPU_PER_GB, Whose::Side(Side::Server)).expect("judged");
        assert_eq!(server.verdict, Verdict::Better);
        let ratio = server.ratio.expect("a ratio");
        assert!((0.899..0.902).contains(&ratio.middle) && ratio.is_settled(), "{ratio:?}");
        assert_eq!(
            judge::samples(
                &metric::CPU_PER_GB,
                &first.iter().map(|cpu| *cpu as f64).collect::<Vec<_>>(),
                &second.iter().map(|cpu| *cpu as f64).collect::<Vec<_>>(),
                0.0,
                ALPHA,
            )
            .verdict,
            Verdict::Unclear,
            "value against value says nothing"
        );
        let client = marks.get(1, Against::Previous, &metric::CPU_PER_GB, Whose::Side(Side::Client)).expect("judged");
        assert_eq!((client.verdict, client.p), (Verdict::Equal, None));
        let pair = marks.get(1, Against::First, &metric::CPU_PER_GB, Whose::Pair).expect("judged");
        assert!(pair.ratio.expect("a ratio").middle > ratio.middle, "the client's part stays");
        assert!(marks.unsettled(&run).is_empty());
    }

    #[test]
    fn only_rounds_that_both_steps_have_are_compared() {
        let mut run = run(&[&[1000; 12], &[900; 12]]);
        run.steps[0].measurements.retain(|m| m.round != 3);
        run.steps[1].measurements.retain(|m| m.round != 7);
        let marks = Marks::of(&run);
        let pair = marks.get(1, Against::Previous, &metric::CPU_PER_GB, Whose::Pair).expect("judged");
        assert_eq!(pair.ratio.expect("a ratio").rounds, 10);
    }

    #[test]
    fn a_family_marks_less_than_its_tests_alone_would() {
        // Ten of twelve rounds to one side: p = 0.027 alone.
        let fast = (1..=12_u64).map(|rank| if [5, 6].contains(&rank) { 1000 + 10 * rank } else { 1000 - 10 * rank });
        let fast: Vec<u64> = fast.collect();
        let steps: Vec<Vec<u64>> = (0..8).map(|step| if step == 4 { fast.clone() } else { vec![1000; 12] }).collect();
        let steps: Vec<&[u64]> = steps.iter().map(Vec::as_slice).collect();
        let run = run(&steps);
        let of = |step: usize| metric::CPU_PER_GB.rounds(&run.steps[step], run.subject.shape, Whose::Pair);
        assert_eq!(judge::rounds(&metric::CPU_PER_GB, &of(3), &of(4), ALPHA).verdict, Verdict::Better);
        let marks = Marks::of(&run);
        let marked = marks.get(4, Against::Previous, &metric::CPU_PER_GB, Whose::Pair).expect("judged");
        assert_eq!(marked.verdict, Verdict::Unclear);
        let unsettled: Vec<usize> = marks.unsettled(&run).iter().map(|unsettled| unsettled.step).collect();
        assert_eq!(unsettled, [4, 4, 5, 5], "server and pair, of the step and of the one after it");
    }

    #[test]
    fn a_program_by_itself_is_judged_once_and_not_as_its_own_pair_too() {
        let step = |cpu: u64| {
            let rounds = (0..12).map(|round| fixture::time(Side::Server, round, cpu + u64::from(round), 1_000_000));
            fixture::step("rope", rounds.collect())
        };
        let mut run = run(&[]);
        run.subject = alloc_ladder::record::Subject { name: "svc".to_owned(), shape: Shape::Program };
        run.steps = vec![step(10_000), step(9_000)];
        assert_eq!(alone(&run), Some(Side::Server));
        let marks = Marks::of(&run);
        let of = |whose| marks.get(1, Against::Previous, &metric::CPU_PER_MESSAGE, whose).map(|mark| mark.verdict);
        assert_eq!(of(Whose::Side(Side::Server)), Some(Verdict::Better));
        assert_eq!(of(Whose::Pair), of(Whose::Side(Side::Server)));
        assert_eq!(of(Whose::Side(Side::Client)), None);
        let cpus = marks.marks.iter().filter(|mark| *mark.metric == metric::CPU_PER_MESSAGE);
        assert_eq!(cpus.count(), 2, "against the step before and against the first");
    }

    #[test]
    fn what_is_judged_together_is_counted() {
        assert_eq!(judged_together(Shape::Upload), 4, "CPU of both sides and the pair, throughput");
        assert_eq!(judged_together(Shape::Unary), 6, "CPU three times, calls a second, two latencies");
    }

    #[test]
    fn rounds_too_few_for_any_mark_say_so() {
        let run = run(&[&[1000; 5], &[500; 5], &[250; 5]]);
        let marks = Marks::of(&run);
        let pair = marks.get(1, Against::Previous, &metric::CPU_PER_GB, Whose::Pair).expect("judged");
        assert_eq!(pair.verdict, Verdict::TooFew);
        assert!(marks.get(0, Against::Previous, &metric::CPU_PER_GB, Whose::Pair).is_none());
        assert!(marks.get(1, Against::Previous, &metric::ALLOCS_PER_MESSAGE, Whose::Pair).is_none());
    }
}
