//! Forecasts as they are stored.

use std::time::Duration;

use uuid::Uuid;

use super::groups;
use crate::cassandra::{Batch, Error, Pages, Session, Values};
use crate::reading::Group;
use crate::reading::Metric;
use crate::series::Step;

/// Steps of a batch.
const BATCH_ROWS: usize = 200;

/// What a stored forecast is about.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    pub group: &'a Group,
    /// All sensors of the group where absent.
    pub sensor: Option<Uuid>,
    pub metric: &'a Metric,
    /// Milliseconds since the epoch.
    pub made_at: i64,
    /// Milliseconds.
    pub step: i64,
    pub level: f64,
    pub model: &'a str,
}

/// Stores a forecast. Twice is as once: it is known by when it was made.
pub async fn store(
    session: &Session,
    subject: &Subject<'_>,
    steps: &[Step],
    retention: Duration,
) -> Result<(), Error> {
    let cql = format!(
        "INSERT INTO {}.iot_forecasts (location, device_type, metric, iot_sensor_id, made_at, at, step_seconds, model, \
         value, low, high, level) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL {}",
        session.keyspace(),
        retention.as_secs()
    );
    let statement = session.prepare(&cql).await?;
    let Subject { group, metric, made_at, .. } = *subject;
    let sensor = subject.sensor.unwrap_or(Uuid::nil());
    let key = [
        group.location.as_bytes(),
        group.device_type.as_bytes(),
        metric.name().as_bytes(),
        sensor.as_bytes().as_slice(),
    ];
    for steps in steps.chunks(BATCH_ROWS) {
        let mut batch = Batch::new(&statement, &key);
        for step in steps {
            let seconds = i32::try_from(subject.step / 1000).unwrap_or(i32::MAX);
            let mut values =
                groups::key(group).text(metric.name()).uuid(sensor).timestamp(made_at).timestamp(step.at);
            values = values.int(seconds).text(subject.model);
            for value in [step.value, step.low, step.high, subject.level] {
                values.push_double(value);
            }
            batch.push(&values);
        }
        session.write(&batch.seal(session.write_consistency(), made_at.saturating_mul(1000))).await?;
    }
    Ok(())
}

/// A step of a stored forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredStep {
    pub location: String,
    pub device_type: String,
    pub metric: String,
    /// All sensors of the group where absent.
    pub sensor: Option<Uuid>,
    /// Milliseconds since the epoch.
    pub made_at: i64,
    pub step: Step,
    pub step_seconds: i32,
    pub model: String,
    pub level: f64,
}

/// All stored forecasts, page by page, in no particular order.
#[derive(Debug)]
pub struct StoredPages(Pages);

/// Starts reading all stored forecasts: a small table, because each has a time to live.
pub async fn stored(session: &Session) -> Result<StoredPages, Error> {
    const PAGE_ROWS: i32 = 5_000;
    let cql = format!(
        "SELECT location, device_type, metric, iot_sensor_id, made_at, at, step_seconds, model, value, low, high, level \
         FROM {}.iot_forecasts",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    Ok(StoredPages(session.pages(statement, Values::new(), PAGE_ROWS)))
}

impl StoredPages {
    /// The next page, or `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<StoredStep>>, Error> {
        let Some(page) = self.0.next().await? else { return Ok(None) };
        let mut steps = Vec::with_capacity(page.len());
        for row in page.iter() {
            steps.push(StoredStep {
                location: row.get(0)?,
                device_type: row.get(1)?,
                metric: row.get(2)?,
                sensor: Some(row.get::<Uuid>(3)?).filter(|sensor| !sensor.is_nil()),
                made_at: row.get(4)?,
                step: Step { at: row.get(5)?, value: row.get(8)?, low: row.get(9)?, high: row.get(10)? },
                step_seconds: row.get(6)?,
                model: row.get(7)?,
                level: row.get(11)?,
            });
        }
        Ok(Some(steps))
    }
}
