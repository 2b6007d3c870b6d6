//! The mean of a metric over time, for one sensor or for all sensors of some groups, on a regular grid: from rollups if
//! the steps are whole hours, otherwise from raw rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::Scan;
use super::scan::Question;
use super::series::SeriesError;
use super::stats::{By, Part, StatsQuery};
use crate::analytics::sources::MaxResolution;
use crate::cassandra::Session;
use crate::reading::Group;
use crate::reading::Metric;
use crate::series::regular::{MOST_STEPS, TooManySteps};
use crate::series::{Mean, Regular};
use crate::store::cells::Cells;
use crate::store::rollups::Detail;
use crate::time::{HOUR, Periods, TimeRange, Zone};

/// The series to read.
#[derive(Debug, Clone)]
pub struct History {
    pub groups: Vec<Arc<Group>>,
    pub sensor: Option<Uuid>,
    pub metric: Metric,
    pub range: TimeRange,
    /// Milliseconds.
    pub step: i64,
    /// Whose clock the steps are counted on.
    pub zone: Zone,
}

/// Means by the start of the step on the zone's clock.
type Steps = BTreeMap<i64, Mean>;

impl History {
    /// The means from the first step with a value to the last; `None` if there is no value.
    pub async fn read(&self, session: &Session) -> Result<Option<Regular>, SeriesError> {
        let steps = match self.step % HOUR {
            0 => self.hours(session).await?,
            _ => self.rows(session).await?,
        };
        regular(&steps, self.step, self.zone)
    }

    /// The `length` before the last step that is over at `at`: in whole steps, where `length` is.
    pub fn range_before(at: i64, length: i64, step: i64, zone: Zone) -> TimeRange {
        let to = start(zone, at, step);
        TimeRange { from: zone.first_of(to.saturating_sub(length)), to: zone.first_of(to) }
    }

    fn step_of<'a>(&self, steps: &'a mut Steps, at: i64) -> &'a mut Mean {
        steps.entry(start(self.zone, at, self.step)).or_default()
    }

    async fn hours(&self, session: &Session) -> Result<Steps, SeriesError> {
        let query = StatsQuery {
            groups: self.groups.clone(),
            sensor: self.sensor,
            chosen: None,
            tag_values: Arc::new([]),
            metric: self.metric.clone(),
            range: self.range,
            by: By::time(Periods::Hours(self.zone)),
            detail: Detail::WithoutSketch,
            max_resolution: MaxResolution::Day,
        };
        let found = query.find(session, |_| {}).await?;
        let mut steps = Steps::new();
        for (key, line) in found.lines {
            if let [Part::Moment(hour), ..] = key {
                self.step_of(&mut steps, hour).merge(line.summary.as_mean());
            }
        }
        Ok(steps)
    }

    async fn rows(&self, session: &Session) -> Result<Steps, SeriesError> {
        let question = Question {
            groups: self.groups.clone(),
            sensor: self.sensor,
            range: self.range,
            filter: None,
            chosen: None,
            order: None,
        };
        let mut scan = Scan::of_cells(session, question, Cells::of([&self.metric])).await?;
        let mut steps = Steps::new();
        while let Some(chunk) = scan.next().await? {
            for reading in &chunk {
                if let Some(value) = reading.value(&self.metric) {
                    self.step_of(&mut steps, reading.recorded_at).add(value);
                }
            }
            if steps.len() > MOST_STEPS {
                return Err(TooManySteps.into());
            }
        }
        Ok(steps)
    }
}

/// The start of the step that a moment is in, on the zone's clock.
fn start(zone: Zone, at: i64, step: i64) -> i64 {
    zone.wall(at).div_euclid(step) * step
}

fn regular(steps: &Steps, step: i64, zone: Zone) -> Result<Option<Regular>, SeriesError> {
    let (Some((&start, _)), Some((&last, _))) = (steps.first_key_value(), steps.last_key_value()) else {
        return Ok(None);
    };
    let length = usize::try_from((last - start) / step + 1).ok().filter(|&length| length <= MOST_STEPS);
    let Some(length) = length else { return Err(TooManySteps.into()) };
    let mean = |index: usize| {
        let at = start + step * index as i64;
        steps.get(&at).and_then(Mean::get).unwrap_or(f64::NAN)
    };
    Ok(Some(Regular { start, step, values: (0..length).map(mean).collect(), zone }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_without_a_value_are_gaps_and_too_many_are_refused() {
        let mean = |sum, count| Mean::of_sum(sum, count, 0.0, 10.0);
        let steps: Steps = [(0, mean(6.0, 3)), (20, mean(5.0, 1))].into();
        let found = regular(&steps, 10, Zone::Utc).unwrap().unwrap();
        assert_eq!((found.start, found.step, found.len(), found.measured()), (0, 10, 3, 2));
        assert_eq!((found.values[0], found.values[2]), (2.0, 5.0));
        assert!(regular(&Steps::new(), 10, Zone::Utc).unwrap().is_none());
        let far: Steps = [(0, mean(1.0, 1)), (i64::MAX / 2, mean(1.0, 1))].into();
        assert!(matches!(regular(&far, 10, Zone::Utc), Err(SeriesError::TooManySteps(_))));
    }

    #[test]
    fn steps_are_those_of_the_clock_on_days_of_23_and_25_hours_too() {
        let at = |text: &str| crate::time::rfc3339(text).unwrap();
        let means = |zone: &str, step: i64, from: &str, to: &str| {
            let zone = Zone::named(zone).unwrap();
            let mut steps = Steps::new();
            for reading in (at(from)..at(to)).step_by(15 * 60_000) {
                steps.entry(start(zone, reading, step)).or_default().add(1.0);
            }
            let found = regular(&steps, step, zone).unwrap().unwrap();
            let starts = (0..=found.len()).map(|index| zone.show(found.at(index)));
            (starts.collect::<Vec<_>>(), (0..found.len()).filter(|index| found.is_skipped(*index)).count())
        };
        // Four days of Berlin, one of 25 hours.
        let (days, skipped) =
            means("Europe/Berlin", 24 * HOUR, "2026-10-23T22:00:00Z", "2026-10-26T23:00:00Z");
        assert_eq!((days.len(), skipped), (4, 0));
        assert_eq!(
            (&*days[1], &*days[2]),
            ("2026-10-25T00:00:00.000+02:00", "2026-10-26T00:00:00.000+01:00")
        );
        // Both hours from 2 to 3 are one step; the hour that is skipped in March has no time of its own.
        let (hours, _) = means("Europe/Berlin", HOUR, "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z");
        assert_eq!(hours[1..3], ["2026-10-25T02:00:00.000+02:00", "2026-10-25T03:00:00.000+01:00"]);
        let (hours, skipped) = means("Europe/Berlin", HOUR, "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z");
        assert_eq!((hours.len(), skipped, &*hours[2]), (5, 1, "2026-03-29T03:00:00.000+02:00"));
        let (days, _) = means("Asia/Kolkata", 24 * HOUR, "2026-07-01T18:30:00Z", "2026-07-03T18:30:00Z");
        assert_eq!(days[0], "2026-07-02T00:00:00.000+05:30");
        // The last whole step before a moment, and whole steps before that.
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let range = History::range_before(at("2026-10-26T12:00:00Z"), 48 * HOUR, 24 * HOUR, berlin);
        assert_eq!(
            (berlin.show(range.from), berlin.show(range.to)),
            ("2026-10-24T00:00:00.000+02:00".to_owned(), "2026-10-26T00:00:00.000+01:00".to_owned())
        );
    }
}
