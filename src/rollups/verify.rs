//! Computing rollups again and comparing them with the stored ones.

use std::sync::Arc;

use uuid::Uuid;

use crate::analytics::Scan;
use crate::analytics::scan::Question;
use crate::analytics::sources::{Division, MaxResolution, Plan};
use crate::cassandra::{Error, Session};
use crate::reading::Group;
use crate::rollups::writer::{self, Summaries, add, merge_all, runs, stored_hour};
use crate::store::rollups::{self, Detail, Table};
use crate::time::TimeRange;
use crate::time::{DAY, HOUR, day_of};

/// A rollup that does not match its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub group: Arc<Group>,
    /// [`HOUR`] or [`DAY`].
    pub period: i64,
    pub start: i64,
    pub metric: Arc<str>,
    pub sensor: Uuid,
    pub mismatch: Mismatch,
}

/// How a rollup differs from its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// There are rows but no rollup.
    Missing,
    /// There is a rollup but no row. This is not a difference if the rows may have expired.
    WithoutRows,
    Differs,
    /// Its sketch is of version 1, with an error of 0.4 % of the value. Everything else matches.
    OldSketch,
}

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verified {
    pub hours: u64,
    pub days: u64,
    pub readings: u64,
    /// Rollups compared.
    pub summaries: u64,
    /// Hours that cannot be compared because their raw rows may have expired.
    pub expired: u64,
    pub differences: Vec<Difference>,
}

/// Computes the clean hours and days of a group in `range` again. Raw rows before `oldest_row` may have expired. A day is
/// compared with its stored hours.
pub async fn verify(
    session: &Session,
    group: &Arc<Group>,
    range: TimeRange,
    oldest_row: i64,
    verified: &mut Verified,
) -> Result<(), Error> {
    let mut hours = Plan::make(session, group, range, MaxResolution::Hour, Division::NONE).await?.hours;
    let rolled_up = hours.len();
    hours.retain(|&hour| hour >= oldest_row);
    verified.expired += (rolled_up - hours.len()) as u64;
    for run in runs(&hours).into_iter().flat_map(by_day) {
        let question = Question {
            groups: vec![group.clone()],
            sensor: None,
            range: run,
            filter: None,
            chosen: None,
            order: None,
        };
        let mut scan = Scan::start(session, question).await?;
        let mut computed: std::collections::BTreeMap<i64, Summaries> = Default::default();
        while let Some(chunk) = scan.next().await? {
            verified.readings += chunk.len() as u64;
            for reading in &chunk {
                add(computed.entry(crate::time::hour_of(reading.recorded_at)).or_default(), reading);
            }
        }
        let mut hour = run.from;
        while hour < run.to {
            let stored = stored_hour(session, group, hour).await?;
            compare(
                group,
                (HOUR, hour),
                &computed.remove(&hour).unwrap_or_default(),
                &stored,
                &mut verified.differences,
            );
            verified.summaries += stored.values().map(|sensors| sensors.len() as u64).sum::<u64>();
            verified.hours += 1;
            hour += HOUR;
        }
    }
    for day in Plan::make(session, group, range, MaxResolution::Day, Division::NONE).await?.days {
        let stored = stored_day(session, group, day).await?;
        let mut merged = Summaries::new();
        for hour in (0..24).map(|hour| day + hour * HOUR) {
            merge_all(&mut merged, stored_hour(session, group, hour).await?);
        }
        compare(group, (DAY, day), &merged, &stored, &mut verified.differences);
        verified.summaries += stored.values().map(|sensors| sensors.len() as u64).sum::<u64>();
        verified.days += 1;
    }
    Ok(())
}

/// Cuts a range where days begin, so that the summaries of one day are in memory at a time.
fn by_day(range: TimeRange) -> Vec<TimeRange> {
    let mut parts = Vec::new();
    let mut from = range.from;
    while from < range.to {
        let to = (day_of(from) + DAY).min(range.to);
        parts.push(TimeRange { from, to });
        from = to;
    }
    parts
}

async fn stored_day(session: &Session, group: &Group, day: i64) -> Result<Summaries, Error> {
    let mut pages = rollups::summaries(session, Table::Daily, group, day, None, None, Detail::Whole).await?;
    let mut summaries = writer::Summaries::new();
    while let Some(page) = pages.next::<Uuid>().await? {
        for stored in page {
            summaries.entry(stored.metric.into()).or_default().insert(stored.key, stored.summary);
        }
    }
    Ok(summaries)
}

fn compare(
    group: &Arc<Group>,
    (period, start): (i64, i64),
    computed: &Summaries,
    stored: &Summaries,
    differences: &mut Vec<Difference>,
) {
    let mut found = |metric: &Arc<str>, sensor: Uuid, mismatch| {
        differences.push(Difference {
            group: group.clone(),
            period,
            start,
            metric: metric.clone(),
            sensor,
            mismatch,
        });
    };
    for (metric, sensors) in computed {
        for (sensor, summary) in sensors {
            match stored.get(metric).and_then(|sensors| sensors.get(sensor)) {
                None => found(metric, *sensor, Mismatch::Missing),
                Some(stored) if stored.is_same(summary) => {}
                Some(stored) if stored.sketch.is_legacy() && stored.is_same_without_sketch(summary) => {
                    found(metric, *sensor, Mismatch::OldSketch);
                }
                Some(_) => found(metric, *sensor, Mismatch::Differs),
            }
        }
    }
    for (metric, sensors) in stored {
        for sensor in sensors.keys() {
            if computed.get(metric).is_none_or(|sensors| !sensors.contains_key(sensor)) {
                found(metric, *sensor, Mismatch::WithoutRows);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Summary;
    use crate::series::sketch::Sketch;

    #[test]
    fn each_kind_of_difference_is_found() {
        let group = Arc::new(Group { location: "a".into(), device_type: "b".into() });
        let of = |sensors: &[(u128, f64)]| -> Summaries {
            let sensors =
                sensors.iter().map(|&(sensor, value)| (Uuid::from_u128(sensor), Summary::of(value, 0)));
            [("temperature".into(), sensors.collect())].into()
        };
        let mut differences = Vec::new();
        let (computed, stored) = (of(&[(1, 1.0), (2, 2.0), (3, 3.0)]), of(&[(1, 1.0), (2, 2.5), (4, 4.0)]));
        compare(&group, (HOUR, 0), &computed, &stored, &mut differences);
        let mut found: Vec<_> =
            differences.iter().map(|found| (found.sensor.as_u128(), found.mismatch)).collect();
        found.sort_unstable_by_key(|(sensor, _)| *sensor);
        assert_eq!(found, [(2, Mismatch::Differs), (3, Mismatch::Missing), (4, Mismatch::WithoutRows)]);
        let mut none = Vec::new();
        compare(&group, (HOUR, 0), &computed, &computed, &mut none);
        assert_eq!(none, []);
        // Version 1 of the sketch: one bucket for 1.0.
        let old = Sketch::from_bytes(&[1, 0x80, 0xff, 0x02, 1]).unwrap();
        assert_eq!(old.quantile(0.5).map(f64::round), Some(1.0));
        let mut stored = of(&[(1, 1.0), (2, 2.0), (3, 3.0)]);
        for summary in stored.values_mut().flat_map(|sensors| sensors.values_mut()) {
            summary.sketch = if summary.lowest.value == 1.0 { old.clone() } else { summary.sketch.clone() };
        }
        let mut found = Vec::new();
        compare(&group, (HOUR, 0), &computed, &stored, &mut found);
        assert_eq!(found.iter().map(|found| found.mismatch).collect::<Vec<_>>(), [Mismatch::OldSketch]);
    }

    #[test]
    fn ranges_are_cut_at_midnight() {
        let parts = by_day(TimeRange { from: 23 * HOUR, to: DAY + HOUR });
        let found: Vec<_> = parts.iter().map(|part| (part.from, part.to)).collect();
        assert_eq!(found, [(23 * HOUR, DAY), (DAY, DAY + HOUR)]);
    }
}
