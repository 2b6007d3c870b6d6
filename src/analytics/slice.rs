//! A range of time, cut into slices that are read one after another, each small enough to sort in memory.
//!
//! Rows of a bucket come clustered by sensor, so a slice must be read completely before its first row in order of time is
//! known. A slice is normally a bucket. Overlapping buckets (their width was changed and the topic replayed) may hold the
//! same reading twice, so they form one slice and are read together. Reading shows whether a slice is too large: if it
//! overflows, [`TimeSlice::split`] cuts it at quantiles of the rows read so far.

use std::collections::HashSet;

use crate::reading::Partition;
use crate::time::TimeRange;

/// A range of time and the partitions that may hold its rows, narrowest bucket first.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeSlice {
    /// Moments in `[from, to)`, in milliseconds since the epoch. Never empty.
    pub from: i64,
    pub to: i64,
    pub partitions: Vec<Partition>,
}

/// What was read of a slice before it overflowed.
#[derive(Debug, Clone, Default)]
pub struct PartialRead {
    /// The times of the rows read, in milliseconds since the epoch, in any order.
    pub moments: Vec<i64>,
    /// The estimated number of all rows, as a multiple of the rows read.
    pub total_factor: f64,
}

/// The slices of `range` that may hold rows, in ascending order of time, without overlaps.
pub fn slices(mut partitions: Vec<Partition>, range: TimeRange) -> Vec<TimeSlice> {
    partitions.sort_unstable_by_key(|partition| (partition.bucket.start, partition.bucket.seconds));
    let mut slices: Vec<TimeSlice> = Vec::new();
    for partition in partitions {
        let from = partition.bucket.start.max(range.from);
        let to = partition.bucket.end().min(range.to);
        if from >= to {
            continue;
        }
        match slices.last_mut() {
            Some(last) if from < last.to => {
                last.to = last.to.max(to);
                last.partitions.push(partition);
            }
            _ => slices.push(TimeSlice { from, to, partitions: vec![partition] }),
        }
    }
    for slice in &mut slices {
        slice.partitions.sort_by_key(|partition| partition.bucket.seconds);
    }
    slices
}

impl TimeSlice {
    /// Whether it is longer than a millisecond, so that it can be cut.
    pub fn can_split(&self) -> bool {
        self.to.saturating_sub(self.from) > 1
    }

    /// The slice for readers that need no order: a slice per partition. Overlapping buckets of a group stay together,
    /// because they may hold copies of a reading.
    pub fn without_order(self) -> Vec<TimeSlice> {
        let groups: HashSet<_> = self.partitions.iter().map(|partition| &partition.group).collect();
        if groups.len() < self.partitions.len() {
            return vec![self];
        }
        let (from, to) = (self.from, self.to);
        self.partitions
            .into_iter()
            .map(|partition| TimeSlice { from, to, partitions: vec![partition] })
            .collect()
    }

    /// Cuts an overflowing slice into at least two narrower ones, in ascending order of time, which cover it exactly.
    ///
    /// With several partitions it is cut at the middle one of their boundaries, because the rows read come from the first
    /// partition only. With one partition it is cut at quantiles of the times read, into pieces of about half of what
    /// overflowed.
    pub fn split(&self, read: &PartialRead) -> Vec<TimeSlice> {
        let mut cuts = self.inner_boundaries();
        if cuts.is_empty() {
            cuts = self.quantiles(read);
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

    /// The part in `[from, to)`, with the partitions that may hold its rows.
    fn part(&self, from: i64, to: i64) -> TimeSlice {
        let reaches = |partition: &&Partition| partition.bucket.start < to && from < partition.bucket.end();
        TimeSlice { from, to, partitions: self.partitions.iter().filter(reaches).cloned().collect() }
    }

    /// The starts and ends of buckets strictly inside the slice.
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

    fn quantiles(&self, read: &PartialRead) -> Vec<i64> {
        const MAX_PIECES: f64 = 10_000.0;
        let mut moments = read.moments.clone();
        moments.sort_unstable();
        let pieces = (2.0 * read.total_factor).ceil().clamp(2.0, MAX_PIECES) as usize;
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
        let slices = slices(partitions, TimeRange::ALL);
        let shape: Vec<_> =
            slices.iter().map(|slice| (slice.from / 1000, slice.to / 1000, slice.partitions.len())).collect();
        assert_eq!(shape, [(0, 10, 1), (10, 20, 1), (20, 40, 2)]);
        assert_eq!(slices[2].partitions[0].bucket.seconds, 10, "the narrowest copy comes first");
    }

    #[test]
    fn a_range_clips_the_first_and_last_piece() {
        let slices = slices(vec![partition(0, 10), partition(10, 10), partition(20, 10)], range(5, 12));
        assert_eq!(slices.len(), 2);
        assert_eq!((slices[0].from, slices[1].to), (5_000, 12_000));
    }

    #[test]
    fn a_large_bucket_is_cut_where_its_rows_are() {
        let slice = TimeSlice { from: 0, to: 3_600_000, partitions: vec![partition(0, 3600)] };
        // 1,000 rows seen, all in the first second; four times as many are expected.
        let read = PartialRead { moments: (0..1000).collect(), total_factor: 4.0 };
        let pieces = slice.split(&read);
        assert_eq!(pieces.len(), 8);
        assert_eq!(pieces.iter().filter(|piece| piece.to <= 1000).count(), 7);
    }

    #[test]
    fn without_order_only_overlapping_buckets_of_a_group_are_read_together() {
        let elsewhere = Arc::new(Group { location: "elsewhere".into(), device_type: "b".into() });
        let other = Partition { group: elsewhere, ..partition(0, 10) };
        let slices =
            slices(vec![partition(0, 10), other, partition(20, 10), partition(20, 20)], range(5, 90));
        let shape: Vec<_> = slices
            .into_iter()
            .flat_map(TimeSlice::without_order)
            .map(|slice| (slice.from / 1000, slice.to / 1000, slice.partitions.len()))
            .collect();
        assert_eq!(shape, [(5, 10, 1), (5, 10, 1), (20, 40, 2)]);
    }

    proptest! {
        #[test]
        fn pieces_cover_a_slice_exactly_and_are_narrower(
            from in 0i64..7_200_000,
            width in 2i64..7_200_000,
            buckets in prop::collection::vec((0i64..4, prop::sample::select(vec![1800, 3600, 7200])), 1..5),
            moments in prop::collection::vec(0i64..14_400_000, 0..50),
            total_factor in 0.0f64..100.0,
        ) {
            let partitions = buckets.into_iter().map(|(n, seconds)| partition(n * i64::from(seconds), seconds)).collect();
            let slice = TimeSlice { from, to: from + width, partitions };
            let pieces = slice.split(&PartialRead { moments, total_factor });
            prop_assert!(pieces.len() >= 2);
            prop_assert_eq!(pieces[0].from, slice.from);
            prop_assert_eq!(pieces[pieces.len() - 1].to, slice.to);
            for pair in pieces.windows(2) {
                prop_assert_eq!(pair[0].to, pair[1].from);
            }
            for piece in &pieces {
                prop_assert!(piece.from < piece.to);
                for partition in &slice.partitions {
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
            let pieces = slices(partitions, range);
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
