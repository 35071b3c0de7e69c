//! The statistics of pairs: what two steps of one round differ by, round by round.
//!
//! Both ask the same thing of the differences: by how much they lie to one side of zero, each by its rank. The interval
//! holds the shifts that the test would not tell from zero, so that an interval without zero and a p below 0.05 say the
//! same. Both are exact up to [`EXACT_MAX`] differences; the one assumption is that a difference of nothing would fall
//! to either side alike, which the order of a round, drawn anew each time, sees to.
//!
//! Sources: F. Wilcoxon, "Individual comparisons by ranking methods", *Biometrics Bulletin* 1 (1945), 80–83 (the test);
//! J. W. Pratt, "Remarks on zeros and ties in the Wilcoxon signed rank procedures", *Journal of the American
//! Statistical Association* 54 (1959), 655–667 (zeros: ranked with the others, then left out); J. L. Hodges and E. L.
//! Lehmann, "Estimates of location based on rank tests", *Annals of Mathematical Statistics* 34 (1963), 598–611, and
//! M. Hollander and D. A. Wolfe, *Nonparametric Statistical Methods*, sections 3.2 and 3.3 (the estimate and its
//! interval); S. Holm, "A simple sequentially rejective multiple test procedure", *Scandinavian Journal of Statistics*
//! 6 (1979), 65–70.

use super::erfc;

/// The number of differences up to which the distribution of the ranks' sum is counted. Beyond it the approximation
/// differs in the third digit of p at most.
const EXACT_MAX: usize = 100;

/// The share of intervals that may miss what they are of.
const MISSES: f64 = 0.05;

/// Half the width of a 95 % interval of the normal distribution, in standard deviations.
const Z_95: f64 = 1.959_963_984_540_054;

/// The middle of some differences, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shift {
    pub(crate) middle: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The two-sided p-value of Wilcoxon's signed-rank test: how likely differences that lie this much to one side of zero
/// are when either side is as likely. 1 of none, and where all are zero.
///
/// Zeros are ranked with the others and then left out, as Pratt has it; equals share the mean of their ranks. Up to
/// [`EXACT_MAX`] differences p is counted over every way to choose the signs, ties among them; beyond that it is the
/// normal approximation with correction for continuity.
pub(crate) fn wilcoxon(differences: &[f64]) -> f64 {
    let ranks = signed_ranks(differences);
    let all: usize = ranks.iter().map(|(twice, _)| twice).sum();
    let above: usize = ranks.iter().filter(|(_, positive)| *positive).map(|(twice, _)| twice).sum();
    let smaller = above.min(all - above);
    if all == 0 {
        return 1.0;
    }
    let twice: Vec<usize> = ranks.iter().map(|(twice, _)| *twice).collect();
    if twice.len() <= EXACT_MAX {
        return (2.0 * sum_at_most(&twice, smaller)).min(1.0);
    }
    // Each rank is in the sum or not: it adds a quarter of its square to the variance.
    let variance: f64 = twice.iter().map(|twice| (*twice as f64 / 2.0).powi(2) / 4.0).sum();
    let z = (all as f64 / 4.0 - smaller as f64 / 2.0 - 0.5) / variance.sqrt();
    erfc(z / std::f64::consts::SQRT_2).min(1.0)
}

/// The smallest p that [`wilcoxon`] can give of `n` differences: all of them on one side.
pub(crate) fn smallest_p(n: usize) -> f64 {
    2.0_f64.powi(1 - i32::try_from(n).unwrap_or(i32::MAX)).min(1.0)
}

/// The Hodges–Lehmann estimate of what the differences lie around, which is the median of the means of all pairs of
/// them, and the interval of those means that misses it in at most 5 % of samples.
///
/// Fewer than six differences have no such interval: theirs is from the smallest to the largest, and misses in 6.25 %
/// (5 differences), 12.5 % (4), 25 % (3), 50 % (2) of samples, or always (1). `None` of none.
pub(crate) fn shift(differences: &[f64]) -> Option<Shift> {
    let mut means: Vec<f64> = (0..differences.len())
        .flat_map(|i| differences[i..].iter().map(move |other| differences[i].midpoint(*other)))
        .collect();
    if means.is_empty() {
        return None;
    }
    let outside = means_outside(differences.len());
    let last = means.len() - 1;
    let mut at = |index: usize| *means.select_nth_unstable_by(index, f64::total_cmp).1;
    let (low, high) = (at(outside), at(last - outside));
    Some(Shift { middle: at(last / 2).midpoint(at(last.div_ceil(2))), low, high })
}

/// How many of the means of pairs lie outside the interval at either end.
fn means_outside(n: usize) -> usize {
    if n > EXACT_MAX {
        let n = n as f64;
        let middle = n * (n + 1.0) / 4.0;
        return (middle - Z_95 * (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt()).floor() as usize;
    }
    // Below the middle of the distribution lies half of it, so the end is never reached.
    let ranks: Vec<usize> = (1..=n).collect();
    let mut below = 0.0;
    let mut misses = |way: &f64| {
        below += way;
        2.0 * below <= MISSES
    };
    sums(&ranks, n * (n + 1) / 4).iter().take_while(|way| misses(way)).count().saturating_sub(1)
}

/// Twice the rank of each difference that is not zero, among all of them by size, and whether it is positive. Twice,
/// because equals share the mean of their ranks, which may be half of an odd number.
fn signed_ranks(differences: &[f64]) -> Vec<(usize, bool)> {
    let mut sorted = differences.to_vec();
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let mut ranks = Vec::new();
    let mut below = 0;
    for equal in sorted.chunk_by(|a, b| a.abs() == b.abs()) {
        let twice = 2 * below + equal.len() + 1;
        below += equal.len();
        ranks.extend(equal.iter().filter(|value| **value != 0.0).map(|value| (twice, *value > 0.0)));
    }
    ranks
}

/// The probability that the sum of some of these, each in it or not as a coin falls, is at most `limit`.
fn sum_at_most(of: &[usize], limit: usize) -> f64 {
    sums(of, limit).iter().sum()
}

/// The probability of each sum up to `limit`.
fn sums(of: &[usize], limit: usize) -> Vec<f64> {
    let mut ways = vec![0.0; limit + 1];
    ways[0] = 1.0;
    for value in of {
        for sum in (0..=limit).rev() {
            let with = if sum >= *value { ways[sum - value] } else { 0.0 };
            ways[sum] = (ways[sum] + with) / 2.0;
        }
    }
    ways
}

/// The p-values that tests have as a family, in their order: below `alpha` are those that Holm's procedure rejects, and
/// any of those is wrong in at most that share of families.
pub(crate) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0_f64;
    for (before, index) in order.into_iter().enumerate() {
        largest = largest.max(((p.len() - before) as f64 * p[index]).min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(measured: f64, expected: f64) {
        assert!((measured - expected).abs() <= 1e-12 + 1e-9 * expected.abs(), "{measured} is not {expected}");
    }

    /// Each by `scipy.stats.wilcoxon(d, zero_method="pratt", method=PermutationMethod(n_resamples=inf)).pvalue` of scipy
    /// 1.17.1, which looks at every choice of signs. The first is M. Hollander and D. A. Wolfe's table 3.1, the last
    /// C. Darwin's maize as scipy's manual has it.
    #[test]
    fn exact_p_is_scipys() {
        close(wilcoxon(&HAMILTON), 0.0390625);
        close(wilcoxon(&[0.1, 0.2, 0.3, -0.4, 0.5, 0.6]), 0.21875);
        close(wilcoxon(&[1.0, 1.0, 2.0, -2.0, 3.0, 3.0, -1.0, 4.0]), 0.140625);
        close(wilcoxon(&[0.0, 0.0, 1.0, 2.0, -1.0, 3.0, 4.0, 0.0, 5.0]), 0.09375);
        let maize = [6.0, 8.0, 14.0, 16.0, 23.0, 24.0, 28.0, 29.0, 41.0, -48.0, 49.0, 56.0, 60.0, -67.0, 75.0];
        close(wilcoxon(&maize), 0.041259765625);
        assert_eq!(wilcoxon(&[0.0; 7]), 1.0);
        assert_eq!(wilcoxon(&[]), 1.0);
    }

    /// `scipy.stats.wilcoxon(d, zero_method="pratt", method="asymptotic", correction=True).pvalue` of scipy 1.17.1; the
    /// second has zeros and ties.
    #[test]
    fn p_of_many_differences_is_scipys_approximation() {
        let spread: Vec<f64> = (0..120).map(|i| f64::from(i * 37 % 101) - 40.5).collect();
        close(wilcoxon(&spread), 0.0025086665794784883);
        let tied: Vec<f64> = (0..130).map(|i| f64::from(i * 37 % 11) - 4.0).collect();
        close(wilcoxon(&tied), 0.0011136815926259243);
    }

    /// The largest sum of ranks that is significant at two-sided 0.05 (Wilcoxon 1945; the table every textbook
    /// reprints). It is also the number of means that lie outside the interval at either end.
    #[test]
    fn exact_p_meets_the_published_critical_values() {
        for (n, critical) in [
            (6, 0),
            (7, 2),
            (8, 3),
            (9, 5),
            (10, 8),
            (11, 10),
            (12, 13),
            (15, 25),
            (20, 52),
            (25, 89),
            (30, 137),
            (50, 434),
        ] {
            let twice: Vec<usize> = (1..=n).map(|rank| 2 * rank).collect();
            assert!(2.0 * sum_at_most(&twice, 2 * critical) <= 0.05, "{n}: {critical}");
            assert!(2.0 * sum_at_most(&twice, 2 * critical + 2) > 0.05, "{n}: {critical} + 1");
            assert_eq!(means_outside(n), critical, "{n}");
        }
        assert_eq!(means_outside(3), 0);
        // The approximation goes on where the count ends.
        assert!((1945..=1960).contains(&means_outside(EXACT_MAX)));
        assert!((1985..=2000).contains(&means_outside(EXACT_MAX + 1)));
    }

    const HAMILTON: [f64; 9] = [0.952, -0.147, 1.022, 0.430, 0.620, 0.590, 0.490, -0.080, 0.010];

    /// The estimate and interval that Hollander and Wolfe give for their table 3.1 (examples 3.3 and 3.4), and R's
    /// `wilcox.test(x, y, paired = TRUE, conf.int = TRUE)` for the same.
    #[test]
    fn the_shift_is_the_textbooks() {
        let found = shift(&HAMILTON).expect("differences");
        close(found.middle, 0.46);
        close(found.low, 0.010);
        close(found.high, 0.786);
        assert_eq!(shift(&[2.0]), Some(Shift { middle: 2.0, low: 2.0, high: 2.0 }));
        assert_eq!(shift(&[]), None);
    }

    #[test]
    fn an_interval_without_zero_and_a_p_below_a_twentieth_say_the_same() {
        // Knuth's generator: any samples do, these are the same every time.
        let mut state = 3_u64;
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31) - 0.35
        };
        let mut told = [0, 0];
        for n in (6..30).cycle().take(600) {
            let differences: Vec<f64> = (0..n).map(|_| number()).collect();
            let Shift { low, high, .. } = shift(&differences).expect("differences");
            let differs = wilcoxon(&differences) <= 0.05;
            assert_eq!(low > 0.0 || high < 0.0, differs, "{differences:?}");
            told[usize::from(differs)] += 1;
        }
        assert!(told[0] > 50 && told[1] > 50, "{told:?}");
    }

    /// `statsmodels.stats.multitest.multipletests(p, method="holm")` of statsmodels 0.15.0.
    #[test]
    fn a_family_is_statsmodels() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005, 0.5, 0.02]);
        for (measured, expected) in adjusted.iter().zip([0.05, 0.09, 0.09, 0.03, 0.5, 0.08]) {
            close(*measured, expected);
        }
        assert_eq!(holm(&[]), Vec::<f64>::new());
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }
}
