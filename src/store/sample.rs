//! Partitions of the raw table, counted: what an operation on the cluster compares before and after.

use std::sync::Arc;

use crate::cassandra::{Error, Session, Values};
use crate::reading::{Bucket, Group, Partition};

/// Up to `limit` partitions from all over the table, in order of their tokens; `None` where the schema is not applied.
/// Their buckets have no width: the key holds the start alone.
pub async fn partitions(session: &Session, limit: usize) -> Result<Option<Vec<Partition>>, Error> {
    let cql = format!(
        "SELECT DISTINCT location, device_type, bucket FROM {}.iot_sensor_metrics LIMIT {limit}",
        session.keyspace()
    );
    let statement = match session.prepare(&cql).await {
        Ok(statement) => statement,
        Err(Error::Invalid { .. } | Error::NoKeyspace { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let rows = session.execute(&statement, &Values::new()).await?;
    let partition = |row: crate::cassandra::Row<'_>| {
        let group = Arc::new(Group { location: row.get(0)?, device_type: row.get(1)? });
        Ok(Partition { group, bucket: Bucket { start: row.get(2)?, seconds: 0 } })
    };
    rows.iter().map(partition).collect::<Result<_, Error>>().map(Some)
}
