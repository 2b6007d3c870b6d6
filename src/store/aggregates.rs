//! Aggregates that the server computes over one partition, so that rows need not travel.

use uuid::Uuid;

use super::readings::Slice;
use crate::cassandra::values::quoted;
use crate::cassandra::{Error, Pages, Row, Session};
use crate::reading::Metric;
use crate::reading::Partition;

/// Sensors in a page. Small ones cost the server far more a row (measured on 5.0.6, 100 sensors of 400 rows: 0.15 s
/// in one page, 1.2 s in ten), so pages shrink only where they prove too slow.
const PAGE_SENSORS: i32 = 500;
/// Rows in a page where a moment is looked for by reading them.
const PAGE_VALUES: i32 = 1_000;

/// A sensor's lowest and highest value within one slice of a partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SensorExtremes {
    pub sensor: Uuid,
    pub lowest: f32,
    pub highest: f32,
}

/// Pages of [`SensorExtremes`]; sensors without a value are left out.
#[derive(Debug)]
pub struct ExtremesPages {
    pages: Pages,
}

/// Each sensor's extremes of `metric` within a slice of a partition, by the server's GROUP BY over the raw rows.
///
/// This is the one place that says what a partition's extremes are: precomputed rollups of closed buckets belong
/// behind it. GROUP BY works together with a range of time filtered within the partition, and `max()` reaches into
/// the frozen map of other metrics (`max(other_metrics['rpm'])`): both as of Cassandra 4.0 and verified on 5.0.6.
pub async fn extremes(
    session: &Session,
    partition: &Partition,
    slice: Slice,
    metric: &Metric,
) -> Result<ExtremesPages, Error> {
    let (clause, values, filtered) = slice.clause(partition);
    let value = value_expression(metric);
    let cql = format!(
        "SELECT iot_sensor_id, min({value}), max({value}) FROM {}.iot_sensor_metrics {clause} \
         GROUP BY location, device_type, bucket, iot_sensor_id{}",
        session.keyspace(),
        if filtered { " ALLOW FILTERING" } else { "" }
    );
    let statement = session.prepare(&cql).await?;
    Ok(ExtremesPages { pages: session.pages(statement, values, PAGE_SENSORS) })
}

/// The raw rows of a partition, counted by the server.
pub async fn count(session: &Session, partition: &Partition) -> Result<u64, Error> {
    let (clause, values, _) = Slice::EVERYTHING.clause(partition);
    let cql = format!("SELECT count(*) FROM {}.iot_sensor_metrics {clause}", session.keyspace());
    let statement = session.prepare(&cql).await?;
    let rows = session.execute(&statement, &values).await?;
    let count: Option<i64> = rows.first().map(|row| row.get(0)).transpose()?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

impl ExtremesPages {
    /// The next page, or `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<SensorExtremes>>, Error> {
        let Some(page) = self.pages.next_or_smaller().await? else { return Ok(None) };
        let mut extremes = Vec::with_capacity(page.len());
        for row in page.iter() {
            extremes.extend(sensor_extremes(row)?);
        }
        Ok(Some(extremes))
    }
}

fn sensor_extremes(row: Row<'_>) -> Result<Option<SensorExtremes>, Error> {
    // Where nothing is selected at all, the aggregate is one row of nulls.
    let (Some(sensor), Some(lowest), Some(highest)) = (row.get(0)?, row.get(1)?, row.get(2)?) else {
        return Ok(None);
    };
    Ok(Some(SensorExtremes { sensor, lowest, highest }))
}

/// The newest moment in `slice`, of one sensor, at which `metric` was exactly `value`.
///
/// The server looks for a column's value and stops at the first row that has it, because a sensor's rows come newest
/// first. It cannot filter by an element of a frozen map: those values are read until one matches.
pub async fn last_moment_of(
    session: &Session,
    partition: &Partition,
    slice: Slice,
    metric: &Metric,
    value: f32,
) -> Result<Option<i64>, Error> {
    let (mut clause, mut values, filtered) = slice.clause(partition);
    if let Metric::Other(_) = metric {
        clause += if filtered { " ALLOW FILTERING" } else { "" };
    } else {
        // The server tells -0.0 from 0.0, and they are the same value.
        let (least, greatest) = if value == 0.0 { (-0.0, 0.0) } else { (value, value) };
        clause += &format!(" AND {metric} >= ? AND {metric} <= ? LIMIT 1 ALLOW FILTERING");
        values.push_float(Some(least));
        values.push_float(Some(greatest));
    }
    let cql = format!(
        "SELECT recorded_timestamp, {} FROM {}.iot_sensor_metrics {clause}",
        value_expression(metric),
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let mut pages = session.pages(statement, values, PAGE_VALUES);
    while let Some(page) = pages.next_or_smaller().await? {
        for row in page.iter() {
            if row.get::<Option<f32>>(1)? == Some(value) {
                return Ok(Some(row.get(0)?));
            }
        }
    }
    Ok(None)
}

/// The metric as CQL: a column, or an element of the map with its name as a quoted literal.
fn value_expression(metric: &Metric) -> String {
    match metric {
        Metric::Other(name) => format!("other_metrics[{}]", quoted(name)),
        column => column.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_name_cannot_leave_its_quotes() {
        let metric = Metric::named("x'] FROM t; DROP TABLE t; --");
        assert_eq!(value_expression(&metric), "other_metrics['x''] FROM t; DROP TABLE t; --']");
        assert_eq!(value_expression(&Metric::Temperature), "temperature");
    }
}
