//! What is counted in one row.

use std::ops::{AddAssign, Sub};

/// How many log2 size buckets the histogram has: bucket `n` holds sizes in `[2^(n-1), 2^n)`, bucket 0 the size 0.
pub const SIZE_BUCKETS: usize = 48;

/// Counts of one row, or a difference of two counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Tally {
    /// Blocks allocated, each `realloc` booked as one more.
    pub blocks: u64,
    /// Bytes asked for, each `realloc` booked with its new size.
    pub bytes: u64,
    /// Blocks freed here, wherever they were allocated.
    pub freed_blocks: u64,
    /// Bytes freed here.
    pub freed_bytes: u64,
    /// How many of `blocks` are reallocs.
    pub reallocs: u64,
    /// The sizes of the blocks that reallocs replaced, in bytes.
    pub realloc_old_bytes: u64,
    /// The sizes they were replaced by, in bytes: the part of `bytes` that is due to reallocs.
    pub realloc_new_bytes: u64,
}

impl Tally {
    pub(super) const ZERO: Tally = Tally {
        blocks: 0,
        bytes: 0,
        freed_blocks: 0,
        freed_bytes: 0,
        reallocs: 0,
        realloc_old_bytes: 0,
        realloc_new_bytes: 0,
    };

    /// Whether nothing was counted.
    pub fn is_zero(&self) -> bool {
        *self == Tally::default()
    }

    /// Bytes allocated and not freed; negative where blocks from elsewhere are freed here.
    pub fn live_bytes(&self) -> i64 {
        self.bytes as i64 - self.freed_bytes as i64
    }

    /// Blocks allocated and not freed; negative where blocks from elsewhere are freed here.
    pub fn live_blocks(&self) -> i64 {
        self.blocks as i64 - self.freed_blocks as i64
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.freed_blocks += other.freed_blocks;
        self.freed_bytes += other.freed_bytes;
        self.reallocs += other.reallocs;
        self.realloc_old_bytes += other.realloc_old_bytes;
        self.realloc_new_bytes += other.realloc_new_bytes;
    }
}

impl Sub for Tally {
    type Output = Tally;

    /// What was counted between two readings; zero where `earlier` is ahead.
    fn sub(self, earlier: Tally) -> Tally {
        Tally {
            blocks: self.blocks.saturating_sub(earlier.blocks),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            freed_blocks: self.freed_blocks.saturating_sub(earlier.freed_blocks),
            freed_bytes: self.freed_bytes.saturating_sub(earlier.freed_bytes),
            reallocs: self.reallocs.saturating_sub(earlier.reallocs),
            realloc_old_bytes: self.realloc_old_bytes.saturating_sub(earlier.realloc_old_bytes),
            realloc_new_bytes: self.realloc_new_bytes.saturating_sub(earlier.realloc_new_bytes),
        }
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        tallies.fold(Tally::default(), |mut sum, tally| {
            sum += tally;
            sum
        })
    }
}

/// The histogram bucket of a size in bytes.
#[inline]
pub(super) fn size_bucket(size: usize) -> usize {
    ((usize::BITS - size.leading_zeros()) as usize).min(SIZE_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two() {
        assert_eq!(size_bucket(0), 0);
        assert_eq!(size_bucket(1), 1);
        assert_eq!(size_bucket(4095), 12);
        assert_eq!(size_bucket(4096), 13);
        assert_eq!(size_bucket(usize::MAX), SIZE_BUCKETS - 1);
    }
}
