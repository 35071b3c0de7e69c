//! Interleaved rounds: who is measured next, in which order, and when it is enough.
//!
//! A round runs every contender, in one process or in several turns, so that rounds are pairs: whatever the machine does from one to the next, it does
//! to all of them. The order of a round is a row of a Williams design, a Latin square in which each contender stands as
//! often at each place, and comes as often right after each other one; what a contender leaves behind (a warm cache, a
//! hot core) then falls on all alike. Which contender is which of the design is drawn anew for each design.
//!
//! Contenders are indexes. Those that stand next to each other are what a reader compares, and rounds that go on until
//! they are settled leave out who needs no more, but never one of two neighbours. It knows no clock and no process: who
//! measures says what was measured and how long it took.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::analyse::judge::{ALPHA, INTERVAL_MIN, Ratio};
use crate::analyse::stats::paired;

/// How many rounds there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// So many.
    Rounds(u32),
    /// As many as it takes to settle every neighbour's costs, or as fit into this time.
    Settled(Duration),
}

/// What one contender cost in one round: CPU time of the server, of the client, of both.
pub(crate) type Costs = Vec<f64>;

/// The rounds of some contenders.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// Contenders that are compared, each with the one before it.
    compared: usize,
    /// Contenders that only run along: peers.
    along: usize,
    /// Contenders that failed, and take no part any more.
    out: BTreeSet<usize>,
    until: Until,
    /// Rounds of all contenders before any is left out.
    least: u32,
    random: u64,
    /// What was measured of each contender that is compared, by round.
    costs: Vec<BTreeMap<u32, Costs>>,
    /// Rounds begun.
    begun: u32,
    /// Contenders in them.
    cases: u32,
    /// What had been spent when the first began.
    before: Duration,
    design: Design,
}

/// A round to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// Counted from 0: what makes pairs of measurements.
    pub(crate) number: u32,
    /// The contenders, in the order they run in.
    pub(crate) order: Vec<usize>,
}

impl Rounds {
    /// Rounds of `compared` contenders, each a neighbour of the next, and of `along` more that run in rounds of all.
    /// `judged` says how many comparisons are judged as one family: there are as many rounds of all as it takes to tell
    /// one of them from chance.
    pub(crate) fn new(compared: usize, along: usize, judged: usize, until: Until, seed: u64) -> Rounds {
        Rounds {
            compared,
            along,
            out: BTreeSet::new(),
            until,
            least: rounds_that_tell(judged),
            random: seed,
            costs: vec![BTreeMap::new(); compared],
            begun: 0,
            cases: 0,
            before: Duration::ZERO,
            design: Design::default(),
        }
    }

    /// The next round; `None` when it is enough. `spent` is the time that measuring took so far, what came before the
    /// first round included.
    pub(crate) fn next(&mut self, spent: Duration) -> Option<Round> {
        let members = match self.until {
            Until::Rounds(rounds) if self.begun >= rounds => return None,
            Until::Rounds(_) => self.everyone(),
            Until::Settled(_) if self.begun < self.least => self.everyone(),
            Until::Settled(_) => self.unsettled(),
        };
        if self.begun == 0 {
            self.before = spent;
        } else if let Until::Settled(budget) = self.until {
            let each = spent.saturating_sub(self.before) / self.cases.max(1);
            if spent + each * members.len() as u32 > budget {
                return None;
            }
        }
        if members.is_empty() {
            return None;
        }
        let number = self.begun;
        self.begun += 1;
        self.cases += members.len() as u32;
        Some(Round { number, order: self.design.next(&members, &mut self.random) })
    }

    /// What a contender cost in a round.
    pub(crate) fn measured(&mut self, contender: usize, round: u32, costs: Costs) {
        if let Some(of) = self.costs.get_mut(contender) {
            of.insert(round, costs);
        }
    }

    /// Leaves a contender out of all rounds to come: those beside it are neighbours then.
    pub(crate) fn leave_out(&mut self, contender: usize) {
        self.out.insert(contender);
    }

    /// Rounds begun so far.
    pub(crate) const fn begun(&self) -> u32 {
        self.begun
    }

    fn everyone(&self) -> Vec<usize> {
        (0..self.compared + self.along).filter(|at| !self.out.contains(at)).collect()
    }

    /// The contenders that are not settled against a neighbour, with that neighbour.
    fn unsettled(&self) -> Vec<usize> {
        let standing: Vec<usize> = (0..self.compared).filter(|at| !self.out.contains(at)).collect();
        let apart: Vec<bool> =
            standing.windows(2).map(|pair| !settled(&self.costs[pair[0]], &self.costs[pair[1]])).collect();
        let with = |at: usize| apart.get(at).copied().unwrap_or(false);
        let wanted = (0..standing.len()).filter(|at| with(*at) || at.checked_sub(1).is_some_and(with));
        wanted.map(|at| standing[at]).collect()
    }
}

/// Whether every cost of two neighbours is settled. Not whether they differ: rounds that went on until something is
/// told from chance would find it too often.
fn settled(one: &BTreeMap<u32, Costs>, other: &BTreeMap<u32, Costs>) -> bool {
    let both = one.iter().filter_map(|(round, costs)| Some((costs, other.get(round)?)));
    let rounds: Vec<(&Costs, &Costs)> = both.collect();
    let kinds = rounds.iter().map(|(one, other)| one.len().min(other.len())).min().unwrap_or(0);
    let of = |kind: usize| rounds.iter().map(|(one, other)| (one[kind], other[kind])).collect::<Vec<_>>();
    kinds > 0 && (0..kinds).all(|kind| Ratio::of(&of(kind)).is_some_and(|ratio| ratio.is_settled()))
}

/// The fewest rounds after which one of so many comparisons can be told from chance although a round was spoilt, by as
/// much as it likes and in the wrong direction.
fn rounds_that_tell(judged: usize) -> u32 {
    let tells = |rounds: &u32| {
        let mut differences: Vec<f64> = (1..=*rounds).map(f64::from).collect();
        differences.last_mut().into_iter().for_each(|largest| *largest = -*largest);
        judged as f64 * paired::wilcoxon(&differences) < ALPHA
    };
    (INTERVAL_MIN as u32..).find(tells).expect("p halves with every round")
}

/// The orders that rounds of some members have yet to run in.
#[derive(Debug, Default)]
struct Design {
    members: Vec<usize>,
    orders: Vec<Vec<usize>>,
}

impl Design {
    fn next(&mut self, members: &[usize], random: &mut u64) -> Vec<usize> {
        if self.members != members || self.orders.is_empty() {
            let mut names = members.to_vec();
            shuffle(&mut names, random);
            self.orders = williams(members.len());
            shuffle(&mut self.orders, random);
            self.orders.iter_mut().flatten().for_each(|at| *at = names[*at]);
            self.members = members.to_vec();
        }
        self.orders.pop().expect("a design has orders")
    }
}

/// The orders of a Williams design of `n`: `n` of an even number, twice as many of an odd one (E. J. Williams,
/// "Experimental designs balanced for the estimation of residual effects of treatments", *Australian Journal of
/// Scientific Research* 2 (1949), 149–168).
fn williams(n: usize) -> Vec<Vec<usize>> {
    // 0, 1, n−1, 2, n−2, …: all differences of neighbours are different.
    let first: Vec<usize> = (0..n).map(|at| if at % 2 == 1 { at.div_ceil(2) } else { (n - at / 2) % n }).collect();
    let row = |shift: usize| first.iter().map(move |at| (at + shift) % n).collect::<Vec<_>>();
    let mut orders: Vec<Vec<usize>> = (0..n).map(row).collect();
    if n % 2 == 1 {
        orders.extend((0..n).map(|shift| row(shift).into_iter().rev().collect::<Vec<_>>()));
    }
    orders
}

/// A seed from the clock.
pub(crate) fn clock_seed() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

/// Fisher and Yates's shuffle, on Steele, Lea and Flood's SplitMix64.
pub(crate) fn shuffle<T>(order: &mut [T], random: &mut u64) {
    for last in (1..order.len()).rev() {
        order.swap(last, (split_mix(random) % (last as u64 + 1)) as usize);
    }
}

/// The next number of the generator.
fn split_mix(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *random;
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_orders_and_every_peer_in_each() {
        let (mut one, mut two) = (7, 7);
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let mut order = [0, 1, 2];
            shuffle(&mut order, &mut one);
            let mut again = [0, 1, 2];
            shuffle(&mut again, &mut two);
            assert_eq!(order, again);
            seen.insert(order);
        }
        assert_eq!(seen.len(), 6, "every order of three comes up");
    }

    #[test]
    fn a_design_has_everyone_at_each_place_and_after_each_other_alike() {
        for n in 1..12 {
            let orders = williams(n);
            let each = if n % 2 == 1 { 2 } else { 1 };
            assert_eq!(orders.len(), each * n);
            for one in 0..n {
                for place in 0..n {
                    assert_eq!(
                        orders.iter().filter(|order| order[place] == one).count(),
                        each,
                        "{n}: {one} at {place}"
                    );
                }
                for other in (0..n).filter(|other| *other != one) {
                    let follows = orders.iter().flat_map(|order| order.windows(2)).filter(|two| **two == [one, other]);
                    assert_eq!(follows.count(), each, "{n}: {other} after {one}");
                }
            }
        }
    }

    /// Runs the rounds; `cost` is of a contender and a round, and a case takes a second.
    fn run(mut rounds: Rounds, cost: impl Fn(usize, u32) -> f64) -> Vec<Round> {
        let mut seen = Vec::new();
        let mut spent = Duration::ZERO;
        while let Some(round) = rounds.next(spent) {
            for contender in &round.order {
                rounds.measured(*contender, round.number, vec![cost(*contender, round.number)]);
                spent += Duration::from_secs(1);
            }
            seen.push(round);
        }
        seen
    }

    fn sorted(round: &Round) -> Vec<usize> {
        let mut members = round.order.clone();
        members.sort_unstable();
        members
    }

    #[test]
    fn a_fixed_number_of_rounds_has_everyone_in_each() {
        let seen = run(Rounds::new(3, 2, 9, Until::Rounds(7), 1), |_, _| 1.0);
        assert_eq!(seen.iter().map(|round| round.number).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
        assert!(seen.iter().all(|round| sorted(round) == [0, 1, 2, 3, 4]));
        assert!(seen.iter().any(|round| round.order != seen[0].order));
        assert!(run(Rounds::new(3, 0, 9, Until::Rounds(0), 1), |_, _| 1.0).is_empty());
    }

    #[test]
    fn rounds_go_on_where_neighbours_are_not_settled() {
        // Contender 3 varies; the others never do.
        let cost = |contender: usize, round: u32| if contender == 3 { 1.0 + f64::from(round * 7 % 11) } else { 2.0 };
        let seen = run(Rounds::new(6, 1, 20, Until::Settled(Duration::from_secs(200)), 1), cost);
        let all = seen.iter().take_while(|round| round.order.len() == 7).count();
        assert_eq!(all, 18, "as many as it takes for one of twenty to be told");
        assert!(seen[all..].iter().all(|round| sorted(round) == [2, 3, 4]));
        let cases: usize = seen.iter().map(|round| round.order.len()).sum();
        assert!((198..=200).contains(&cases), "the budget is spent and not overspent: {cases}");
    }

    #[test]
    fn who_is_left_out_has_no_neighbours_and_its_own_are_each_other_s() {
        let mut rounds = Rounds::new(3, 0, 1, Until::Rounds(4), 1);
        assert_eq!(sorted(&rounds.next(Duration::ZERO).expect("a first")), [0, 1, 2]);
        rounds.leave_out(1);
        assert_eq!(sorted(&rounds.next(Duration::ZERO).expect("a second")), [0, 2]);
        let mut rounds = Rounds::new(3, 0, 1, Until::Settled(Duration::from_secs(1000)), 1);
        rounds.leave_out(1);
        let mut seen = 0;
        while let Some(round) = rounds.next(Duration::from_secs(seen)) {
            assert_eq!(sorted(&round), [0, 2]);
            round.order.iter().for_each(|contender| rounds.measured(*contender, round.number, vec![1.0]));
            seen += 1;
        }
        assert_eq!(seen, 12, "what settles is 0 against 2");
    }

    #[test]
    fn rounds_end_when_all_are_settled_or_the_time_is_up() {
        let until = Until::Settled(Duration::from_secs(1000));
        assert_eq!(run(Rounds::new(4, 0, 1, until, 1), |_, _| 1.0).len(), 12, "fewer tell nothing once one is spoilt");
        let cut = run(Rounds::new(4, 0, 30, Until::Settled(Duration::from_secs(13)), 1), |_, _| 1.0);
        assert_eq!(cut.len(), 3, "a fourth round would end after sixteen seconds");
        let one = run(Rounds::new(4, 0, 30, Until::Settled(Duration::ZERO), 1), |_, _| 1.0);
        assert_eq!(one.len(), 1, "something is measured however little time there is");
        assert_eq!(run(Rounds::new(1, 0, 0, until, 1), |_, _| 1.0).len(), 6, "one contender has no neighbours");
        let zero = run(Rounds::new(2, 0, 1, Until::Settled(Duration::from_secs(40)), 1), |_, _| 0.0);
        assert_eq!(zero.len(), 20, "what cannot be told is never settled");
    }
}
