//! How calls of a method differ: the distribution over calls of what they allocated and how long they took.
//!
//! # Implementation
//! Each power of two is divided in four, so that a figure read off a distribution is at most a tenth off. The bounds are
//! those of Prometheus's native histograms (schema 2), and each power of two is one of them. A call adds to six counters of its method when it
//! ends; nothing allocates or locks but what is read, and memory is fixed: 4 KiB a method, and as much for what belonged
//! to nobody before a method had its row.

use std::ops::{AddAssign, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "tonic")]
use std::time::Duration;

use super::Method;
use super::counted::shown;
use crate::stage::Stage;

/// What is known of each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PerCall {
    /// Blocks that were allocated for it: see [`Method::per_call`].
    Blocks,
    /// Bytes that were allocated for it.
    Bytes,
    /// From its request to the end of its answer, in units of 2⁻³⁰ seconds, which are 0.93 ns.
    Latency,
}

impl PerCall {
    /// All there is.
    pub const ALL: [PerCall; 3] = [PerCall::Blocks, PerCall::Bytes, PerCall::Latency];
}

/// How many units of [`PerCall::Latency`] a second has.
pub const LATENCY_UNITS: f64 = (1u64 << 30) as f64;

/// Parts that a power of two is divided into, by its fourth roots.
const PARTS: usize = 4;
/// Larger values, 4 TiB or 68 minutes, are in the last bucket.
const POWER_MAX: usize = 42;
/// One for 0, one for 1, and four a power of two.
const BUCKETS: usize = 2 + PARTS * POWER_MAX;

/// The distribution of one figure over the calls of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    buckets: Box<[u64]>,
    sum: u64,
    max: u64,
}

impl Default for Spread {
    fn default() -> Spread {
        let _guard = Stage::Instrument.enter();
        Spread { buckets: vec![0; BUCKETS].into_boxed_slice(), sum: 0, max: 0 }
    }
}

impl Spread {
    /// How many calls it is of.
    pub fn calls(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum over the calls, exactly.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest, exactly; since the program began, also in a difference.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// What so large a share of the calls, from 0 to 1, is not above: give or take a tenth, and exact below 7. `None`
    /// without calls.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let calls = self.calls();
        let rank = ((share * calls as f64).ceil() as u64).clamp(1, calls.max(1));
        let mut below = 0;
        let bucket = self.buckets.iter().position(|calls| {
            below += calls;
            below >= rank
        })?;
        let least = bucket.checked_sub(1).map_or(0, |before| upper(before) + 1);
        Some((least + (upper(bucket) - least) / 2).min(self.max))
    }

    /// The calls whose figure is at most `2^power`, exactly.
    pub fn up_to(&self, power: usize) -> u64 {
        self.buckets[..=1 + PARTS * power.min(POWER_MAX)].iter().sum()
    }

    /// The buckets that hold calls: `(index, calls)`, where index `i` is of the values above `2^((i-1)/4)` and up to
    /// `2^(i/4)`, and `None` of 0.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<usize>, u64)> + '_ {
        let filled = self.buckets.iter().enumerate().filter(|(_, calls)| **calls > 0);
        filled.map(|(bucket, calls)| (bucket.checked_sub(1), *calls))
    }
}

impl AddAssign for Spread {
    fn add_assign(&mut self, other: Spread) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, calls)| *sum += calls);
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }
}

impl Sub for Spread {
    type Output = Spread;

    /// What was counted between two readings, the later one first.
    fn sub(mut self, earlier: Spread) -> Spread {
        for (calls, earlier) in self.buckets.iter_mut().zip(&earlier.buckets) {
            *calls = calls.saturating_sub(*earlier);
        }
        self.sum = self.sum.saturating_sub(earlier.sum);
        self
    }
}

impl Method {
    /// The distribution of one figure over the calls of this method that ended.
    ///
    /// Blocks and bytes of a call are what its method's rows counted, without the instrument's, on the thread that polled
    /// it, for as long as that was: the handler with all that it awaits, and the answer's body. What is not in them stands
    /// in the rows alone: work on other tasks and threads, a client's request body, and what HTTP/2 does around a call. A
    /// call is left out of both where its thread has no counters of its own (see [`SHARDS`](crate::alloc::SHARDS)).
    pub fn per_call(self, what: PerCall) -> Spread {
        shown(self, |row| SPREADS[row.index()][what as usize].read(), |row| SETTLED[row.index()][what as usize].read())
    }
}

struct Counters {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Counters {
    const fn new() -> Counters {
        Counters { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }

    #[cfg(feature = "tonic")]
    fn add(&self, value: u64) {
        self.buckets[bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        // PERF: a load for all calls but the largest so far.
        if value > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(value, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Spread {
        let mut spread = Spread::default();
        for (calls, counter) in spread.buckets.iter_mut().zip(&self.buckets) {
            *calls = counter.load(Ordering::Relaxed);
        }
        Spread { sum: self.sum.load(Ordering::Relaxed), max: self.max.load(Ordering::Relaxed), ..spread }
    }
}

static SPREADS: [[Counters; PerCall::ALL.len()]; Method::MAX] =
    [const { [const { Counters::new() }; PerCall::ALL.len()] }; Method::MAX];
/// What of the above belongs to no method.
static SETTLED: [[Counters; PerCall::ALL.len()]; Method::MAX] =
    [const { [const { Counters::new() }; PerCall::ALL.len()] }; Method::MAX];

/// Notes what the row of `method` holds now. Called by whoever lends or gives it, one at a time. Allocates nothing.
pub(super) fn settle(method: Method) {
    for (settled, counted) in SETTLED[method.index()].iter().zip(&SPREADS[method.index()]) {
        for (settled, counter) in settled.buckets.iter().zip(&counted.buckets) {
            settled.store(counter.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        settled.sum.store(counted.sum.load(Ordering::Relaxed), Ordering::Relaxed);
        settled.max.fetch_max(counted.max.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A call ended after `latency`; `spent` are the blocks and bytes allocated for it, where they are known.
#[cfg(feature = "tonic")]
pub(crate) fn add_figures(method: Method, latency: Duration, spent: Option<(u64, u64)>) {
    let spreads = &SPREADS[method.index()];
    // PERF: below a second no number needs 128 bits.
    let units = (latency.as_secs() << 30) + (u64::from(latency.subsec_nanos()) << 30) / 1_000_000_000;
    spreads[PerCall::Latency as usize].add(units);
    if let Some((blocks, bytes)) = spent {
        spreads[PerCall::Blocks as usize].add(blocks);
        spreads[PerCall::Bytes as usize].add(bytes);
    }
}

/// The fourth roots of 2, 4 and 8, times 2⁶³: where a power of two's parts end.
const ROOTS: [u64; PARTS - 1] = [10_968_499_650_544_839_023, 13_043_817_825_332_782_212, 15_511_800_964_685_064_948];

/// The bucket of a value: 0 for 0, 1 for 1, then four a power of two.
#[cfg(any(feature = "tonic", test))]
#[inline]
fn bucket(value: u64) -> usize {
    if value <= 1 {
        return value as usize;
    }
    let zeros = value.leading_zeros();
    let (power, mantissa) = (63 - zeros as usize, value << zeros);
    let part = if value.is_power_of_two() { 0 } else { 1 + ROOTS.iter().filter(|root| mantissa > **root).count() };
    (1 + PARTS * power + part).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let Some(index) = bucket.checked_sub(1) else { return 0 };
    let (power, part) = (index / PARTS, index % PARTS);
    match part {
        0 => 1 << power,
        part => ROOTS[part - 1] >> (63 - power),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_whose_bounds_are_around_it() {
        let mut values: Vec<u64> = (0..5000).collect();
        values.extend(
            (12..POWER_MAX).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1, 3 << (power - 1)]),
        );
        for value in values {
            let bucket = bucket(value);
            assert!(value <= upper(bucket), "{value}");
            assert!(bucket == 0 || value > upper(bucket - 1), "{value}");
        }
        for index in 0..BUCKETS - 2 {
            let bound = 2f64.powf(index as f64 / PARTS as f64);
            assert!((upper(index + 1) as f64 - bound.floor()).abs() <= bound * 1e-12, "{index}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    fn of(values: &[u64]) -> Spread {
        let mut spread = Spread::default();
        for value in values {
            spread.buckets[bucket(*value)] += 1;
            spread.sum += value;
            spread.max = spread.max.max(*value);
        }
        spread
    }

    #[test]
    fn quantiles_are_at_most_a_tenth_off() {
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(of(&[0, 0, 5]).quantile(0.5), Some(0));
        assert_eq!(of(&[3, 3, 5]).quantile(1.0), Some(5));
        let mut values: Vec<u64> = (0..2000).map(|index: u64| 7 + index * index * 37 % 1_000_003).collect();
        let spread = of(&values);
        values.sort_unstable();
        for share in [0.01, 0.5, 0.95, 0.99, 1.0] {
            let exact = values[((share * 2000.0) as usize).max(1) - 1] as f64;
            let read = spread.quantile(share).expect("calls") as f64;
            assert!((read / exact - 1.0).abs() <= 0.1, "{share}: {read} for {exact}");
        }
        assert_eq!((spread.calls(), spread.max()), (2000, values[1999]));
        assert_eq!(spread.sum(), values.iter().sum::<u64>());
    }

    #[test]
    fn powers_of_two_divide_exactly_what_is_shown() {
        let spread = of(&[0, 1, 2, 3, 4, 5, 1000, 1024, 1025]);
        let shown = [0, 1, 2, 3, 10, 11, 42, 99].map(|power| spread.up_to(power));
        assert_eq!(shown, [2, 3, 5, 6, 8, 9, 9, 9], "a bound's own value is below it");
        let later = of(&[0, 1, 2, 3, 4, 5, 1000, 1024, 1025, 7]);
        assert_eq!(
            (later - spread).buckets().collect::<Vec<_>>(),
            [(Some(12), 1)],
            "7 is above the fourth root of 2^11"
        );
    }
}
