//! Rows of some partitions, counted at consistency ALL: every replica of each must answer. Counted before an operation
//! and found again after it, they show that the data has moved to where the ring says that it is.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::cassandra::{Error, Session};
use crate::config::{CassandraConfig, Consistency};
use crate::reading::{Bucket, Group, Partition};
use crate::store::{self, aggregates};

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
    pub rows: u64,
}

impl Counted {
    fn partition(&self) -> Partition {
        let group = Group { location: self.location.clone(), device_type: self.device_type.clone() };
        Partition { group: Arc::new(group), bucket: Bucket { start: self.bucket, seconds: 0 } }
    }
}

/// Counts the rows of partitions from all over the table. Empty where there is no table yet. At ALL, unless a replica
/// is known to be dead.
pub async fn take(config: &CassandraConfig, consistency: Consistency) -> anyhow::Result<Vec<Counted>> {
    let session = at(config, consistency).await?;
    let mut sample = Vec::new();
    for partition in store::sample::partitions(&session, MOST).await?.unwrap_or_default() {
        let rows = aggregates::count(&session, &partition).await?;
        let Group { location, device_type } = partition.group.as_ref().clone();
        sample.push(Counted { location, device_type, bucket: partition.bucket.start, rows });
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
        let rows = aggregates::count(&session, &counted.partition()).await?;
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
