//! What the marks are worth: runs made up with the noise that was measured, through the rounds and the judge as they
//! are. Pure and seeded: the same every time.
//!
//! The noise is that of pinned rounds: every case varies by 1.5 % by itself, the machine drifts by up to a tenth over a
//! run and breathes by 3 %, some cases take longer, and now and then somebody else's work slows down eight cases in a
//! row by 5 to 30 %. On a quiet machine one case in two hundred takes up to a third longer, and others come once in five
//! hundred cases; on a busy one it is one in fifty, up to a half longer, and others come once in sixty.

use std::time::Duration;

use alloc_ladder::Side;
use alloc_ladder::record::Run;
use alloc_ladder::subject::scenario::Scenario;

use super::{Rounds, Until, split_mix};
use crate::analyse::judge::Verdict;
use crate::analyse::marks::{Against, Marks};
use crate::analyse::metric::{self, Whose};
use crate::fixture;

/// Steps of a ladder.
const STEPS: usize = 11;
/// The comparisons of a put ladder that are judged as one family.
const JUDGED: usize = 4 * (STEPS - 1);
/// What a case takes, starting and ending included.
const CASE: Duration = Duration::from_millis(420);
/// The budget of a ladder.
const BUDGET: Duration = Duration::from_secs(90);
/// By how much a case varies by itself.
const ITSELF: f64 = 0.015;

/// How often somebody else's work comes.
#[derive(Clone, Copy, Debug)]
enum Others {
    Seldom,
    Often,
}

/// A machine that does not belong to the run alone.
struct Machine {
    random: u64,
    cases: u32,
    others: Others,
    /// How much longer everything takes just now because of somebody else's work.
    burst: f64,
    drift: f64,
}

impl Machine {
    fn new(others: Others, seed: u64) -> Machine {
        let mut machine = Machine { random: seed, cases: 0, others, burst: 1.0, drift: 0.0 };
        machine.drift = 0.2 * machine.uniform() - 0.1;
        machine
    }

    fn uniform(&mut self) -> f64 {
        (split_mix(&mut self.random) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Box and Muller's transform.
    fn normal(&mut self) -> f64 {
        let (one, two) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
    }

    /// What the next case costs server and client, and how long it takes: multiples of what they would.
    fn case(&mut self) -> [f64; 3] {
        self.cases += 1;
        let (comes, longer, most) = match self.others {
            Others::Seldom => (1.0 / 500.0, 1.0 / 200.0, 1.3),
            Others::Often => (1.0 / 60.0, 1.0 / 50.0, 1.5),
        };
        if self.burst == 1.0 && self.uniform() < comes {
            self.burst = 1.05 + 0.25 * self.uniform();
        } else if self.burst > 1.0 && self.uniform() < 1.0 / 8.0 {
            self.burst = 1.0;
        }
        let at = f64::from(self.cases) / 220.0;
        let machine = (1.0 + self.drift * at) * (1.0 + 0.03 * (at * 9.0).sin()) * self.burst;
        let outlier = if self.uniform() < longer { 1.05 + (most - 1.05) * self.uniform() } else { 1.0 };
        std::array::from_fn(|_| machine * outlier * (ITSELF * self.normal()).exp())
    }
}

/// A run of a ladder whose steps cost this many times what the first costs.
fn run(steps: &[f64], judged: usize, others: Others, seed: u64) -> Run {
    let mut machine = Machine::new(others, seed);
    let mut rounds = Rounds::new(steps.len(), 0, judged, Until::Settled(BUDGET), seed);
    let mut records: Vec<_> = steps.iter().map(|_| fixture::step("rope", Vec::new())).collect();
    let mut spent = Duration::ZERO;
    while let Some(round) = rounds.next(spent) {
        for step in round.order {
            let [server, client, wall] = machine.case();
            let cost = |noise: f64| 100_000.0 * steps[step] * noise;
            for (side, noise) in [(Side::Server, server), (Side::Client, client)] {
                let wall_ns = (cost(wall) * 1000.0) as u64;
                records[step].measurements.push(fixture::time(side, round.number, cost(noise) as u64, wall_ns));
            }
            rounds.measured(step, round.number, vec![cost(server), cost(client), cost(server) + cost(client)]);
            spent += CASE;
        }
    }
    Run { steps: records, ..fixture::run("put-a", Scenario::Put) }
}

/// How many marks the tables of a run have: the terminal's, with a last row against the first step, and the page's
/// ladder.
fn marks(run: &Run) -> usize {
    let marks = Marks::of(run);
    let of_sides = [Side::Server, Side::Client].map(|side| (&metric::CPU_PER_GB, Whose::Side(side)));
    let of_pair = [(&metric::CPU_PER_GB, Whose::Pair), (&metric::THROUGHPUT, Whose::Pair)];
    let last = run.steps.len() - 1;
    let moved = |step, against, (metric, whose)| {
        marks.get(step, against, metric, whose).is_some_and(|judged| judged.verdict.moved())
    };
    let ladder = (1..=last).flat_map(|step| of_pair.map(|of| moved(step, Against::Previous, of)));
    let last_row = of_sides.into_iter().chain(of_pair).map(|of| moved(last, Against::First, of));
    ladder.chain(last_row).filter(|moved| *moved).count()
}

// What the tests found when they were written, of quiet and busy machines: ladders of equals with a mark 5 and 3 of 100,
// steps marked against themselves 4 and 7 of 200, differences of 5 % found 99 and 73 of 100.

#[test]
fn a_ladder_in_which_nothing_differs_is_marked_in_at_most_one_table_of_twenty() {
    const RUNS: u64 = 100;
    for others in [Others::Seldom, Others::Often] {
        let marked = (0..RUNS).filter(|seed| marks(&run(&[1.0; STEPS], JUDGED, others, *seed)) > 0).count();
        assert!(marked as u64 * 20 <= RUNS, "others {others:?}: {marked} of {RUNS}");
    }
}

#[test]
fn a_step_against_itself_is_marked_in_at_most_one_table_of_twenty() {
    const RUNS: u64 = 200;
    for others in [Others::Seldom, Others::Often] {
        let marked = (0..RUNS).filter(|seed| marks(&run(&[1.0; 2], 4, others, 1000 + seed)) > 0).count();
        assert!(marked as u64 * 20 <= RUNS, "others {others:?}: {marked} of {RUNS}");
    }
}

#[test]
fn a_difference_of_five_percent_is_found() {
    const RUNS: u64 = 100;
    let steps: [f64; STEPS] = std::array::from_fn(|step| if step < 5 { 1.0 } else { 0.95 });
    // On a busy machine more often than not.
    for (others, least) in [(Others::Seldom, 90), (Others::Often, 50)] {
        let found = (0..RUNS).filter(|seed| {
            let marks = Marks::of(&run(&steps, JUDGED, others, 5000 + seed));
            let pair = marks.get(5, Against::Previous, &metric::CPU_PER_GB, Whose::Pair).expect("judged");
            pair.verdict == Verdict::Better
        });
        let found = found.count();
        assert!(found >= least, "others {others:?}: {found} of {RUNS}");
    }
}
