//! How often which size: counts by powers of two, cheap enough for every turn of a core.
//!
//! ```text
//!   bucket   0   1    2     3    ..   30                31
//!   holds    0   1   2-3   4-7   ..   2^29 to 2^30-1    the rest
//! ```
//!
//! A value costs the number of its leading zeroes and two additions. In nanoseconds the buckets reach to a second.

use std::cell::Cell;

/// How many buckets there are.
const BUCKETS: usize = 32;

/// A histogram that counts. Belongs to one thread.
#[derive(Debug, Default)]
pub struct Tally {
    buckets: [Cell<u64>; BUCKETS],
    sum: Cell<u64>,
}

impl Tally {
    /// Counts a value.
    #[inline]
    pub fn record(&self, value: u64) {
        let bucket = &self.buckets[bucket_of(value)];
        bucket.set(bucket.get() + 1);
        self.sum.set(self.sum.get().wrapping_add(value));
    }

    /// What has been counted so far.
    #[must_use]
    pub fn snapshot(&self) -> Histogram {
        Histogram {
            buckets: self.buckets.each_ref().map(Cell::get),
            sum: self.sum.get(),
        }
    }
}

#[inline]
fn bucket_of(value: u64) -> usize {
    let bits = (u64::BITS - value.leading_zeros()) as usize;
    bits.min(BUCKETS - 1)
}

/// How often which size, in buckets of powers of two.
///
/// # Examples
///
/// ```
/// let tally = coring_coro::Tally::default();
/// [0, 3, 3, 900].into_iter().for_each(|value| tally.record(value));
/// let histogram = tally.snapshot();
/// assert_eq!((histogram.count(), histogram.sum()), (4, 906));
/// assert_eq!(histogram.at_most(0.5), Some(3));
/// assert_eq!(histogram.at_most(1.0), Some(1023));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Histogram {
    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All values added up.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The buckets in ascending order: the largest value that belongs into it, and how many did. The last one has no
    /// such bound and says `u64::MAX`.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.buckets.iter().enumerate();
        counts.map(|(bucket, &count)| (largest_of(bucket), count))
    }

    /// A bound that so large a share of the values does not exceed: the upper end of its bucket. `None` when there
    /// are no values.
    #[must_use]
    pub fn at_most(&self, share: f64) -> Option<u64> {
        let count = self.count();
        let mut seen = 0;
        let reached = self.buckets().find(|(_, in_bucket)| {
            seen += in_bucket;
            seen > 0 && seen as f64 >= share * count as f64
        });
        reached.map(|(largest, _)| largest)
    }
}

fn largest_of(bucket: usize) -> u64 {
    if bucket == BUCKETS - 1 {
        u64::MAX
    } else {
        (1 << bucket) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Tally, bucket_of, largest_of};
    use proptest::prelude::*;

    proptest! {
        /// Every value is in the bucket whose bounds hold it, and a share's bound is that of the sorted list.
        #[test]
        fn shares_are_those_of_the_values(mut values in prop::collection::vec(0u64..1 << 34, 1..50), share in 0.01f64..1.0) {
            let tally = Tally::default();
            values.iter().for_each(|value| tally.record(*value));
            let histogram = tally.snapshot();
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.sum(), values.iter().sum::<u64>());
            values.sort_unstable();
            let wanted = (1..=values.len()).find(|rank| *rank as f64 >= share * values.len() as f64);
            let value = values[wanted.unwrap() - 1];
            prop_assert_eq!(histogram.at_most(share), Some(largest_of(bucket_of(value))));
        }
    }

    #[test]
    fn the_ends_have_a_bucket() {
        assert_eq!((bucket_of(0), bucket_of(1)), (0, 1));
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(largest_of(BUCKETS - 1), u64::MAX);
        assert_eq!(Tally::default().snapshot().at_most(0.5), None);
    }
}
