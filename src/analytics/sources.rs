//! The sources of an answer about one group: days and hours from rollups, the rest from raw rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cassandra::{Error, Session};
use crate::reading::{Group, Partition};
use crate::store::groups;
use crate::store::rollups::{self, Coverage};
use crate::time::TimeRange;
use crate::time::{DAY, HOUR, day_of, hour_of};

/// The longest period that a question may take from one rollup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxResolution {
    Day,
    Hour,
    /// No rollups: raw rows only.
    Raw,
}

/// The parts of a range of time, without overlaps; together they hold every row of the range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub days: Vec<i64>,
    pub hours: Vec<i64>,
    /// Ranges of partitions. Overlapping buckets are separate entries with the same range.
    pub raw: Vec<(Partition, TimeRange)>,
}

impl Plan {
    /// Plans the sources for `group`. Reads the dirty markers first: if a marker is deleted later, its rollups were new
    /// before that.
    pub async fn make(
        session: &Session,
        group: &Arc<Group>,
        range: TimeRange,
        max_resolution: MaxResolution,
    ) -> Result<Self, Error> {
        if max_resolution == MaxResolution::Raw {
            let partitions = groups::partitions(session, group, range.from, range.to).await?;
            return Ok(Self::of(&partitions, &Coverage::default(), &BTreeSet::new(), range, max_resolution));
        }
        let marks = rollups::coverage::dirty_markers(session, group).await?;
        let dirty = marks.iter().map(|mark| mark.hour).collect();
        let from = day_of(range.from.max(MOMENTS.from));
        let (coverage, partitions) = tokio::try_join!(
            rollups::coverage::read(session, group, from, range.to),
            groups::partitions(session, group, range.from, range.to)
        )?;
        Ok(Self::of(&partitions, &coverage, &dirty, range, max_resolution))
    }

    fn of(
        partitions: &[Partition],
        coverage: &Coverage,
        dirty: &BTreeSet<i64>,
        range: TimeRange,
        max_resolution: MaxResolution,
    ) -> Self {
        let mut plan = Self::default();
        let mut raw: Vec<TimeRange> = Vec::new();
        let dirty_days: BTreeSet<i64> = dirty.iter().map(|&hour| day_of(hour)).collect();
        let covers = |from: i64, to: i64| range.from <= from && to <= range.to;
        for hour in hours_of(partitions, range) {
            let day = day_of(hour);
            let from_day = max_resolution == MaxResolution::Day
                && covers(day, day + DAY)
                && coverage.days.contains(&day)
                && !dirty_days.contains(&day);
            let from_hour = max_resolution != MaxResolution::Raw
                && covers(hour, hour + HOUR)
                && coverage.hours.contains(&hour)
                && !dirty.contains(&hour);
            if from_day {
                if plan.days.last() != Some(&day) {
                    plan.days.push(day);
                }
            } else if from_hour {
                plan.hours.push(hour);
            } else {
                let part = TimeRange { from: hour.max(range.from), to: (hour + HOUR).min(range.to) };
                match raw.last_mut() {
                    Some(last) if last.to == part.from => last.to = part.to,
                    _ => raw.push(part),
                }
            }
        }
        for partition in partitions {
            let bucket = partition.bucket;
            let begins = raw.partition_point(|part| part.to <= bucket.start);
            let overlapping = raw[begins..].iter().take_while(|part| part.from < bucket.end());
            plan.raw.extend(overlapping.map(|&part| (partition.clone(), part)));
        }
        plan
    }

    /// The ranges of time of the raw rows, in order and not adjacent.
    pub fn raw_ranges(&self) -> Vec<TimeRange> {
        let mut ranges: Vec<TimeRange> = self.raw.iter().map(|(_, part)| *part).collect();
        ranges.sort_unstable_by_key(|part| part.from);
        ranges.dedup();
        ranges
    }
}

/// Limits of the hours: far outside the times that readings can have, far inside the range of the type.
const MOMENTS: TimeRange = TimeRange { from: -(1 << 53), to: 1 << 53 };

/// The hours in the range for which the partitions may hold rows, in order.
pub(crate) fn hours_of(partitions: &[Partition], range: TimeRange) -> BTreeSet<i64> {
    let mut hours = BTreeSet::new();
    for partition in partitions {
        let from = partition.bucket.start.max(range.from).max(MOMENTS.from);
        let to = partition.bucket.end().min(range.to).min(MOMENTS.to);
        let mut hour = hour_of(from);
        while hour < to {
            hours.insert(hour);
            hour += HOUR;
        }
    }
    hours
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reading::Bucket;

    fn partition(start: i64, seconds: i32) -> Partition {
        let group = Arc::new(Group { location: "a".into(), device_type: "b".into() });
        Partition { group, bucket: Bucket { start, seconds } }
    }

    #[test]
    fn whole_clean_days_and_hours_come_from_rollups_and_edges_from_rows() {
        let partitions: Vec<_> = (0..72).map(|hour| partition(hour * HOUR, 3600)).collect();
        let hours: BTreeSet<i64> = (0..72).map(|hour| hour * HOUR).collect();
        let coverage = Coverage { hours, days: [0, DAY, 2 * DAY].into() };
        // From 22:30 of the first day to 03:00 of the third; 01:00 of the third is dirty.
        let range = TimeRange { from: 22 * HOUR + HOUR / 2, to: 2 * DAY + 3 * HOUR };
        let dirty = [2 * DAY + HOUR].into();
        let plan = Plan::of(&partitions, &coverage, &dirty, range, MaxResolution::Day);
        assert_eq!(plan.days, [DAY]);
        assert_eq!(plan.hours, [23 * HOUR, 2 * DAY, 2 * DAY + 2 * HOUR]);
        let raw: Vec<_> = plan.raw_ranges().iter().map(|part| (part.from, part.to)).collect();
        assert_eq!(raw, [(range.from, 23 * HOUR), (2 * DAY + HOUR, 2 * DAY + 2 * HOUR)]);
    }

    #[test]
    fn a_dirty_hour_makes_its_day_dirty() {
        let partitions = [partition(0, 86_400)];
        let coverage = Coverage { hours: (0..24).map(|hour| hour * HOUR).collect(), days: [0].into() };
        let plan = Plan::of(&partitions, &coverage, &[5 * HOUR].into(), TimeRange::ALL, MaxResolution::Day);
        assert_eq!((plan.days.len(), plan.hours.len(), plan.raw.len()), (0, 23, 1));
    }

    proptest! {
        #[test]
        fn every_moment_of_the_range_that_may_have_a_row_is_in_just_one_part(
            buckets in prop::collection::vec((0i64..60, prop::sample::select(vec![1800, 3600, 7200, 86_400])), 0..12),
            covered in prop::collection::btree_set(0i64..60, 0..60),
            days in prop::collection::btree_set(0i64..3, 0..3),
            dirty in prop::collection::btree_set(0i64..60, 0..3),
            from in 0i64..100, length in 1i64..100,
            moment in 0i64..120,
        ) {
            let partitions: Vec<_> = buckets
                .into_iter()
                .map(|(n, seconds)| {
                    let width = i64::from(seconds) * 1000;
                    partition((n * HOUR).div_euclid(width) * width, seconds)
                })
                .collect();
            let coverage = Coverage {
                hours: covered.into_iter().map(|hour| hour * HOUR).collect(),
                days: days.into_iter().map(|day| day * DAY).collect(),
            };
            let dirty: BTreeSet<i64> = dirty.into_iter().map(|hour| hour * HOUR).collect();
            let range = TimeRange { from: from * HOUR / 2, to: (from + length) * HOUR / 2 };
            let plan = Plan::of(&partitions, &coverage, &dirty, range, MaxResolution::Day);
            let at = moment * HOUR / 2 + 1;
            let holding: Vec<_> = partitions.iter().filter(|partition| partition.bucket.contains(at)).collect();
            let by_day = plan.days.iter().filter(|&&day| day_of(at) == day).count();
            let by_hour = plan.hours.iter().filter(|&&hour| hour_of(at) == hour).count();
            let by_rows = plan.raw_ranges().iter().filter(|part| part.contains(at)).count();
            if range.contains(at) && !holding.is_empty() {
                prop_assert_eq!(by_day + by_hour + by_rows, 1);
                prop_assert!(by_day + by_hour == 0 || !dirty.contains(&hour_of(at)));
                if by_rows == 1 {
                    for partition in holding {
                        prop_assert!(plan.raw.iter().any(|(raw, part)| raw == partition && part.contains(at)));
                    }
                }
            } else if !range.contains(at) {
                prop_assert_eq!(by_day + by_hour + by_rows, 0);
            }
        }
    }
}
