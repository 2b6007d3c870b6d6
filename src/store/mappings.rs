//! By which mapping a consumer group was last ingested, so that a changed one is noticed.

use crate::cassandra::{Error, Session, Values};

const TABLE: &str = "iot_mappings";

/// A mapping as it was when it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The path, or the preset's name.
    pub place: String,
    pub fingerprint: String,
    /// Of the file.
    pub content: String,
}

/// The mapping that a group was last ingested by. `None` if it had none, or the table is not there yet.
pub async fn last(session: &Session, consumer_group: &str) -> Result<Option<Used>, Error> {
    if session.columns(TABLE).await?.is_empty() {
        return Ok(None);
    }
    let cql = format!(
        "SELECT place, fingerprint, content FROM {}.{TABLE} WHERE consumer_group = ?",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let rows = session.execute(&statement, &Values::new().text(consumer_group)).await?;
    let used = rows.first().map(|row| {
        Ok::<_, Error>(Used { place: row.get(0)?, fingerprint: row.get(1)?, content: row.get(2)? })
    });
    used.transpose()
}

/// Keeps it. Does nothing where the table is not there yet. `at` is in milliseconds since the epoch.
pub async fn keep(session: &Session, consumer_group: &str, used: &Used, at: i64) -> Result<(), Error> {
    if session.columns(TABLE).await?.is_empty() {
        return Ok(());
    }
    let cql = format!(
        "INSERT INTO {}.{TABLE} (consumer_group, place, fingerprint, content, used_since) VALUES (?, ?, ?, ?, ?)",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    let values = Values::new()
        .text(consumer_group)
        .text(&used.place)
        .text(&used.fingerprint)
        .text(&used.content)
        .timestamp(at);
    session.execute(&statement, &values).await.map(drop)
}
