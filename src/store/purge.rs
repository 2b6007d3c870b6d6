//! Whole partitions of the raw readings deleted: one partition tombstone each. Rows are read only if some survive it.

use std::time::Duration;

use super::groups;
use super::readings::TABLE;
use super::shape::Shape;
use crate::cassandra::{Error, Session, Values};
use crate::config::{CassandraConfig, Consistency};
use crate::reading::Partition;

const PAGE_ROWS: i32 = 5_000;

/// A session that reads from every replica, and whose deletions every replica has to acknowledge.
///
/// Tombstones are kept for a day only (gc_grace_seconds). A replica that missed one for longer would bring the rows back.
pub async fn connect(config: &CassandraConfig) -> Result<Session, Error> {
    let all = Consistency::All;
    Session::connect(&CassandraConfig { read_consistency: all, write_consistency: all, ..config.clone() })
        .await
}

/// Whether a partition has a row that is neither expired nor deleted.
pub async fn has_readings(session: &Session, partition: &Partition) -> Result<bool, Error> {
    let cql = format!(
        "SELECT iot_sensor_id FROM {}.iot_sensor_metrics WHERE location = ? AND device_type = ? AND bucket = ? LIMIT 1",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let values = groups::key(&partition.group).timestamp(partition.bucket.start);
    Ok(session.execute(&statement, &values).await?.first().is_some())
}

/// Rows written by a clock that was further ahead are not deleted: the deletion would hide what is written until then.
pub const MAX_CLOCK_AHEAD: Duration = Duration::from_secs(86_400);

/// What a deletion left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Deleted,
    /// Nothing, but rows had been written by a clock that was ahead. Rows that are written to this partition before this
    /// moment (milliseconds since the epoch) are hidden by the deletion.
    HidesUntil(i64),
    /// Rows that were written by a clock more than [`MAX_CLOCK_AHEAD`] ahead, with the time of the newest write in
    /// milliseconds since the epoch, if it is known.
    Left(Option<i64>),
}

/// Deletes all rows of a partition, and looks again. Rows that were written by a clock ahead of the server's survive a
/// deletion at the server's time; they are deleted with the time of their newest write. Repeating it changes nothing.
///
/// The entry in sensor_partitions stays: a writer that has made it does not make it again, and late readings would be
/// hidden without it.
pub async fn delete(session: &Session, partition: &Partition) -> Result<Outcome, Error> {
    let key = || groups::key(&partition.group).timestamp(partition.bucket.start);
    let keyspace = session.keyspace();
    let of_partition = "WHERE location = ? AND device_type = ? AND bucket = ?";
    let statement =
        session.prepare(&format!("DELETE FROM {keyspace}.iot_sensor_metrics {of_partition}")).await?;
    session.execute(&statement, &key()).await?;
    if !has_readings(session, partition).await? {
        return Ok(Outcome::Deleted);
    }
    let newest = newest_write(session, partition, None).await?;
    let now = chrono::Utc::now().timestamp_micros();
    let limit = now.saturating_add(i64::try_from(MAX_CLOCK_AHEAD.as_micros()).unwrap_or(i64::MAX));
    let Some(newest) = newest.filter(|&newest| newest <= limit) else {
        return Ok(Outcome::Left(newest.map(|newest| newest / 1000)));
    };
    let covering = format!("DELETE FROM {keyspace}.iot_sensor_metrics USING TIMESTAMP ? {of_partition}");
    let statement = session.prepare(&covering).await?;
    let Partition { group, bucket } = partition;
    let values =
        Values::new().bigint(newest).text(&group.location).text(&group.device_type).timestamp(bucket.start);
    session.execute(&statement, &values).await?;
    match has_readings(session, partition).await? {
        true => Ok(Outcome::Left(Some(newest / 1000))),
        false => Ok(Outcome::HidesUntil(newest / 1000)),
    }
}

/// The time of the newest write to a partition, in microseconds since the epoch, from all rows or the first `max_rows`.
/// `None` without a measured value.
pub async fn newest_write(
    session: &Session,
    partition: &Partition,
    max_rows: Option<u32>,
) -> Result<Option<i64>, Error> {
    const CELLS: [&str; 6] =
        ["temperature", "humidity", "pressure", "motion_detected", "light_level", "gas_concentration"];
    // A map that is not frozen has a write time for each name.
    let maps =
        Shape::of(session, TABLE).await?.columns().into_iter().map(|map| format!("MAXWRITETIME({map})"));
    let cells: Vec<_> = CELLS.iter().map(|cell| format!("WRITETIME({cell})")).chain(maps).collect();
    let columns = cells.len();
    let cells = cells.join(", ");
    let limit = max_rows.map(|rows| format!(" LIMIT {rows}")).unwrap_or_default();
    let cql = format!(
        "SELECT {cells} FROM {}.iot_sensor_metrics WHERE location = ? AND device_type = ? AND bucket = ?{limit}",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let values = groups::key(&partition.group).timestamp(partition.bucket.start);
    let mut pages = session.pages(statement, values, PAGE_ROWS);
    let mut newest: Option<i64> = None;
    while let Some(page) = pages.next().await? {
        for row in page.iter() {
            for cell in 0..columns {
                newest = newest.max(row.get(cell)?);
            }
        }
    }
    Ok(newest)
}
