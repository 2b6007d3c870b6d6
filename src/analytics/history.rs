//! The mean of a metric over time, for one sensor or for all sensors of some groups, on a regular grid: from rollups if
//! the steps are whole hours, otherwise from raw rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::scan::Question;
use super::series::SeriesError;
use super::stats::{By, Part, StatsQuery};
use super::{Order, Scan};
use crate::analytics::sources::MaxResolution;
use crate::cassandra::Session;
use crate::reading::Group;
use crate::reading::Metric;
use crate::series::regular::{MOST_STEPS, TooManySteps};
use crate::series::{Mean, Regular};
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
}

/// Means by the start of the step.
type Steps = BTreeMap<i64, Mean>;

impl History {
    /// The means from the first step with a value to the last; `None` if there is no value.
    pub async fn read(&self, session: &Session) -> Result<Option<Regular>, SeriesError> {
        let steps = match self.step % HOUR {
            0 => self.hours(session).await?,
            _ => self.rows(session).await?,
        };
        regular(&steps, self.step)
    }

    fn step_of<'a>(&self, steps: &'a mut Steps, at: i64) -> &'a mut Mean {
        steps.entry(at.div_euclid(self.step) * self.step).or_default()
    }

    async fn hours(&self, session: &Session) -> Result<Steps, SeriesError> {
        let query = StatsQuery {
            groups: self.groups.clone(),
            sensor: self.sensor,
            chosen: None,
            tag_values: Arc::new([]),
            metric: self.metric.clone(),
            range: self.range,
            by: By::time(Periods::Hours(Zone::Utc)),
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
            order: Order::Asc,
        };
        let mut scan = Scan::start(session, question).await?;
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

fn regular(steps: &Steps, step: i64) -> Result<Option<Regular>, SeriesError> {
    let (Some((&start, _)), Some((&last, _))) = (steps.first_key_value(), steps.last_key_value()) else {
        return Ok(None);
    };
    let length = usize::try_from((last - start) / step + 1).ok().filter(|&length| length <= MOST_STEPS);
    let Some(length) = length else { return Err(TooManySteps.into()) };
    let mean = |index: usize| {
        let at = start + step * index as i64;
        steps.get(&at).and_then(Mean::get).unwrap_or(f64::NAN)
    };
    Ok(Some(Regular { start, step, values: (0..length).map(mean).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_without_a_value_are_gaps_and_too_many_are_refused() {
        let mean = |sum, count| Mean::of_sum(sum, count, 0.0, 10.0);
        let steps: Steps = [(0, mean(6.0, 3)), (20, mean(5.0, 1))].into();
        let found = regular(&steps, 10).unwrap().unwrap();
        assert_eq!((found.start, found.step, found.len(), found.measured()), (0, 10, 3, 2));
        assert_eq!((found.values[0], found.values[2]), (2.0, 5.0));
        assert!(regular(&Steps::new(), 10).unwrap().is_none());
        let far: Steps = [(0, mean(1.0, 1)), (i64::MAX / 2, mean(1.0, 1))].into();
        assert!(matches!(regular(&far, 10), Err(SeriesError::TooManySteps(_))));
    }
}
