//! Cassandra's own tables: what a node reports about itself, its peers, its tables and its streams. Virtual tables
//! (`system_views`) describe only the node that is asked, so those functions take the node's address.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use uuid::Uuid;

use super::values::quoted;
use super::{CellError, Error, Row, Rows, Session};

/// The version that a node runs, such as "5.0.6"; `None` where its row is not there.
pub async fn release_version(
    session: &Session,
    node: SocketAddr,
    deadline: Duration,
) -> Result<Option<String>, Error> {
    const CQL: &str = "SELECT release_version FROM system.local WHERE key = 'local'";
    let rows = session.query_at(node, CQL, deadline).await?;
    Ok(rows.first().map(|row| row.get(0)).transpose()?)
}

/// A node's clock, in whole milliseconds since the epoch.
pub async fn clock(session: &Session, node: SocketAddr, deadline: Duration) -> Result<Option<i64>, Error> {
    const CQL: &str = "SELECT toTimestamp(now()) FROM system.local WHERE key = 'local'";
    let rows = session.query_at(node, CQL, deadline).await?;
    Ok(rows.first().map(|row| row.get(0)).transpose()?)
}

/// All rows and columns of a virtual table, by its name in `system_views`.
pub async fn virtual_table(
    session: &Session,
    node: SocketAddr,
    name: &str,
    deadline: Duration,
) -> Result<Rows, Error> {
    session.query_at(node, &format!("SELECT * FROM system_views.{name}"), deadline).await
}

/// A cluster member as one node knows it through gossip.
#[derive(Debug, Clone, PartialEq)]
pub struct GossipState {
    pub address: IpAddr,
    pub host_id: Option<Uuid>,
    /// Such as "NORMAL,-9223372036854775808".
    pub status: Option<String>,
    /// Which start of the member; a restart raises it.
    pub generation: Option<i32>,
    /// Raised by the member each second.
    pub heartbeat: Option<i32>,
    pub schema: Option<String>,
    pub load_bytes: Option<f64>,
    pub datacenter: Option<String>,
    pub rack: Option<String>,
    pub version: Option<String>,
    /// Where clients connect.
    pub native: Option<SocketAddr>,
}

/// The members that a node has heard of through gossip, members that left within the last three days included.
///
/// # Errors
/// [`Error::Invalid`] where the version has no such table (before 4.1), [`Error::Unauthorized`] where the role may not
/// read it.
pub async fn gossip(
    session: &Session,
    node: SocketAddr,
    deadline: Duration,
) -> Result<Vec<GossipState>, Error> {
    const CQL: &str = "SELECT address, host_id, status, status_with_port, generation, heartbeat, \"schema\", load, dc, \
                       rack, release_version, native_address_and_port FROM system_views.gossip_info";
    let rows = session.query_at(node, CQL, deadline).await?;
    Ok(rows.iter().map(gossip_state).collect::<Result<_, _>>()?)
}

fn gossip_state(row: Row<'_>) -> Result<GossipState, CellError> {
    let text = |index| row.get::<Option<String>>(index);
    Ok(GossipState {
        address: row.get(0)?,
        host_id: text(1)?.and_then(|id| id.parse().ok()),
        status: text(3)?.or(text(2)?),
        generation: row.get(4)?,
        heartbeat: row.get(5)?,
        schema: text(6)?,
        load_bytes: text(7)?.and_then(|load| load.parse().ok()),
        datacenter: text(8)?,
        rack: text(9)?,
        version: text(10)?,
        native: text(11)?.and_then(|address| address.parse().ok()),
    })
}

/// The tokens of each member, as `node` knows them.
pub async fn tokens(
    session: &Session,
    node: SocketAddr,
    deadline: Duration,
) -> Result<BTreeMap<IpAddr, Vec<i64>>, Error> {
    let mut tokens = BTreeMap::new();
    for cql in [
        "SELECT broadcast_address, tokens FROM system.local WHERE key = 'local'",
        "SELECT peer, tokens FROM system.peers_v2",
    ] {
        let rows = session.query_at(node, cql, deadline).await?;
        for row in rows.iter() {
            let Some(held) = row.get::<Option<Vec<&str>>>(1)? else { continue };
            tokens.insert(row.get(0)?, held.iter().filter_map(|token| token.parse().ok()).collect());
        }
    }
    Ok(tokens)
}

/// One stream of data as its sender or receiver accounts for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The other ends, such as "/127.0.0.4:7000".
    pub peers: Vec<String>,
    /// Milliseconds since the epoch.
    pub updated_at: Option<i64>,
    pub bytes_sent: u64,
    pub bytes_to_send: u64,
    pub files_sent: u64,
    pub files_to_send: u64,
}

/// The streams that a node takes part in, those that ended included.
pub async fn streams(session: &Session, node: SocketAddr, deadline: Duration) -> Result<Vec<Stream>, Error> {
    const CQL: &str = "SELECT peers, last_updated_at, bytes_sent, bytes_to_send, files_sent, files_to_send \
                       FROM system_views.streaming";
    let rows = session.query_at(node, CQL, deadline).await?;
    let stream = |row: Row<'_>| {
        let number =
            |index| row.get::<Option<i64>>(index).map(|number| number.unwrap_or(0).max(0).cast_unsigned());
        Ok::<_, CellError>(Stream {
            peers: row.get::<Option<_>>(0)?.unwrap_or_default(),
            updated_at: row.get(1)?,
            bytes_sent: number(2)?,
            bytes_to_send: number(3)?,
            files_sent: number(4)?,
            files_to_send: number(5)?,
        })
    };
    Ok(rows.iter().map(stream).collect::<Result<_, _>>()?)
}

/// Each keyspace with its `replication` options, such as `class` and `replication_factor`.
pub async fn keyspaces(session: &Session) -> Result<Vec<(String, BTreeMap<String, String>)>, Error> {
    let rows = session.query("SELECT keyspace_name, replication FROM system_schema.keyspaces").await?;
    Ok(rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<Result<_, CellError>>()?)
}

/// Gives a keyspace SimpleStrategy with this replication factor. The rows that a replica then lacks are not streamed:
/// a raised factor needs a repair.
pub async fn set_simple_replication(session: &Session, keyspace: &str, factor: usize) -> Result<(), Error> {
    let cql = format!(
        "ALTER KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
    );
    session.query(&cql).await.map(|_| ())
}

/// The columns of a table with their CQL types; empty where there is no such table.
pub async fn columns(
    session: &Session,
    keyspace: &str,
    table: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let cql = format!(
        "SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = {} AND table_name = {}",
        quoted(keyspace),
        quoted(table)
    );
    let rows = session.query(&cql).await?;
    Ok(rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<Result<_, CellError>>()?)
}

/// A table's `default_time_to_live` in seconds, 0 where its rows do not expire; `None` where there is no such table.
pub async fn default_ttl(session: &Session, keyspace: &str, table: &str) -> Result<Option<i32>, Error> {
    let cql = format!(
        "SELECT default_time_to_live FROM system_schema.tables WHERE keyspace_name = {} AND table_name = {}",
        quoted(keyspace),
        quoted(table)
    );
    Ok(session.query(&cql).await?.first().map(|row| row.get(0)).transpose()?)
}
