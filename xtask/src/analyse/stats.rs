//! The statistics behind every time: medians, their intervals, and whether two samples differ.
//!
//! Nothing here assumes a distribution, because a benchmark's noise has none worth the name: a median, an interval
//! between two of the values themselves, and a rank test. It knows nothing of metrics or runs. Exact counts need none
//! of it: two counts are equal or they are not.
//!
//! Sources: H. A. David and H. N. Nagaraja, *Order Statistics*, 3rd ed., section 7.1 (the interval); H. B. Mann and
//! D. R. Whitney, "On a test of whether one of two random variables is stochastically larger than the other", *Annals
//! of Mathematical Statistics* 18 (1947), 50–60 (the test and its exact recurrence); J. H. Klotz, "The Wilcoxon, ties,
//! and the computer", *Journal of the American Statistical Association* 61 (1966), 772–787 (the exact distribution with
//! ties); E. L. Lehmann, *Nonparametrics*, section 1.4 (its normal approximation corrected for ties, with continuity
//! correction).

pub(crate) mod paired;

use std::fmt;

use crate::cli::numbers;

/// The larger sample size up to which [`mann_whitney`] counts the exact distribution of values without ties. Beyond it
/// the approximation differs in the third digit of p at most, and counting costs the cube of the size.
const EXACT_MAX: usize = 50;

/// The same for values with ties, of both samples together: these are counted group by group, which costs more.
const EXACT_TIED_MAX: usize = 50;

/// The median; the mean of the middle two of an even number of values, and NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let values = sorted(values);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => values[n / 2 - 1].midpoint(values[n / 2]),
    }
}

/// The narrowest interval between two of the values, equally far from both ends, that covers the median of what they
/// were drawn from in at least 95 % of samples.
///
/// Fewer than six values have no such interval: theirs is from the smallest to the largest, and covers the median
/// in only 93.75 % (5 values), 87.5 % (4), 75 % (3), 50 % (2) of samples, or never (1); see [`coverage`]. NaN of none.
pub(crate) fn interval95(values: &[f64]) -> (f64, f64) {
    let values = sorted(values);
    if values.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let cut = values_cut(values.len());
    (values[cut], values[values.len() - 1 - cut])
}

/// The share of samples of `n` values whose [`interval95`] covers the median of what they were drawn from, 0 to 1.
pub(crate) fn coverage(n: usize) -> f64 {
    if n == 0 { 0.0 } else { 1.0 - 2.0 * binomial_half_up_to(n, values_cut(n)) }
}

/// What [`interval95`] of `n` values is, in words: with fewer than six it covers less than 95 %.
pub(crate) fn interval_words(n: usize) -> String {
    match coverage(n) {
        coverage if coverage < 0.95 => format!("the range ({:.0} % coverage)", 100.0 * coverage),
        _ => "a 95 % interval".to_owned(),
    }
}

/// How far the interval reaches from the median, as a share of the median: what tables print after `±`. `None` where
/// the median is zero and the interval reaches elsewhere, for there is no share of nothing.
pub(crate) fn spread(values: &[f64]) -> Option<f64> {
    let (low, high) = interval95(values);
    let median = median(values);
    match (high - median).max(median - low) {
        reach if reach > 0.0 => (median != 0.0).then(|| (reach / median).abs()),
        _ => Some(0.0),
    }
}

/// [`spread`] in words: `±4%`, or the interval's far end where there is no share to state.
pub(crate) fn plus_minus(values: &[f64], show: impl Fn(f64) -> String) -> String {
    match spread(values) {
        Some(share) => numbers::plus_minus(share),
        None => format!("to {}", show(interval95(values).1)),
    }
}

/// How many values at either end lie outside [`interval95`]. The interval from the `k`-th smallest to the `k`-th
/// largest misses the median when fewer than `k` values fall on one side of it, each with probability one half.
fn values_cut(n: usize) -> usize {
    (1..n.div_ceil(2)).take_while(|cut| 2.0 * binomial_half_up_to(n, *cut) <= 0.05).last().unwrap_or(0)
}

/// The probability of at most `k` heads in `n` throws of a fair coin.
fn binomial_half_up_to(n: usize, k: usize) -> f64 {
    // In logarithms: 2^-n underflows from 1,075 throws on.
    let mut ln_term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = ln_term.exp();
    for heads in 1..=k {
        ln_term += ((n - heads + 1) as f64 / heads as f64).ln();
        sum += ln_term.exp();
    }
    sum
}

/// The two-sided p-value of the Mann–Whitney U test: how likely samples at least this far apart in rank are when both
/// were drawn from one distribution. 1 where either is empty or all values are equal.
///
/// It is exact up to 50 values in the larger sample, and with ties up to 50 values in both together: twice the smaller
/// tail of U over every way to deal the values out, ties among them, as scipy's `permutation_test` has it. Beyond that
/// it is the normal approximation with correction for ties and continuity. The smallest p that `n` and `m` values can
/// give is [`smallest_p`]: three against three never get below 0.1, tied or not.
pub(crate) fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let (n, m) = (a.len(), b.len());
    let groups = ties(a, b);
    let tied = groups.len() < n + m;
    let twice_u_a = twice_u(&groups);
    let twice_u_b = 2 * n * m - twice_u_a;
    let tail = match tied {
        false if n.max(m) <= EXACT_MAX => u_at_most(n, m, twice_u_a.min(twice_u_b) / 2),
        // Ties make the two tails differ.
        true if n + m <= EXACT_TIED_MAX => {
            let swapped: Vec<Tie> = groups.iter().map(|tie| Tie { first: tie.second, second: tie.first }).collect();
            tied_u_at_most(&groups, twice_u_a).min(tied_u_at_most(&swapped, twice_u_b))
        }
        _ => return normal_p(&groups, n, m, twice_u_a.min(twice_u_b)).max(smallest_p(n, m)).min(1.0),
    };
    (2.0 * tail).min(1.0)
}

/// The smallest p that [`mann_whitney`] can give for samples of these sizes: every value of one above every other's.
pub(crate) fn smallest_p(n: usize, m: usize) -> f64 {
    (2.0 / choices(n + m, n)).min(1.0)
}

/// The number of ways to choose `k` of `n`.
fn choices(n: usize, k: usize) -> f64 {
    (1..=k.min(n - k)).map(|i| (n + 1 - i) as f64 / i as f64).product()
}

/// How many values of each sample are equal to one another.
#[derive(Clone, Copy, Debug)]
struct Tie {
    first: usize,
    second: usize,
}

impl Tie {
    fn size(self) -> usize {
        self.first + self.second
    }
}

/// The values of both samples by groups of equals, the smallest first.
fn ties(a: &[f64], b: &[f64]) -> Vec<Tie> {
    let mut values: Vec<(f64, bool)> = a.iter().map(|v| (*v, true)).chain(b.iter().map(|v| (*v, false))).collect();
    values.sort_by(|x, y| x.0.total_cmp(&y.0));
    let group = |equal: &[(f64, bool)]| {
        let first = equal.iter().filter(|(_, from_a)| *from_a).count();
        Tie { first, second: equal.len() - first }
    };
    values.chunk_by(|x, y| x.0 == y.0).map(group).collect()
}

/// Twice U of the first sample: two for each pair in which its value is the larger, one for each tie. Whole, unlike U.
fn twice_u(groups: &[Tie]) -> usize {
    let mut below = 0;
    let mut sum = 0;
    for tie in groups {
        sum += tie.first * (2 * below + tie.second);
        below += tie.second;
    }
    sum
}

/// The probability that U is at most `limit` for samples of `n` and `m` values without ties.
///
/// Mann and Whitney's recurrence counts the orders of `n` and `m` values with a given U by whether the largest value
/// is of the first sample (it then exceeds all of the second) or not: `c(n, m, u) = c(n−1, m, u−m) + c(n, m−1, u)`.
fn u_at_most(n: usize, m: usize, limit: usize) -> f64 {
    // `counts[j][u]` for the current number of first-sample values and `j` second-sample values.
    let mut counts = vec![vec![0.0_f64; limit + 1]; m + 1];
    counts.iter_mut().for_each(|row| row[0] = 1.0);
    for _ in 0..n {
        for j in 0..=m {
            for u in (0..=limit).rev() {
                let largest_of_first = if u >= j { counts[j][u - j] } else { 0.0 };
                let largest_of_second = if j > 0 { counts[j - 1][u] } else { 0.0 };
                counts[j][u] = largest_of_first + largest_of_second;
            }
        }
    }
    counts[m].iter().sum::<f64>() / choices(n + m, n)
}

/// The probability that twice U of the first sample is at most `limit`, over every way to deal these values out.
///
/// The groups are dealt from the smallest up: of `t` equals, `r` may fall to the first sample in `t` over `r` ways, and
/// add two for each value of the second that lies below, and one for each of the second among the equals.
fn tied_u_at_most(groups: &[Tie], limit: usize) -> f64 {
    let n: usize = groups.iter().map(|tie| tie.first).sum();
    // `ways[k][u]`: ways to have dealt `k` values to the first sample with twice U of `u`.
    let mut ways = vec![vec![0.0_f64; limit + 1]; n + 1];
    ways[0][0] = 1.0;
    let mut dealt = 0;
    for size in groups.iter().map(|tie| tie.size()) {
        let mut next = vec![vec![0.0_f64; limit + 1]; n + 1];
        for had in 0..=n.min(dealt) {
            for more in 0..=size.min(n - had) {
                let adds = more * (2 * (dealt - had) + size - more);
                if adds > limit {
                    continue;
                }
                let choices = choices(size, more);
                for (to, from) in next[had + more][adds..].iter_mut().zip(&ways[had]) {
                    *to += from * choices;
                }
            }
        }
        ways = next;
        dealt += size;
    }
    ways[n].iter().sum::<f64>() / choices(dealt, n)
}

/// The normal approximation of the two-sided p, corrected for ties and continuity, from the smaller of the two U.
fn normal_p(groups: &[Tie], n: usize, m: usize, twice_u: usize) -> f64 {
    let (pairs, total) = ((n * m) as f64, (n + m) as f64);
    let cubes = |size: f64| size * size * size - size;
    let ties: f64 = groups.iter().map(|tie| cubes(tie.size() as f64)).sum();
    let variance = pairs / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (pairs / 2.0 - twice_u as f64 / 2.0 - 0.5) / variance.sqrt();
    // Twice the normal distribution's upper tail.
    erfc(z / std::f64::consts::SQRT_2)
}

/// The complementary error function: a Taylor series near zero and Legendre's continued fraction beyond, both run
/// until they stand still (M. Abramowitz and I. A. Stegun, *Handbook of Mathematical Functions*, 7.1.6 and 7.1.14).
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    let scale = (-x * x).exp() / std::f64::consts::PI.sqrt();
    if x < 2.0 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term > sum * f64::EPSILON {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - 2.0 * scale * sum;
    }
    // From the inside out; sixty levels are more than x ≥ 2 needs for full precision.
    let fraction = (1..=60).rev().fold(x, |inner, k| x + f64::from(k) / 2.0 / inner);
    scale / fraction
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// How a figure changed. A ratio to zero means nothing, so zero has words of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    /// The same, zero included.
    Same,
    /// There was some, now there is none.
    Gone,
    /// There was none, now there is some.
    New,
    /// The relative change: 0.5 is half as much again, −0.5 is half.
    By(f64),
}

/// How a figure went from `old` to `new`.
pub(crate) fn change(old: f64, new: f64) -> Change {
    if old == new {
        Change::Same
    } else if new == 0.0 {
        Change::Gone
    } else if old == 0.0 {
        Change::New
    } else {
        Change::By(new / old - 1.0)
    }
}

impl fmt::Display for Change {
    /// `=`, `gone`, `new`, or a percentage with as many digits as it takes to tell it from 0 and from −100.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Same => f.pad("="),
            Change::Gone => f.pad("gone"),
            Change::New => f.pad("new"),
            Change::By(ratio) => f.pad(&numbers::signed_percent(*ratio)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(measured: f64, expected: f64) {
        assert!((measured - expected).abs() <= 1e-12 + 1e-9 * expected.abs(), "{measured} is not {expected}");
    }

    #[test]
    fn medians() {
        close(median(&[3.0, 1.0, 2.0]), 2.0);
        close(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    /// The ranks are those of the table "Confidence intervals for the median" (David and Nagaraja, section 7.1; also
    /// NIST's Dataplot manual, MEDIAN CONFIDENCE LIMITS); the coverages are from
    /// `1 - 2 * scipy.stats.binom.cdf(k - 1, n, 0.5)` of scipy 1.17.1.
    #[test]
    fn intervals_are_between_the_tabulated_ranks() {
        for (n, rank, covered) in [
            (1, 1, 0.0),
            (2, 1, 0.5),
            (5, 1, 0.9375),
            (6, 1, 0.96875),
            (8, 1, 0.9921875),
            (9, 2, 0.9609375),
            (10, 2, 0.978515625),
            (12, 3, 0.96142578125),
            (15, 4, 0.96484375),
            (20, 6, 0.9586105346679688),
            (30, 10, 0.9572260547429323),
            (50, 18, 0.9671608624357315),
            (2000, 956, 0.9534471795182164),
        ] {
            let values: Vec<f64> = (1..=n).rev().map(f64::from).collect();
            assert_eq!(interval95(&values), (f64::from(rank), f64::from(n + 1 - rank)), "n = {n}");
            close(coverage(n as usize), covered);
        }
    }

    /// `scipy.stats.mannwhitneyu(a, b, alternative="two-sided", method="exact").pvalue` of scipy 1.17.1.
    #[test]
    fn exact_p_is_scipys() {
        close(mann_whitney(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 0.1);
        close(mann_whitney(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]), 0.02857142857142857);
        close(mann_whitney(&[19.0, 22.0, 16.0, 29.0, 24.0], &[20.0, 11.0, 17.0, 12.0]), 0.1111111111111111);
        close(
            mann_whitney(
                &[1.1, 2.2, 3.3, 4.4, 5.5, 6.6, 7.7, 8.8, 9.9, 10.1],
                &[2.1, 3.2, 4.3, 5.4, 6.5, 7.6, 8.7, 9.8, 10.9, 11.1],
            ),
            0.6842105263157896,
        );
        let evens: Vec<f64> = (0..30).map(|i| f64::from(2 * i)).collect();
        let above: Vec<f64> = (0..25).map(|i| f64::from(2 * i + 21)).collect();
        close(mann_whitney(&evens, &above), 0.0014539641399447015);
        close(mann_whitney(&above, &evens), mann_whitney(&evens, &above));
    }

    /// The largest U that is significant at two-sided 0.05 (Mann and Whitney 1947; the table every textbook reprints).
    #[test]
    fn exact_p_meets_the_published_critical_values() {
        for (n, m, critical) in [(4, 4, 0), (5, 5, 2), (6, 8, 8), (8, 8, 13), (10, 10, 23), (12, 15, 49), (20, 20, 127)]
        {
            assert!(2.0 * u_at_most(n, m, critical) <= 0.05, "{n}, {m}: {critical}");
            assert!(2.0 * u_at_most(n, m, critical + 1) > 0.05, "{n}, {m}: {critical} + 1");
        }
    }

    /// `scipy.stats.permutation_test((a, b), u, permutation_type="independent", n_resamples=inf,
    /// alternative="two-sided").pvalue` of scipy 1.17.1, where `u` is `mannwhitneyu`'s statistic: every way to deal the
    /// values out is looked at.
    #[test]
    fn tied_p_is_scipys() {
        close(mann_whitney(&[1.0, 1.0, 1.0], &[2.0, 2.0, 2.0]), 0.1);
        close(mann_whitney(&[1.0, 1.0, 2.0, 2.0], &[2.0, 3.0, 3.0, 3.0]), 0.08571428571428572);
        close(mann_whitney(&[1.0, 2.0, 2.0, 3.0], &[2.0, 3.0, 4.0, 5.0]), 0.2);
        close(mann_whitney(&[1.0, 1.0, 1.0, 2.0], &[7.0, 7.0, 8.0, 8.0, 8.0]), 0.015873015873015872);
        close(mann_whitney(&[5.0, 5.0, 5.0, 6.0, 6.0], &[5.0, 6.0, 6.0, 7.0, 7.0, 7.0]), 0.1341991341991342);
        close(
            mann_whitney(&[1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0], &[2.0, 3.0, 4.0, 5.0, 5.0, 6.0, 6.0, 7.0]),
            0.023931623931623933,
        );
        close(mann_whitney(&[1.5, 1.5, 2.0, 2.5, 2.5, 2.5], &[1.5, 2.0, 2.5, 3.0, 3.0]), 0.45021645021645024);
        assert_eq!(mann_whitney(&[5.0; 10], &[5.0; 10]), 1.0);
        assert_eq!(mann_whitney(&[], &[1.0]), 1.0);
    }

    /// `mannwhitneyu(a, b, alternative="two-sided", method="asymptotic")`, continuity correction on, scipy 1.17.1.
    #[test]
    fn p_of_many_values_is_scipys_approximation() {
        let many: Vec<f64> = (0..60).map(f64::from).collect();
        let shifted: Vec<f64> = (0..60).map(|i| f64::from(i) + 25.5).collect();
        close(mann_whitney(&many, &shifted), 2.582237035570083e-10);
        let tied = |offset: i32| (0..30).map(|i| f64::from(i / 3 + offset)).collect::<Vec<_>>();
        close(mann_whitney(&tied(0), &tied(2)), 0.016504477012993075);
    }

    /// Twice the smaller tail of U over every way to deal the values out, one by one.
    fn by_dealing(a: &[f64], b: &[f64]) -> f64 {
        let all: Vec<f64> = a.iter().chain(b).copied().collect();
        let u = |chosen: &dyn Fn(usize) -> bool| {
            let pairs = (0..all.len()).flat_map(|x| (0..all.len()).map(move |y| (x, y)));
            let of_both = pairs.filter(|(x, y)| chosen(*x) && !chosen(*y));
            of_both.map(|(x, y)| 1 + i32::from(all[x] > all[y]) - i32::from(all[x] < all[y])).sum::<i32>()
        };
        let observed = u(&|index| index < a.len());
        let dealt = (0..1_u32 << all.len()).filter(|bits| bits.count_ones() as usize == a.len());
        let all: Vec<i32> = dealt.map(|bits| u(&|index| bits >> index & 1 == 1)).collect();
        let share = |of: &dyn Fn(i32) -> bool| all.iter().filter(|u| of(**u)).count() as f64 / all.len() as f64;
        (2.0 * share(&|u| u <= observed).min(share(&|u| u >= observed))).min(1.0)
    }

    #[test]
    fn p_is_what_dealing_all_values_out_gives() {
        // Knuth's generator: any samples do, these are the same every time.
        let mut state = 1_u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for _ in 0..150 {
            let (n, m, kinds) = (1 + below(5), 1 + below(5), 1 + below(12));
            let a: Vec<f64> = (0..n).map(|_| below(kinds) as f64).collect();
            let b: Vec<f64> = (0..m).map(|_| below(kinds) as f64).collect();
            let p = mann_whitney(&a, &b);
            assert!((p - by_dealing(&a, &b)).abs() < 1e-12, "{a:?} {b:?}: {p} is not {}", by_dealing(&a, &b));
            assert!(p >= smallest_p(a.len(), b.len()) - 1e-12, "{a:?} {b:?}: {p}");
            assert!((p - mann_whitney(&b, &a)).abs() < 1e-12, "{a:?} {b:?}: the order of the samples matters");
        }
    }

    #[test]
    fn no_sample_gets_below_its_smallest_p() {
        close(smallest_p(3, 3), 0.1);
        close(smallest_p(10, 10), 2.0 / 184_756.0);
        assert_eq!(smallest_p(1, 1), 1.0);
        for (n, m) in [(3, 3), (4, 5), (10, 7)] {
            let low: Vec<f64> = (0..n).map(f64::from).collect();
            let high: Vec<f64> = (0..m).map(|i| f64::from(i + 100)).collect();
            close(mann_whitney(&low, &high), smallest_p(n as usize, m as usize));
        }
    }

    /// `scipy.special.erfc` of scipy 1.17.1.
    #[test]
    fn erfc_is_scipys() {
        for (x, expected) in [
            (-1.5, 1.9661051464753108),
            (0.0, 1.0),
            (0.1, 0.8875370839817152),
            (0.5, 0.4795001221869535),
            (1.0, 0.15729920705028516),
            (1.99, 0.004888586800383002),
            (2.0, 0.004677734981047266),
            (2.5, 0.00040695201744495886),
            (4.0, 1.541725790028002e-08),
            (6.0, 2.1519736712498913e-17),
        ] {
            close(erfc(x), expected);
        }
    }

    #[test]
    fn zero_is_gone_or_new_and_never_a_ratio() {
        assert_eq!(change(0.0, 0.0), Change::Same);
        assert_eq!(change(3.0, 0.0), Change::Gone);
        assert_eq!(change(0.0, 3.0), Change::New);
        assert_eq!(change(2.0, 3.0), Change::By(0.5));
    }

    #[test]
    fn a_change_is_never_rounded_to_none_or_to_all() {
        let shown = |old, new| change(old, new).to_string();
        assert_eq!(shown(1.0, 1.0), "=");
        assert_eq!(shown(1.0, 0.0), "gone");
        assert_eq!(shown(0.0, 1.0), "new");
        assert_eq!(shown(1.30, 3.08), "+137%");
        assert_eq!(shown(17.9, 1.36), "−92.4%");
        assert_eq!(shown(1.0, 1.0004), "+0.04%");
        assert_eq!(shown(10_000.0, 4.0), "−99.96%");
        assert_eq!(format!("{:>8}", Change::By(0.056)), "   +5.6%");
    }

    #[test]
    fn an_interval_of_few_values_does_not_call_itself_one_of_95_percent() {
        assert_eq!(interval_words(3), "the range (75 % coverage)");
        assert_eq!(interval_words(5), "the range (94 % coverage)");
        assert_eq!(interval_words(6), "a 95 % interval");
    }

    #[test]
    fn the_spread_is_the_wider_half_of_the_interval() {
        close(spread(&[9.0, 10.0, 10.0, 10.0, 10.0, 10.0, 12.0]).expect("a median"), 0.2);
        assert_eq!(spread(&[4.0; 7]), Some(0.0));
        assert_eq!(spread(&[0.0; 7]), Some(0.0));
        assert_eq!(spread(&[0.0, 0.0, 0.5]), None, "there is no share of nothing");
        let words = |values: &[f64]| plus_minus(values, |value| format!("{value} B"));
        assert_eq!(words(&[9.0, 10.0, 12.0]), "±20%");
        assert_eq!(words(&[0.0, 0.0, 0.5]), "to 0.5 B");
    }
}
