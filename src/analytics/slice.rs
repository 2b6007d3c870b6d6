//! How a range of time is cut into pieces that are read one after another, each small enough to sort in memory.
//!
//! Rows of a bucket come clustered by sensor, so a piece must be read whole before its first row in order of time is
//! known. A piece is normally a bucket. Buckets that overlap (their width was changed and the topic replayed) may
//! hold the same reading twice, so they form one piece and are read together. Whether a piece is too large is found
//! out by reading it: when it overflows, [`Stretch::split`] cuts it by what was seen so far.

use crate::reading::Partition;

use crate::time::TimeRange;

/// A piece of time and the partitions that may hold its rows, narrowest bucket first.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// Moments in `[from, to)`, in milliseconds since the epoch. Never empty.
    pub from: i64,
    pub to: i64,
    pub partitions: Vec<Partition>,
}

/// What was seen of a stretch before it overflowed.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Moments of the rows seen, in any order.
    pub moments: Vec<i64>,
    /// How many times as many rows there may be.
    pub total_factor: f64,
}

/// The pieces of `range` that hold rows, in ascending order of time. None overlaps another.
pub fn stretches(mut partitions: Vec<Partition>, range: TimeRange) -> Vec<Stretch> {
    partitions.sort_unstable_by_key(|partition| (partition.bucket.start, partition.bucket.seconds));
    let mut stretches: Vec<Stretch> = Vec::new();
    for partition in partitions {
        let from = partition.bucket.start.max(range.from);
        let to = partition.bucket.end().min(range.to);
        if from >= to {
            continue;
        }
        match stretches.last_mut() {
            Some(last) if from < last.to => {
                last.to = last.to.max(to);
                last.partitions.push(partition);
            }
            _ => stretches.push(Stretch { from, to, partitions: vec![partition] }),
        }
    }
    for stretch in &mut stretches {
        stretch.partitions.sort_by_key(|partition| partition.bucket.seconds);
    }
    stretches
}

impl Stretch {
    /// Whether it can be cut at all: a moment is a millisecond.
    pub fn can_split(&self) -> bool {
        self.to.saturating_sub(self.from) > 1
    }

    /// Cuts an overflowing stretch into at least two narrower ones, in ascending order of time; together they cover
    /// it exactly.
    ///
    /// Several partitions are first cut where buckets begin, in the middle, because the rows seen came from the
    /// first of them alone. A single one is cut at quantiles of the moments seen, into pieces of about half of what
    /// overflowed.
    pub fn split(&self, seen: &Seen) -> Vec<Stretch> {
        let mut cuts = self.inner_boundaries();
        if cuts.is_empty() {
            cuts = self.quantiles(seen);
        } else {
            cuts = vec![cuts[cuts.len() / 2]];
        }
        if cuts.is_empty() && self.can_split() {
            cuts.push(self.from.midpoint(self.to));
        }
        let ends = cuts.iter().copied().chain([self.to]);
        let starts = [self.from].into_iter().chain(cuts.iter().copied());
        starts.zip(ends).map(|(from, to)| self.part(from, to)).collect()
    }

    /// The rows of `[from, to)` alone, leaving out the partitions that cannot hold any.
    fn part(&self, from: i64, to: i64) -> Stretch {
        let reaches = |partition: &&Partition| partition.bucket.start < to && from < partition.bucket.end();
        Stretch { from, to, partitions: self.partitions.iter().filter(reaches).cloned().collect() }
    }

    /// Where buckets begin or end strictly inside of it.
    fn inner_boundaries(&self) -> Vec<i64> {
        let mut boundaries: Vec<i64> = self
            .partitions
            .iter()
            .flat_map(|partition| [partition.bucket.start, partition.bucket.end()])
            .filter(|&boundary| self.from < boundary && boundary < self.to)
            .collect();
        boundaries.sort_unstable();
        boundaries.dedup();
        boundaries
    }

    fn quantiles(&self, seen: &Seen) -> Vec<i64> {
        const MOST_PIECES: f64 = 10_000.0;
        let mut moments = seen.moments.clone();
        moments.sort_unstable();
        let pieces = (2.0 * seen.total_factor).ceil().clamp(2.0, MOST_PIECES) as usize;
        let mut cuts: Vec<i64> = (1..pieces)
            .filter_map(|piece| moments.get(moments.len() * piece / pieces).copied())
            .filter(|&cut| self.from < cut && cut < self.to)
            .collect();
        cuts.dedup();
        cuts
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::reading::Bucket;
    use crate::reading::Group;

    fn partition(start: i64, seconds: i32) -> Partition {
        let group = Arc::new(Group { location: "a".into(), device_type: "b".into() });
        Partition { group, bucket: Bucket { start: start * 1000, seconds } }
    }

    fn range(from: i64, to: i64) -> TimeRange {
        TimeRange { from: from * 1000, to: to * 1000 }
    }

    #[test]
    fn overlapping_buckets_are_read_together_and_others_one_by_one() {
        let partitions = vec![partition(20, 20), partition(0, 10), partition(30, 10), partition(10, 10)];
        let stretches = stretches(partitions, TimeRange::ALL);
        let shape: Vec<_> = stretches
            .iter()
            .map(|stretch| (stretch.from / 1000, stretch.to / 1000, stretch.partitions.len()))
            .collect();
        assert_eq!(shape, [(0, 10, 1), (10, 20, 1), (20, 40, 2)]);
        assert_eq!(stretches[2].partitions[0].bucket.seconds, 10, "the narrowest copy comes first");
    }

    #[test]
    fn a_range_clips_the_first_and_last_piece() {
        let stretches = stretches(vec![partition(0, 10), partition(10, 10), partition(20, 10)], range(5, 12));
        assert_eq!(stretches.len(), 2);
        assert_eq!((stretches[0].from, stretches[1].to), (5_000, 12_000));
    }

    #[test]
    fn a_large_bucket_is_cut_where_its_rows_are() {
        let stretch = Stretch { from: 0, to: 3_600_000, partitions: vec![partition(0, 3600)] };
        // 1,000 rows seen, all in the first second; four times as many are expected.
        let seen = Seen { moments: (0..1000).collect(), total_factor: 4.0 };
        let pieces = stretch.split(&seen);
        assert_eq!(pieces.len(), 8);
        assert_eq!(pieces.iter().filter(|piece| piece.to <= 1000).count(), 7);
    }

    proptest! {
        #[test]
        fn pieces_cover_a_stretch_exactly_and_are_narrower(
            from in 0i64..7_200_000,
            width in 2i64..7_200_000,
            buckets in prop::collection::vec((0i64..4, prop::sample::select(vec![1800, 3600, 7200])), 1..5),
            moments in prop::collection::vec(0i64..14_400_000, 0..50),
            total_factor in 0.0f64..100.0,
        ) {
            let partitions = buckets.into_iter().map(|(n, seconds)| partition(n * i64::from(seconds), seconds)).collect();
            let stretch = Stretch { from, to: from + width, partitions };
            let pieces = stretch.split(&Seen { moments, total_factor });
            prop_assert!(pieces.len() >= 2);
            prop_assert_eq!(pieces[0].from, stretch.from);
            prop_assert_eq!(pieces[pieces.len() - 1].to, stretch.to);
            for pair in pieces.windows(2) {
                prop_assert_eq!(pair[0].to, pair[1].from);
            }
            for piece in &pieces {
                prop_assert!(piece.from < piece.to);
                for partition in &stretch.partitions {
                    let reaches = partition.bucket.start < piece.to && piece.from < partition.bucket.end();
                    prop_assert_eq!(piece.partitions.contains(partition), reaches);
                }
            }
        }

        #[test]
        fn every_moment_of_the_range_lies_in_just_one_piece_with_all_its_buckets(
            buckets in prop::collection::vec((0i64..20, prop::sample::select(vec![10, 20, 40])), 0..12),
            moment in 0i64..800,
            from in 0i64..400, to in 400i64..800,
        ) {
            let partitions: Vec<_> =
                buckets.into_iter().map(|(n, seconds)| partition(n * i64::from(seconds), seconds)).collect();
            let at = moment * 1000;
            let holding = partitions.iter().filter(|partition| partition.bucket.contains(at)).count();
            let range = range(from, to);
            let pieces = stretches(partitions, range);
            let around: Vec<_> = pieces.iter().filter(|piece| piece.from <= at && at < piece.to).collect();
            if range.contains(at) && holding > 0 {
                prop_assert_eq!(around.len(), 1);
                prop_assert_eq!(
                    around[0].partitions.iter().filter(|partition| partition.bucket.contains(at)).count(), holding);
            } else if !range.contains(at) {
                prop_assert!(around.is_empty());
            }
        }
    }
}
