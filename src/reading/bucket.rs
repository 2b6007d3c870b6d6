//! The time bucket that a reading is stored in, part of its partition key.

use std::time::Duration;

/// A stretch of time `[start, start + width)`; rows of one group and bucket share a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket {
    /// Milliseconds since the Unix epoch, a multiple of the width.
    pub start: i64,
    /// Whole seconds.
    pub seconds: i32,
}

impl Bucket {
    /// The bucket of `width` that holds the moment `at` (milliseconds since the epoch).
    ///
    /// `width` must be at least a second and below 68 years; [`crate::config`] sees to that.
    pub fn containing(at: i64, width: Duration) -> Self {
        let seconds = i32::try_from(width.as_secs()).unwrap_or(i32::MAX).max(1);
        let millis = i64::from(seconds) * 1000;
        Self { start: at.div_euclid(millis).saturating_mul(millis), seconds }
    }

    /// The first moment after the bucket. A bucket that a table holds may start anywhere in `i64`.
    pub fn end(&self) -> i64 {
        self.start.saturating_add(i64::from(self.seconds) * 1000)
    }

    pub fn contains(&self, at: i64) -> bool {
        self.start <= at && at < self.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_bucket_of_a_table_overflows() {
        for start in [i64::MIN, -1, 0, i64::MAX] {
            for seconds in [i32::MIN, -1, 0, 1, i32::MAX] {
                let bucket = Bucket { start, seconds };
                assert_eq!(bucket.end() > start, seconds > 0 && start != i64::MAX, "{bucket:?}");
            }
        }
        for at in [i64::MIN, i64::MAX] {
            let bucket = Bucket::containing(at, Duration::from_secs(3600));
            assert!(bucket.start <= at && at <= bucket.end(), "{bucket:?}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_own_bucket(at in -4_102_444_800_000i64..4_102_444_800_000, seconds in 1u64..400_000_000) {
            let bucket = Bucket::containing(at, Duration::from_secs(seconds));
            prop_assert!(bucket.contains(at));
            prop_assert_eq!(bucket, Bucket::containing(bucket.start, Duration::from_secs(seconds)));
            prop_assert_ne!(bucket, Bucket::containing(bucket.end(), Duration::from_secs(seconds)));
        }
    }
}
