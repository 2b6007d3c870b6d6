//! The sources of an answer about one group: days and hours from rollups, the rest from raw rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cassandra::{Error, Session};
use crate::reading::{Group, Partition};
use crate::store::groups;
use crate::store::rollups::{self, Coverage};
use crate::time::periods::PeriodCursor;
use crate::time::{DAY, HOUR, Periods, TimeRange, day_of, hour_of};

/// The longest period that a question may take from one rollup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxResolution {
    Day,
    Hour,
    /// No rollups: raw rows only.
    Raw,
}

/// How an answer is divided: a rollup serves if no part of it belongs to another period than the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    pub periods: Periods,
    /// Whether the rollup of a day has its hours, as that of a group has and that of a sensor has not.
    pub days_have_hours: bool,
}

impl Division {
    /// One answer for all of the range.
    pub const NONE: Self = Self { periods: Periods::All, days_have_hours: false };

    /// Whether the rollup of a UTC day serves.
    fn takes_day(self, day: i64, cursor: &mut PeriodCursor) -> bool {
        match self.days_have_hours {
            true => (0..24).all(|hour| cursor.holds(day + hour * HOUR, day + (hour + 1) * HOUR)),
            false => cursor.holds(day, day + DAY),
        }
    }
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
        division: Division,
    ) -> Result<Self, Error> {
        if max_resolution == MaxResolution::Raw {
            let partitions = groups::partitions(session, group, range.from, range.to).await?;
            let (coverage, dirty) = (Coverage::default(), BTreeSet::new());
            return Ok(Self::of(&partitions, &coverage, &dirty, range, max_resolution, division));
        }
        let marks = rollups::coverage::dirty_markers(session, group).await?;
        let dirty = marks.iter().map(|mark| mark.hour).collect();
        let from = day_of(range.from.max(MOMENTS.from));
        let (coverage, partitions) = tokio::try_join!(
            rollups::coverage::read(session, group, from, range.to),
            groups::partitions(session, group, range.from, range.to)
        )?;
        Ok(Self::of(&partitions, &coverage, &dirty, range, max_resolution, division))
    }

    fn of(
        partitions: &[Partition],
        coverage: &Coverage,
        dirty: &BTreeSet<i64>,
        range: TimeRange,
        max_resolution: MaxResolution,
        division: Division,
    ) -> Self {
        let mut plan = Self::default();
        let mut raw: Vec<TimeRange> = Vec::new();
        let dirty_days: BTreeSet<i64> = dirty.iter().map(|&hour| day_of(hour)).collect();
        let covers = |from: i64, to: i64| range.from <= from && to <= range.to;
        let (mut by_day, mut by_hour) = (division.periods.cursor(), division.periods.cursor());
        // The last day, and whether its rollup serves.
        let (mut last_day, mut day_serves) = (None, false);
        for hour in hours_of(partitions, range) {
            let day = day_of(hour);
            if last_day != Some(day) {
                last_day = Some(day);
                day_serves = max_resolution == MaxResolution::Day && division.takes_day(day, &mut by_day);
            }
            let from_day = day_serves
                && covers(day, day + DAY)
                && coverage.days.contains(&day)
                && !dirty_days.contains(&day);
            let from_hour = max_resolution != MaxResolution::Raw
                && covers(hour, hour + HOUR)
                && coverage.hours.contains(&hour)
                && !dirty.contains(&hour)
                && by_hour.holds(hour, hour + HOUR);
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
    use crate::time::Zone;

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
        let plan = Plan::of(&partitions, &coverage, &dirty, range, MaxResolution::Day, Division::NONE);
        assert_eq!(plan.days, [DAY]);
        assert_eq!(plan.hours, [23 * HOUR, 2 * DAY, 2 * DAY + 2 * HOUR]);
        let raw: Vec<_> = plan.raw_ranges().iter().map(|part| (part.from, part.to)).collect();
        assert_eq!(raw, [(range.from, 23 * HOUR), (2 * DAY + HOUR, 2 * DAY + 2 * HOUR)]);
    }

    #[test]
    fn a_dirty_hour_makes_its_day_dirty() {
        let partitions = [partition(0, 86_400)];
        let coverage = Coverage { hours: (0..24).map(|hour| hour * HOUR).collect(), days: [0].into() };
        let dirty = [5 * HOUR].into();
        let all = TimeRange::ALL;
        let plan = Plan::of(&partitions, &coverage, &dirty, all, MaxResolution::Day, Division::NONE);
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
            division in division(),
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
            let plan = Plan::of(&partitions, &coverage, &dirty, range, MaxResolution::Day, division);
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
            // What a rollup sums up belongs to one period.
            let whole = |from: i64, to: i64| division.periods.of(from) == division.periods.of(to - 1);
            prop_assert!(plan.hours.iter().all(|&hour| whole(hour, hour + HOUR)));
            let finest = if division.days_have_hours { HOUR } else { DAY };
            for &day in &plan.days {
                prop_assert!((day..day + DAY).step_by(finest as usize).all(|part| whole(part, part + finest)));
            }
        }
    }

    /// All of time, or hours and days of zones with and without a part of an hour.
    fn division() -> impl Strategy<Value = Division> {
        let zones = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"];
        let zone = prop::sample::select(zones.to_vec()).prop_map(|name| Zone::named(name).unwrap());
        let periods = zone.prop_flat_map(|zone| {
            prop::sample::select(vec![Periods::All, Periods::Hours(zone), Periods::Days(zone)])
        });
        (periods, any::<bool>()).prop_map(|(periods, days_have_hours)| Division { periods, days_have_hours })
    }

    #[test]
    fn a_day_of_another_zone_comes_from_the_hours_that_are_whole_in_it_and_rows_at_its_edges() {
        // Four UTC days with all rollups, asked for by day.
        let partitions: Vec<_> = (0..96).map(|hour| partition(hour * HOUR, 3600)).collect();
        let hours: BTreeSet<i64> = (0..96).map(|hour| hour * HOUR).collect();
        let coverage = Coverage { hours, days: (0..4).map(|day| day * DAY).collect() };
        let plan = |zone: &str, days_have_hours| {
            let division = Division { periods: Periods::Days(Zone::named(zone).unwrap()), days_have_hours };
            let none = BTreeSet::new();
            Plan::of(&partitions, &coverage, &none, TimeRange::ALL, MaxResolution::Day, division)
        };
        let shape = |plan: Plan| (plan.days.len(), plan.hours.len(), plan.raw_ranges().len());
        assert_eq!(shape(plan("UTC", false)), (4, 0, 0));
        // The rollups of a sensor's days are those of UTC, a group's have the hours.
        assert_eq!(shape(plan("Europe/Berlin", false)), (0, 96, 0));
        assert_eq!(shape(plan("Europe/Berlin", true)), (4, 0, 0));
        // Midnight in Kolkata is half past six in the evening (UTC): one hour of 24 comes from rows.
        for days_have_hours in [false, true] {
            assert_eq!(shape(plan("Asia/Kolkata", days_have_hours)), (0, 92, 4));
        }
        let edges = plan("Asia/Kathmandu", true).raw_ranges();
        assert!(edges.iter().all(|edge| edge.to - edge.from == HOUR && edge.from % DAY == 18 * HOUR));
    }
}
