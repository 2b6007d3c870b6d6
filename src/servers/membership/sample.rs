//! Rows of some partitions, counted at consistency ALL: every replica of each must answer. Counted before an operation
//! and found again after it, they show that the data has moved to where the ring says that it is.

use std::time::Duration;

use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};

use crate::cassandra::{Error, Session, Values};
use crate::config::{CassandraConfig, Consistency};

/// Partitions of a sample.
const MOST: usize = 24;

/// A node that has just died is asked by the others until they know it, and each such request runs into their timeout.
const PATIENCE: Duration = Duration::from_secs(60);

/// A partition with its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub location: String,
    pub device_type: String,
    /// Milliseconds since the epoch.
    pub bucket: i64,
    pub rows: i64,
}

/// Counts the rows of partitions from all over the table. Empty where there is no table yet. At ALL, unless a replica
/// is known to be dead.
pub async fn take(config: &CassandraConfig, consistency: Consistency) -> anyhow::Result<Vec<Counted>> {
    let session = at(config, consistency).await?;
    let keyspace = session.keyspace();
    let cql = format!(
        "SELECT DISTINCT location, device_type, bucket FROM {keyspace}.iot_sensor_metrics LIMIT {MOST}"
    );
    let statement = match session.prepare(&cql).await {
        Ok(statement) => statement,
        // The schema is not applied: there is nothing to lose.
        Err(Error::Invalid { .. } | Error::NoKeyspace { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let rows = session.execute(&statement, &Values::new()).await?;
    let mut sample = Vec::new();
    for row in rows.iter() {
        let counted =
            Counted { location: row.get(0)?, device_type: row.get(1)?, bucket: row.get(2)?, rows: 0 };
        sample.push(Counted { rows: count(&session, &counted).await?, ..counted });
    }
    Ok(sample)
}

/// Counts the partitions of a sample again. Nobody deletes, so none has fewer rows than before.
pub async fn verify(config: &CassandraConfig, sample: &[Counted]) -> anyhow::Result<()> {
    if sample.is_empty() {
        return Ok(());
    }
    let session = at(config, Consistency::All).await?;
    for counted in sample {
        let rows = count(&session, counted).await?;
        ensure!(
            rows >= counted.rows,
            "the bucket {} of {}/{} has {rows} rows at consistency ALL and had {} before (run `iotctl audit`; rows may \
             have expired in between)",
            counted.bucket,
            counted.location,
            counted.device_type,
            counted.rows
        );
    }
    Ok(())
}

async fn at(config: &CassandraConfig, read_consistency: Consistency) -> Result<Session, Error> {
    let request_timeout = config.request_timeout.max(PATIENCE);
    Session::connect(&CassandraConfig { read_consistency, request_timeout, ..config.clone() }).await
}

async fn count(session: &Session, partition: &Counted) -> anyhow::Result<i64> {
    let cql = format!(
        "SELECT count(*) FROM {}.iot_sensor_metrics WHERE location = ? AND device_type = ? AND bucket = ?",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let Counted { location, device_type, bucket, .. } = partition;
    let values = Values::new().text(location).text(device_type).timestamp(*bucket);
    let rows = session.execute(&statement, &values).await?;
    let Some(row) = rows.first() else { bail!("a count has no row") };
    Ok(row.get(0)?)
}
