//! What `ingest --detect` remembers of sensors: states of single sensors, and up to which offset they are complete.
//!
//! Each write has the position as its time, so that Cassandra itself keeps the newest state: a member of the consumer group
//! that has lost a partition without noticing cannot undo what its next owner has stored.

use futures::StreamExt;
use uuid::Uuid;

use crate::cassandra::{Error, Session, Values};
use crate::kafka::TopicPartition;

const STATES: &str = "iot_detector_states";
const POSITIONS: &str = "iot_detector_positions";
/// States of sensors that have not changed for so many seconds expire: 90 days.
const TTL: i32 = 90 * 86_400;
/// Partitions in Cassandra per partition of Kafka.
const SHARDS: u128 = 16;
/// States are up to some ten KB.
const PAGE_ROWS: i32 = 200;
const WRITES_AT_ONCE: usize = 16;
/// Times of writes per position: what is written again at the same position is newer.
const PER_POSITION: i64 = 1024;

/// The states of a partition of Kafka since a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    pub consumer_group: String,
    pub of: TopicPartition,
    /// When it began, in milliseconds since the epoch.
    pub since: i64,
}

/// A sensor and its state.
pub type State = (Uuid, Vec<u8>);

/// Whether the tables are there.
pub async fn is_there(session: &Session) -> Result<bool, Error> {
    Ok(!session.columns(STATES).await?.is_empty() && !session.columns(POSITIONS).await?.is_empty())
}

/// The newest series of a partition, and the position up to which its states are complete.
pub async fn newest(
    session: &Session,
    consumer_group: &str,
    of: TopicPartition,
) -> Result<Option<(Series, i64)>, Error> {
    let cql = format!(
        "SELECT series, position FROM {}.{POSITIONS} WHERE consumer_group = ? AND topic = ? AND kafka_partition = ? LIMIT 1",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let values = Values::new().text(consumer_group).text(of.topic.as_str()).int(of.partition);
    let rows = session.execute(&statement, &values).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let series = Series { consumer_group: consumer_group.to_owned(), of, since: row.get(0)? };
    Ok(Some((series, row.get(1)?)))
}

/// Passes each state of a series to `take`.
pub async fn each(
    session: &Session,
    series: &Series,
    mut take: impl FnMut(Uuid, &[u8]),
) -> Result<(), Error> {
    let cql = format!(
        "SELECT iot_sensor_id, state FROM {}.{STATES} WHERE consumer_group = ? AND topic = ? AND kafka_partition = ? \
         AND series = ? AND shard = ?",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    for shard in 0..SHARDS {
        let values = series.key().int(shard as i32);
        let mut pages = session.pages(statement.clone(), values, PAGE_ROWS);
        while let Some(page) = pages.next().await? {
            for row in page.iter() {
                take(row.get(0)?, row.get::<&[u8]>(1)?);
            }
        }
    }
    Ok(())
}

/// Stores states that know all messages below `position`; `rewrite` counts up where it is the same position again.
pub async fn store(
    session: &Session,
    series: &Series,
    position: i64,
    rewrite: i64,
    states: Vec<State>,
) -> Result<(), Error> {
    let cql = format!(
        "INSERT INTO {}.{STATES} (consumer_group, topic, kafka_partition, series, shard, iot_sensor_id, position, state) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL {TTL}",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let mut writes = futures::stream::iter(states)
        .map(|(sensor, state)| {
            let shard = (sensor.as_u128() % SHARDS) as i32;
            let mut values = series.key().int(shard).uuid(sensor).bigint(position);
            values.push_blob(&state);
            let (statement, values) = (statement.clone(), values.bigint(time_of(position, rewrite)));
            async move { session.execute(&statement, &values).await }
        })
        .buffer_unordered(WRITES_AT_ONCE);
    while let Some(written) = writes.next().await {
        written?;
    }
    Ok(())
}

/// The states of the series are complete up to `position`.
pub async fn complete(session: &Session, series: &Series, position: i64, rewrite: i64) -> Result<(), Error> {
    let cql = format!(
        "INSERT INTO {}.{POSITIONS} (consumer_group, topic, kafka_partition, series, position) VALUES (?, ?, ?, ?, ?) \
         USING TIMESTAMP ? AND TTL {TTL}",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let values = series.key().bigint(position).bigint(time_of(position, rewrite));
    session.execute(&statement, &values).await.map(drop)
}

/// The time of a write, which Cassandra compares.
fn time_of(position: i64, rewrite: i64) -> i64 {
    position.saturating_mul(PER_POSITION).saturating_add(rewrite.clamp(0, PER_POSITION - 2) + 1)
}

impl Series {
    fn key(&self) -> Values {
        let values = Values::new().text(&self.consumer_group).text(self.of.topic.as_str());
        values.int(self.of.partition).timestamp(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_position_is_always_the_newer_write() {
        assert!(time_of(0, 0) > 0);
        assert!(time_of(7, 3) > time_of(7, 2));
        assert!(time_of(8, 0) > time_of(7, i64::MAX));
    }
}
