//! Whole partitions of the raw readings deleted: one partition tombstone each, and no scan.

use super::groups;
use crate::cassandra::{Error, Session};
use crate::config::{CassandraConfig, Consistency};
use crate::reading::Partition;

/// A session that asks every replica, and whose deletions every replica has acknowledged.
///
/// Tombstones are kept for a day only (gc_grace_seconds): a replica that misses one for longer would bring the rows back.
pub async fn connect(config: &CassandraConfig) -> Result<Session, Error> {
    let all = Consistency::All;
    Session::connect(&CassandraConfig { read_consistency: all, write_consistency: all, ..config.clone() })
        .await
}

/// Whether a partition has a row, expired and deleted ones left out.
pub async fn has_readings(session: &Session, partition: &Partition) -> Result<bool, Error> {
    let cql = format!(
        "SELECT iot_sensor_id FROM {}.iot_sensor_metrics WHERE location = ? AND device_type = ? AND bucket = ? LIMIT 1",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let values = groups::key(&partition.group).timestamp(partition.bucket.start);
    Ok(session.execute(&statement, &values).await?.first().is_some())
}

/// Deletes all rows of a partition. Twice is as once. Its entry in sensor_partitions stays: a writer that has made it
/// does not make it again, and late readings would be hidden without it.
pub async fn delete(session: &Session, partition: &Partition) -> Result<(), Error> {
    let cql = format!(
        "DELETE FROM {}.iot_sensor_metrics WHERE location = ? AND device_type = ? AND bucket = ?",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let values = groups::key(&partition.group).timestamp(partition.bucket.start);
    session.execute(&statement, &values).await.map(|_| ())
}
