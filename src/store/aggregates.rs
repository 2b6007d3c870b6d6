//! Aggregates that the server computes over one partition, so that rows need not travel.

use uuid::Uuid;

use super::readings::{Slice, TABLE};
use super::shape::{Number, Others, Shape};
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
    pub lowest: f64,
    pub highest: f64,
}

/// Pages of [`SensorExtremes`]; sensors without a value are left out.
#[derive(Debug)]
pub struct ExtremesPages {
    pages: Pages,
    /// Of rows instead of aggregates: the name of the metric, and how to find it.
    of_rows: Option<(String, Shape)>,
}

/// Each sensor's extremes of `metric` within a slice of a partition, by the server's GROUP BY over the raw rows.
///
/// This is the one place that says what a partition's extremes are: precomputed rollups of closed buckets belong
/// behind it. GROUP BY works together with a range of time filtered within the partition, and `max()` reaches into
/// the frozen map of other metrics (`max(other_metrics['rpm'])`): both as of Cassandra 4.0 and verified on 5.0.6. In a
/// migrated table that map is in either of two columns, and the rows are read instead: then a sensor may come once per
/// page.
pub async fn extremes(
    session: &Session,
    partition: &Partition,
    slice: Slice,
    metric: &Metric,
) -> Result<ExtremesPages, Error> {
    let (clause, values, filtered) = slice.clause(partition);
    let shape = Shape::of(session, TABLE).await?;
    let filtering = if filtered { " ALLOW FILTERING" } else { "" };
    let keyspace = session.keyspace();
    if let (Metric::Other(name), true) = (metric, shape.is_migrated()) {
        let columns = shape.columns().join(", ");
        let cql = format!("SELECT iot_sensor_id, {columns} FROM {keyspace}.{TABLE} {clause}{filtering}");
        let statement = session.prepare(&cql).await?;
        let pages = session.pages(statement, values, PAGE_VALUES);
        return Ok(ExtremesPages { pages, of_rows: Some((name.clone(), shape)) });
    }
    let value = value_expression(metric);
    let cql = format!(
        "SELECT iot_sensor_id, min({value}), max({value}) FROM {keyspace}.{TABLE} {clause} \
         GROUP BY location, device_type, bucket, iot_sensor_id{filtering}"
    );
    let statement = session.prepare(&cql).await?;
    Ok(ExtremesPages { pages: session.pages(statement, values, PAGE_SENSORS), of_rows: None })
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
        let mut extremes: Vec<SensorExtremes> = Vec::new();
        for row in page.iter() {
            let found = match &self.of_rows {
                None => sensor_extremes(row)?,
                Some((name, shape)) => value_of_row(row, *shape, name)?,
            };
            match (extremes.last_mut(), found) {
                // A sensor's rows follow each other.
                (Some(last), Some(found)) if last.sensor == found.sensor => {
                    last.lowest = last.lowest.min(found.lowest);
                    last.highest = last.highest.max(found.highest);
                }
                (_, found) => extremes.extend(found),
            }
        }
        Ok(Some(extremes))
    }
}

fn sensor_extremes(row: Row<'_>) -> Result<Option<SensorExtremes>, Error> {
    // Where nothing is selected at all, the aggregate is one row of nulls.
    let (Some(sensor), Some(Number(lowest)), Some(Number(highest))) = (row.get(0)?, row.get(1)?, row.get(2)?)
    else {
        return Ok(None);
    };
    Ok(Some(SensorExtremes { sensor, lowest, highest }))
}

/// One row's value as extremes; `None` where it was not measured.
fn value_of_row(row: Row<'_>, shape: Shape, name: &str) -> Result<Option<SensorExtremes>, Error> {
    let value = element(shape.others(row, 1)?, name);
    let Some(value) = value else { return Ok(None) };
    Ok(Some(SensorExtremes { sensor: row.get(0)?, lowest: value, highest: value }))
}

fn element(others: Option<Others<'_>>, name: &str) -> Option<f64> {
    let found = others?.0.into_iter().find(|(other, _)| other == name);
    found.map(|(_, Number(value))| value)
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
    value: f64,
) -> Result<Option<i64>, Error> {
    let (mut clause, mut values, filtered) = slice.clause(partition);
    let shape = Shape::of(session, TABLE).await?;
    let of_rows = match metric {
        Metric::Other(name) => {
            clause += if filtered { " ALLOW FILTERING" } else { "" };
            shape.is_migrated().then_some(name)
        }
        _ => {
            // A column holds the float that the value is the shortest decimal of. The server tells -0.0 from 0.0, and
            // they are the same value.
            let stored = value as f32;
            let (least, greatest) = if stored == 0.0 { (-0.0, 0.0) } else { (stored, stored) };
            clause += &format!(" AND {metric} >= ? AND {metric} <= ? LIMIT 1 ALLOW FILTERING");
            values.push_float(Some(least));
            values.push_float(Some(greatest));
            None
        }
    };
    let selected = match of_rows {
        Some(_) => shape.columns().join(", "),
        None => value_expression(metric),
    };
    let cql = format!("SELECT recorded_timestamp, {selected} FROM {}.{TABLE} {clause}", session.keyspace());
    let statement = session.prepare(&cql).await?;
    let mut pages = session.pages(statement, values, PAGE_VALUES);
    while let Some(page) = pages.next_or_smaller().await? {
        for row in page.iter() {
            let found = match of_rows {
                Some(name) => element(shape.others(row, 1)?, name),
                None => row.get::<Option<Number>>(1)?.map(|Number(value)| value),
            };
            if found == Some(value) {
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
