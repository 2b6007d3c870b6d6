//! Who computes the rollups of a group: one process at a time, by lightweight transactions with a time to live.

use std::time::Duration;

use uuid::Uuid;

use crate::cassandra::{Error, Session, Values};
use crate::reading::Group;
use crate::store::groups;

/// Takes or renews the lease of a group; `false` where another owner holds it.
pub async fn acquire(session: &Session, group: &Group, owner: Uuid, length: Duration) -> Result<bool, Error> {
    let keyspace = session.keyspace();
    let ttl = i32::try_from(length.as_secs()).unwrap_or(i32::MAX);
    let renew = format!(
        "UPDATE {keyspace}.rollup_leases USING TTL ? SET owner = ? WHERE location = ? AND device_type = ? IF owner = ?"
    );
    let take = format!(
        "INSERT INTO {keyspace}.rollup_leases (location, device_type, owner) VALUES (?, ?, ?) \
         IF NOT EXISTS USING TTL ?"
    );
    let Group { location, device_type } = group;
    // A lease whose answer was lost, so that the request was sent again, is renewed here.
    let values = Values::new().int(ttl).uuid(owner).text(location).text(device_type).uuid(owner);
    if applied(session, &renew, &values).await? {
        return Ok(true);
    }
    if applied(session, &take, &groups::key(group).uuid(owner).int(ttl)).await? {
        return Ok(true);
    }
    applied(session, &renew, &values).await
}

/// Releases the lease of a group.
pub async fn release(session: &Session, group: &Group, owner: Uuid) -> Result<(), Error> {
    let cql = format!(
        "DELETE FROM {}.rollup_leases WHERE location = ? AND device_type = ? IF owner = ?",
        session.keyspace()
    );
    applied(session, &cql, &groups::key(group).uuid(owner)).await.map(|_| ())
}

async fn applied(session: &Session, cql: &str, values: &Values) -> Result<bool, Error> {
    let statement = session.prepare(cql).await?;
    let rows = session.execute(&statement, values).await?;
    Ok(rows.first().map(|row| row.get::<bool>(0)).transpose()?.unwrap_or(false))
}
