//! The number of raw rows, partition by partition.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::cassandra::{Error, Session};
use crate::store::{aggregates, groups};

/// Partitions counted at once.
const IN_FLIGHT: usize = 12;

/// The number of raw rows in all groups that queries can find. A reading that is also stored in a bucket of another width
/// counts twice.
pub async fn rows(session: &Session) -> Result<u64, Error> {
    let mut total = 0;
    for group in groups::groups(session).await?.into_iter().map(Arc::new) {
        let partitions = groups::partitions(session, &group, i64::MIN, i64::MAX).await?;
        let mut counts = stream::iter(partitions)
            .map(async |partition| aggregates::count(session, &partition).await)
            .buffer_unordered(IN_FLIGHT);
        while let Some(count) = counts.try_next().await? {
            total += count;
        }
    }
    Ok(total)
}
