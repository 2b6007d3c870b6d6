//! How many raw rows there are, partition by partition.

use futures::stream::{self, StreamExt, TryStreamExt};

use super::groups::Selection;
use crate::cassandra::{Session, aggregates, groups};

/// Partitions counted at once.
const IN_FLIGHT: usize = 12;

/// All raw rows that readers can find, of every group. A reading that stands in buckets of two widths counts twice.
pub async fn rows(session: &Session) -> anyhow::Result<u64> {
    if groups::groups(session).await?.is_empty() {
        return Ok(0);
    }
    let mut total = 0;
    for group in Selection::default().resolve(session).await? {
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
