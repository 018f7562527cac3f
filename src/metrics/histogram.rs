//! Counts durations in buckets.
//!
//! Each power of two is divided into 16 buckets of the same width, in microseconds, as in
//! [HdrHistogram](https://hdrhistogram.org). A bucket is read as its middle, so the error is at most
//! 1/32 (3.2 %), or half a microsecond if that is more. The last bucket begins at 2^36 microseconds
//! (19 hours).

use std::{
    array,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
    time::Duration,
};

/// The number of buckets for each power of two, and its logarithm.
const PER_POWER: u64 = 1 << PER_POWER_LOG;
const PER_POWER_LOG: u32 = 4;

/// There is one bucket for 2^36 us and above.
const LONGEST_LOG: u32 = 36;

/// Linear to 16 us, then 32 powers of two, and the last.
pub(super) const BUCKETS: usize = ((LONGEST_LOG - PER_POWER_LOG + 1) << PER_POWER_LOG) as usize + 1;

/// The bucket of a duration.
#[allow(
    clippy::cast_possible_truncation,
    reason = "both are less than `BUCKETS`, whatever the time"
)]
fn index(micros: u64) -> usize {
    if micros >> LONGEST_LOG != 0 {
        return BUCKETS - 1;
    }
    if micros < PER_POWER {
        return micros as usize;
    }
    let shift = micros.ilog2() - PER_POWER_LOG;
    // The leading bit is part of the mantissa, and counts the power itself.
    ((u64::from(shift) << PER_POWER_LOG) + (micros >> shift)) as usize
}

/// The middle of a bucket. `None` for the last, which has no end.
fn middle(index: usize) -> Option<Duration> {
    if index >= BUCKETS - 1 {
        return None;
    }
    let index = index as u64;
    let (start, width) = if index < PER_POWER {
        (index, 1)
    } else {
        let shift = (index >> PER_POWER_LOG) - 1;
        let mantissa = PER_POWER + (index & (PER_POWER - 1));
        (mantissa << shift, 1 << shift)
    };
    // At most 2^37 us, which is far from the limit in nanoseconds.
    Some(Duration::from_nanos(start * 1000 + width * 500))
}

/// Counters that several threads add to.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            buckets: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    pub(super) fn record(&self, nanos: u64) {
        if let Some(bucket) = self.buckets.get(index(nanos / 1000)) {
            bucket.fetch_add(1, Release);
        }
    }

    /// Adds these counters to `counts`, and returns their sum. The times that were written before the
    /// counters were increased can be read afterwards.
    pub(super) fn add_to(&self, counts: &mut Counts) -> u64 {
        let mut added = 0;
        for (sum, bucket) in counts.buckets.iter_mut().zip(&self.buckets) {
            let count = bucket.load(Acquire);
            *sum += count;
            added += count;
        }
        added
    }
}

/// Counts that no longer change.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    buckets: Box<[u64]>,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill(0);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The smallest time that `per_mille` of all times do not exceed, by nearest rank. `None` if it is
    /// in the last bucket, and if there are no times.
    pub(super) fn quantile(&self, per_mille: u64) -> Option<Duration> {
        let total = self.total();
        let rank = (u128::from(total) * u128::from(per_mille)).div_ceil(1000);
        let rank = u64::try_from(rank).unwrap_or(u64::MAX).max(1);
        let mut seen = 0;
        let index = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        middle(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Half a microsecond, or 1/32.
    fn allowed(nanos: u64) -> u64 {
        (nanos / 32).max(500)
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut last = 0;
        for power in 0..LONGEST_LOG {
            for step in 0..64 {
                let micros = (1_u64 << power) + ((1_u64 << power) * step / 64);
                let at = index(micros);
                assert!(at == last || at == last + 1 || power <= 4, "{micros}");
                last = at;
            }
        }
        assert_eq!(index((1 << LONGEST_LOG) - 1), BUCKETS - 2);
        assert_eq!(index(1 << LONGEST_LOG), BUCKETS - 1);
        assert_eq!(index(u64::MAX), BUCKETS - 1);
        assert_eq!(middle(BUCKETS - 1), None);
    }

    #[test]
    fn where_nothing_was_counted_there_is_no_quantile() {
        assert_eq!(Counts::new().quantile(500), None);
    }

    proptest! {
        #[test]
        fn a_time_is_read_back_within_the_error(nanos in 0_u64..(1 << LONGEST_LOG) * 1000) {
            let read = middle(index(nanos / 1000)).unwrap().as_nanos();
            let wrong = read.abs_diff(u128::from(nanos));
            prop_assert!(wrong <= u128::from(allowed(nanos)), "{} read as {}", nanos, read);
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_times_within_the_error(
            mut times in proptest::collection::vec(
                prop_oneof![0_u64..20_000, 0_u64..50_000_000, 0_u64..60_000_000_000_000],
                1..400,
            ),
            per_mille in 0_u64..=1000,
        ) {
            let histogram = Histogram::new();
            for nanos in &times {
                histogram.record(*nanos);
            }
            let mut counts = Counts::new();
            histogram.add_to(&mut counts);
            times.sort_unstable();
            let rank = (times.len() as u64 * per_mille).div_ceil(1000).max(1);
            let exact = times[usize::try_from(rank).unwrap() - 1];
            let read = counts.quantile(per_mille).unwrap().as_nanos();
            let wrong = read.abs_diff(u128::from(exact));
            prop_assert!(wrong <= u128::from(allowed(exact)), "{} read as {}", exact, read);
            prop_assert_eq!(counts.total(), times.len() as u64);
        }
    }
}
