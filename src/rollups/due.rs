//! Which hours and days of a group are to be rolled up now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{REST, is_closed};
use crate::analytics::sources;
use crate::cassandra::{Error, Session};
use crate::reading::{Group, Partition};
use crate::store::groups;
use crate::store::rollups::{self, Coverage, DirtyMarker};
use crate::time::TimeRange;
use crate::time::{DAY, HOUR, day_of};

/// The work on one group, by day, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Due {
    pub days: Vec<DueDay>,
    /// Time until every dirty marker is old enough to be acted on; `None` where there are none.
    pub rests_for: Option<Duration>,
    /// Hours with a marker that is too young.
    pub resting: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DueDay {
    pub day: i64,
    /// To be computed from the raw rows.
    pub hours: Vec<i64>,
    /// Those of them that have been computed before.
    pub again: BTreeSet<i64>,
    /// To be deleted afterwards.
    pub markers: Vec<DirtyMarker>,
    /// Hours of the day whose rollups are there and stay as they are.
    pub others: Vec<i64>,
    /// Whether the day is to be rolled up after its hours.
    pub is_complete: bool,
}

/// What to compute, beside what is new or dirty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What is missing or dirty.
    Due,
    /// Everything that is over.
    Everything,
}

impl Due {
    /// What is due of the days that `range` touches, and that hourly rollups are kept of.
    pub async fn find(
        session: &Session,
        group: &Arc<Group>,
        range: TimeRange,
        retention: Duration,
        scope: Scope,
        now: i64,
    ) -> Result<Self, Error> {
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        // A day that expires within the day is not worth the work.
        let oldest = now.saturating_sub(retention).max(EARLIEST);
        let from = day_of(range.from.max(oldest));
        let to = day_of(range.to.min(now).saturating_sub(1)).saturating_add(DAY);
        let markers = rollups::coverage::dirty_markers(session, group).await?;
        let (coverage, partitions) = tokio::try_join!(
            rollups::coverage::read(session, group, from, to),
            groups::partitions(session, group, from, to)
        )?;
        Ok(Self::of(&partitions, &coverage, &markers, TimeRange { from, to }, scope, now))
    }

    fn of(
        partitions: &[Partition],
        coverage: &Coverage,
        markers: &[DirtyMarker],
        range: TimeRange,
        scope: Scope,
        now: i64,
    ) -> Self {
        let rest = REST.as_millis() as i64;
        let mut marked: BTreeMap<i64, Vec<DirtyMarker>> = BTreeMap::new();
        for marker in markers {
            marked.entry(marker.hour).or_default().push(*marker);
        }
        // A marker from the future waits past its own time: nothing says how far that clock is off.
        let ready_at = |markers: &Vec<DirtyMarker>| {
            markers.iter().map(|marker| marker.marked_at + rest).max().unwrap_or(0)
        };
        let mut by_day: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for hour in sources::hours_of(partitions, range) {
            by_day.entry(day_of(hour)).or_default().push(hour);
        }
        let mut due = Self::default();
        let mut rests_until: Option<i64> = None;
        for (day, hours) in by_day {
            let mut found = DueDay {
                day,
                hours: Vec::new(),
                again: BTreeSet::new(),
                markers: Vec::new(),
                others: Vec::new(),
                is_complete: is_closed(day + DAY - HOUR, now),
            };
            for hour in hours {
                let is_covered = coverage.hours.contains(&hour);
                let markers = marked.get(&hour);
                let wanted = scope == Scope::Everything || !is_covered || markers.is_some();
                if let Some(ready_at) = markers.map(ready_at).filter(|&ready_at| ready_at > now) {
                    due.resting += 1;
                    rests_until = rests_until.max(Some(ready_at));
                    found.is_complete = false;
                } else if !is_closed(hour, now) {
                    found.is_complete = false;
                } else if wanted {
                    found.hours.push(hour);
                    found.markers.extend(markers.into_iter().flatten());
                    if is_covered {
                        found.again.insert(hour);
                    }
                } else {
                    found.others.push(hour);
                }
            }
            // A day that was rolled up before one of its hours was marked lacks that hour's readings.
            let is_missing = !coverage.days.contains(&day) && found.is_complete;
            if !found.hours.is_empty() || is_missing {
                due.days.push(found);
            }
        }
        due.rests_for =
            rests_until.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or_default()));
        due
    }

    /// Hours to compute.
    pub fn hours(&self) -> usize {
        self.days.iter().map(|day| day.hours.len()).sum()
    }
}

/// No reading is older: decoding refuses it.
const EARLIEST: i64 = 0;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::reading::Bucket;

    fn partitions(hours: std::ops::Range<i64>) -> Vec<Partition> {
        let group = Arc::new(Group { location: "a".into(), device_type: "b".into() });
        hours
            .map(|hour| Partition {
                group: group.clone(),
                bucket: Bucket { start: hour * HOUR, seconds: 3600 },
            })
            .collect()
    }

    fn mark(hour: i64, marked_at: i64) -> DirtyMarker {
        DirtyMarker { hour: hour * HOUR, id: Uuid::from_u128(1), marked_at }
    }

    fn find(coverage: &Coverage, marks: &[DirtyMarker], now: i64) -> Due {
        Due::of(&partitions(0..30), coverage, marks, TimeRange::ALL, Scope::Due, now)
    }

    /// 26 hours and 11 minutes: the hour from 25:00 is over and has been for long enough, that from 26:00 is not.
    const NOW: i64 = 26 * HOUR + 660_000;

    #[test]
    fn hours_that_are_over_are_due_and_a_day_when_all_of_it_is() {
        let due = find(&Coverage::default(), &[], NOW);
        let shape: Vec<_> = due.days.iter().map(|day| (day.hours.len(), day.is_complete)).collect();
        assert_eq!(shape, [(24, true), (2, false)]);
        assert_eq!((due.resting, due.rests_for), (0, None));
    }

    #[test]
    fn what_is_rolled_up_is_due_again_when_it_is_marked_and_the_mark_has_rested() {
        let coverage = Coverage { hours: (0..26).map(|hour| hour * HOUR).collect(), days: [0].into() };
        assert_eq!(find(&coverage, &[], NOW), Due::default());
        let due = find(&coverage, &[mark(3, NOW - 70_000)], NOW);
        let [day] = due.days.as_slice() else { panic!("{due:?}") };
        assert_eq!((day.hours.as_slice(), day.others.len(), day.is_complete), (&[3 * HOUR][..], 23, true));
        assert_eq!((day.markers.len(), day.again.len()), (1, 1));
        // The youngest of its marks counts.
        let due = find(&coverage, &[mark(3, NOW - 70_000), mark(3, NOW - 10_000)], NOW);
        assert_eq!((due.days.len(), due.resting), (0, 1));
        assert_eq!(due.rests_for, Some(Duration::from_secs(50)));
    }

    #[test]
    fn a_day_waits_for_an_hour_whose_mark_is_too_young() {
        let due = find(&Coverage::default(), &[mark(3, NOW)], NOW);
        assert_eq!((due.days[0].hours.len(), due.days[0].is_complete), (23, false));
    }

    #[test]
    fn a_mark_of_an_hour_that_no_partition_holds_stays() {
        let due = find(&Coverage::default(), &[mark(200, 0)], NOW);
        assert!(due.days.iter().all(|day| day.markers.is_empty()));
    }

    #[test]
    fn a_day_whose_hours_are_all_there_is_rolled_up_without_reading_rows() {
        let coverage = Coverage { hours: (0..26).map(|hour| hour * HOUR).collect(), days: BTreeSet::new() };
        let due = find(&coverage, &[], NOW);
        assert_eq!(due.days.len(), 1);
        assert!(due.days[0].hours.is_empty() && due.days[0].is_complete);
        assert_eq!(due.days[0].others.len(), 24);
    }
}
