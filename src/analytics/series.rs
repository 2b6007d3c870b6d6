//! A metric over time, as detectors take it: points of one sensor, or means on a regular grid.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::scan::Question;
use super::{Order, Scan};
use crate::cassandra::{Error, Session};
use crate::reading::Group;
use crate::reading::Metric;
use crate::series::Point;
use crate::series::regular::{Means, TooManySteps};
use crate::store::cells::Cells;
use crate::time::{Span, TimeRange, Zone};

/// Points of one group that are held at once: 80 MB.
pub const MOST_POINTS: usize = 5_000_000;
/// Why a series could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    #[error(transparent)]
    Cassandra(#[from] Error),
    #[error(
        "more than {max} values of {group} would have to be held at once (narrow it down by --last or --sensor, or take \
         means by --step 10m)"
    )]
    TooMany { max: usize, group: String },
    #[error(transparent)]
    TooManySteps(#[from] TooManySteps),
}

/// Which points to read, of one group.
#[derive(Debug, Clone)]
pub struct SeriesQuery {
    pub group: Arc<Group>,
    pub sensor: Option<Uuid>,
    pub metric: Metric,
    pub range: TimeRange,
}

impl SeriesQuery {
    /// Starts reading the metric, oldest first. No other value is in what comes.
    pub async fn scan(&self, session: &Session) -> Result<Scan, Error> {
        let question = Question {
            groups: vec![self.group.clone()],
            sensor: self.sensor,
            range: self.range,
            filter: None,
            chosen: None,
            order: Some(Order::Asc),
        };
        Scan::of_cells(session, question, Cells::of([&self.metric])).await
    }

    /// Each sensor's points in order of time; means over `step` milliseconds of a zone's clock where it is given. An error
    /// where there are more than `max` of them.
    pub async fn by_sensor(
        &self,
        session: &Session,
        step: Option<(i64, Zone)>,
        max: usize,
    ) -> Result<BTreeMap<Uuid, Vec<Point>>, SeriesError> {
        let mut scan = self.scan(session).await?;
        let mut means: BTreeMap<Uuid, Means> = BTreeMap::new();
        let mut held = 0;
        while let Some(chunk) = scan.next().await? {
            for reading in &chunk {
                let Some(value) = reading.value(&self.metric) else { continue };
                let at = reading.recorded_at;
                let at = step.map_or(at, |(step, zone)| zone.period(Span::Clock(step), at).from);
                held += usize::from(means.entry(reading.sensor).or_default().add(at, value));
            }
            if held > max {
                let Group { location, device_type } = &*self.group;
                return Err(SeriesError::TooMany { max, group: format!("{location}, {device_type}") });
            }
        }
        Ok(means.into_iter().map(|(sensor, means)| (sensor, means.finish())).collect())
    }
}
