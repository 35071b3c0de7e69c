//! The statistics behind every time: medians, their intervals, and whether two samples differ.
//!
//! Nothing here assumes a distribution, because a benchmark's noise has none worth the name: a median, an interval
//! between two of the values themselves, and a rank test. It knows nothing of metrics or runs. Exact counts need none
//! of it: two counts are equal or they are not.
//!
//! Sources: H. A. David and H. N. Nagaraja, *Order Statistics*, 3rd ed., section 7.1 (the interval); H. B. Mann and
//! D. R. Whitney, "On a test of whether one of two random variables is stochastically larger than the other", *Annals
//! of Mathematical Statistics* 18 (1947), 50–60 (the test and its exact recurrence); E. L. Lehmann, *Nonparametrics*,
//! section 1.4 (its normal approximation corrected for ties, with continuity correction).

use std::fmt;

/// The larger sample size up to which [`mann_whitney`] counts the exact distribution. Beyond it the approximation
/// differs in the third digit of p at most, and counting costs the cube of the size.
const EXACT_MAX: usize = 50;

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

/// How far the interval reaches from the median, as a share of the median: what tables print after `±`.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let (low, high) = interval95(values);
    let median = median(values);
    if low == high { 0.0 } else { ((high - median).max(median - low) / median).abs() }
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
/// Exact without ties up to 50 values in the larger sample, otherwise the normal approximation with correction for
/// ties and continuity. The smallest p that `n` and `m` values can give is [`smallest_p`]: three against three
/// never get below 0.1.
pub(crate) fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let (n, m) = (a.len(), b.len());
    let Ranked { rank_sum_a, ties } = rank(a, b);
    let pairs = (n * m) as f64;
    let u_a = rank_sum_a - (n * (n + 1)) as f64 / 2.0;
    let u = u_a.min(pairs - u_a);
    if ties == 0.0 && n.max(m) <= EXACT_MAX {
        // Without ties U is a whole number.
        return (2.0 * u_at_most(n, m, u as usize)).min(1.0);
    }
    let total = (n + m) as f64;
    let variance = pairs / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (pairs / 2.0 - u - 0.5) / variance.sqrt();
    // Twice the normal distribution's upper tail.
    erfc(z / std::f64::consts::SQRT_2).min(1.0)
}

/// The smallest p that [`mann_whitney`] can give for samples of these sizes: every value of one above every other's.
pub(crate) fn smallest_p(n: usize, m: usize) -> f64 {
    let choices: f64 = (1..=n.min(m)).map(|i| (n + m + 1 - i) as f64 / i as f64).product();
    (2.0 / choices).min(1.0)
}

struct Ranked {
    /// The sum of the ranks of the first sample, equal values sharing their mean rank.
    rank_sum_a: f64,
    /// The sum of `t³ − t` over groups of `t` equal values.
    ties: f64,
}

fn rank(a: &[f64], b: &[f64]) -> Ranked {
    let mut values: Vec<(f64, bool)> = a.iter().map(|v| (*v, true)).chain(b.iter().map(|v| (*v, false))).collect();
    values.sort_by(|x, y| x.0.total_cmp(&y.0));
    let mut ranked = Ranked { rank_sum_a: 0.0, ties: 0.0 };
    let mut below = 0;
    for equal in values.chunk_by(|x, y| x.0 == y.0) {
        let size = equal.len() as f64;
        let mean_rank = below as f64 + (size + 1.0) / 2.0;
        ranked.rank_sum_a += mean_rank * equal.iter().filter(|(_, from_a)| *from_a).count() as f64;
        ranked.ties += size * size * size - size;
        below += equal.len();
    }
    ranked
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
    let orders: f64 = (1..=n).map(|i| (m + i) as f64 / i as f64).product();
    counts[m].iter().sum::<f64>() / orders
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
            Change::By(ratio) => {
                let percent = (ratio * 100.0).abs();
                let sign = if *ratio < 0.0 { '−' } else { '+' };
                let left = if *ratio < 0.0 { percent.min(100.0 - percent) } else { percent };
                let digits = match left {
                    _ if percent >= 100.0 => 0,
                    left if left >= 0.05 => 1,
                    left if left >= 0.005 => 2,
                    _ => 3,
                };
                f.pad(&format!("{sign}{percent:.digits$}%"))
            }
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

    /// `method="asymptotic"`, continuity correction on, scipy 1.17.1.
    #[test]
    fn tied_p_is_scipys() {
        close(mann_whitney(&[1.0, 2.0, 2.0, 3.0], &[2.0, 3.0, 4.0, 5.0]), 0.1366582477381475);
        close(mann_whitney(&[1.0, 1.0, 1.0, 2.0], &[7.0, 7.0, 8.0, 8.0, 8.0]), 0.015541208983595877);
        let many: Vec<f64> = (0..60).map(f64::from).collect();
        let shifted: Vec<f64> = (0..60).map(|i| f64::from(i) + 25.5).collect();
        close(mann_whitney(&many, &shifted), 2.582237035570083e-10);
        assert_eq!(mann_whitney(&[5.0; 10], &[5.0; 10]), 1.0);
        assert_eq!(mann_whitney(&[], &[1.0]), 1.0);
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
    fn the_spread_is_the_wider_half_of_the_interval() {
        close(spread(&[9.0, 10.0, 10.0, 10.0, 10.0, 10.0, 12.0]), 0.2);
        assert_eq!(spread(&[4.0; 7]), 0.0);
        assert_eq!(spread(&[0.0; 7]), 0.0);
    }
}
