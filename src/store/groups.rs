//! Which groups and sensors there are: the small tables that `ingest` keeps beside the readings.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::writes::GROUP_SHARDS;
use crate::cassandra::{Error, Session, Values};
use crate::reading::{Bucket, Group, Partition};

/// What is known about the sensors of a group without reading its readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSummary {
    pub sensors: u64,
    /// The newest reading's moment, in milliseconds since the epoch.
    pub last_recorded_at: Option<i64>,
}

/// A group's part of the primary keys.
pub(super) fn key(group: &Group) -> Values {
    Values::new().text(&group.location).text(&group.device_type)
}

/// All groups that have ever sent a reading, in order of their names. All shards are asked at once.
pub async fn groups(session: &Session) -> Result<Vec<Group>, Error> {
    let cql =
        format!("SELECT location, device_type FROM {}.sensor_groups WHERE shard = ?", session.keyspace());
    let statement = session.prepare(&cql).await?;
    let shards = stream::iter(0..GROUP_SHARDS).map(|shard| {
        let mut pages = session.pages(statement.clone(), Values::new().int(shard), 5_000);
        async move {
            let mut groups = Vec::new();
            while let Some(page) = pages.next().await? {
                for row in page.iter() {
                    groups.push(Group { location: row.get(0)?, device_type: row.get(1)? });
                }
            }
            Ok::<_, Error>(groups)
        }
    });
    let mut groups: Vec<Group> = shards.buffer_unordered(GROUP_SHARDS as usize).try_concat().await?;
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// The groups that a sensor has sent readings in; more than one where it was moved.
pub async fn groups_of_sensor(session: &Session, sensor: Uuid) -> Result<Vec<Group>, Error> {
    let cql = format!(
        "SELECT location, device_type FROM {}.iot_sensors_by_id WHERE iot_sensor_id = ?",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let page = session.execute(&statement, &Values::new().uuid(sensor)).await?;
    page.iter().map(|row| Ok(Group { location: row.get(0)?, device_type: row.get(1)? })).collect()
}

/// The number of a group's sensors and its newest reading. Counted here, page by page: the server's own count() over
/// a large group would not end within its deadline.
pub async fn summary(session: &Session, group: &Group) -> Result<GroupSummary, Error> {
    let cql = format!(
        "SELECT recorded_timestamp FROM {}.iot_latest WHERE location = ? AND device_type = ?",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let mut pages = session.pages(statement, key(group), 5_000);
    let mut summary = GroupSummary { sensors: 0, last_recorded_at: None };
    while let Some(page) = pages.next().await? {
        for row in page.iter() {
            summary.sensors += 1;
            summary.last_recorded_at = summary.last_recorded_at.max(row.get(0)?);
        }
    }
    Ok(summary)
}

/// The partitions of a group that may hold a moment of `[from, to)`, newest first.
///
/// 24 bytes a bucket are held: 210 kB for a year of hours.
pub async fn partitions(
    session: &Session,
    group: &Arc<Group>,
    from: i64,
    to: i64,
) -> Result<Vec<Partition>, Error> {
    let cql = format!(
        "SELECT bucket, bucket_seconds FROM {}.sensor_partitions \
         WHERE location = ? AND device_type = ? AND bucket < ?",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let mut pages = session.pages(statement, key(group).timestamp(to), 5_000);
    let mut buckets = Vec::new();
    while let Some(page) = pages.next().await? {
        for row in page.iter() {
            let bucket = Bucket { start: row.get(0)?, seconds: row.get(1)? };
            // Widths differ, so that only the bucket itself says whether it reaches into the range.
            if bucket.end() > from {
                add_bucket(&mut buckets, bucket);
            }
        }
    }
    Ok(buckets.into_iter().map(|bucket| Partition { group: group.clone(), bucket }).collect())
}

/// Adds the next bucket in order of the starts. The partition's key holds the start alone, so buckets of different
/// widths that start together share a partition, which reaches as far as the widest.
fn add_bucket(buckets: &mut Vec<Bucket>, bucket: Bucket) {
    match buckets.last_mut() {
        Some(last) if last.start == bucket.start => last.seconds = last.seconds.max(bucket.seconds),
        _ => buckets.push(bucket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_that_start_together_are_one_partition_as_wide_as_the_widest() {
        let mut buckets = Vec::new();
        for (start, seconds) in [(7_200_000, 3600), (0, 1800), (0, 86_400), (0, 3600), (-3_600_000, 3600)] {
            add_bucket(&mut buckets, Bucket { start, seconds });
        }
        let expected = [(7_200_000, 3600), (0, 86_400), (-3_600_000, 3600)];
        assert_eq!(buckets, expected.map(|(start, seconds)| Bucket { start, seconds }));
    }
}
