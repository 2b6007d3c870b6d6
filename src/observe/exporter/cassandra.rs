//! Each Cassandra node by its own virtual tables (`system_views`), asked over CQL: no agent, no JMX.
//!
//! Virtual tables tell of the node that is asked and of no other, so every question goes to each node of the local
//! datacenter. A view that a version does not have is left out.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::timeout;
use tracing::debug;

use super::PATIENCE;
use crate::cassandra::{CellError, Error, Row, Rows, Session};
use crate::config::CassandraConfig;
use crate::observe::exporter::snapshot::{Definition, Sheet};

/// Gossip moves a node's heartbeat every second and reaches every node within a few.
const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(15);
const MEBIBYTE: f64 = 1_048_576.0;

const BY_NODE: &[&str] = &["node"];
const BY_TABLE: &[&str] = &["node", "keyspace", "table"];
const BY_OPERATION: &[&str] = &["node", "operation", "keyspace", "table"];
const BY_POOL: &[&str] = &["node", "pool"];
const BY_CACHE: &[&str] = &["node", "cache"];
const BY_PEER: &[&str] = &["node", "peer"];

pub const NODE_UP: Definition = Definition::gauge(
    "iotctl_cassandra_node_up",
    "1 where the node answered over CQL in the last round",
    BY_NODE,
);
pub const NODE_INFO: Definition = Definition::gauge(
    "iotctl_cassandra_node_info",
    "1 for each node of the datacenter, as it tells of itself",
    &["node", "datacenter", "rack", "host_id", "version"],
);
pub const LOAD: Definition = Definition::gauge(
    "iotctl_cassandra_node_load_bytes",
    "Live data on the node's disk, as it tells the others",
    BY_NODE,
);
const PEER_UP: Definition = Definition::gauge(
    "iotctl_cassandra_peer_up",
    "1 where the peer's heartbeat, as the node has it by gossip, moved within 15 s and is no shutdown",
    BY_PEER,
);
const HINTS: Definition = Definition::gauge(
    "iotctl_cassandra_pending_hint_files",
    "Files of hints that the node keeps for a peer that missed writes",
    BY_PEER,
);
pub const REQUESTS: Definition = Definition::counter(
    "iotctl_cassandra_requests_total",
    "Requests: coordinator_read, _write and _scan as the node coordinated them, local_read, _write and _scan as it did \
     them itself",
    BY_OPERATION,
);
pub const LATENCY: Definition = Definition::gauge(
    "iotctl_cassandra_request_latency_seconds",
    "Latency of requests, of about the last five minutes; quantile 1 is the maximum; resolution 1 ms",
    &["node", "operation", "keyspace", "table", "quantile"],
);
const TOMBSTONES: Definition = Definition::gauge(
    "iotctl_cassandra_tombstones_per_read",
    "Tombstones that a read had to pass, of about the last five minutes; quantile 1 is the maximum",
    &["node", "keyspace", "table", "quantile"],
);
const ROWS: Definition = Definition::gauge(
    "iotctl_cassandra_rows_per_read",
    "Rows that a read returned, of about the last five minutes; quantile 1 is the maximum",
    &["node", "keyspace", "table", "quantile"],
);
pub const DISK: Definition = Definition::gauge(
    "iotctl_cassandra_table_disk_bytes",
    "Disk that the table's SSTables take, in steps of 1 MiB",
    BY_TABLE,
);
const PARTITION: Definition = Definition::gauge(
    "iotctl_cassandra_table_max_partition_bytes",
    "The table's largest partition, in steps of 1 MiB",
    BY_TABLE,
);
const POOL_ACTIVE: Definition =
    Definition::gauge("iotctl_cassandra_pool_active_tasks", "Tasks that the thread pool works on", BY_POOL);
pub const POOL_PENDING: Definition =
    Definition::gauge("iotctl_cassandra_pool_pending_tasks", "Tasks that wait for the thread pool", BY_POOL);
const POOL_BLOCKED: Definition = Definition::gauge(
    "iotctl_cassandra_pool_blocked_tasks",
    "Tasks that the thread pool's queue has no room for",
    BY_POOL,
);
const POOL_COMPLETED: Definition = Definition::counter(
    "iotctl_cassandra_pool_completed_tasks_total",
    "Tasks that the thread pool has done",
    BY_POOL,
);
const TASKS: Definition = Definition::gauge(
    "iotctl_cassandra_sstable_tasks",
    "Compactions, cleanups, scrubs and the like that run now",
    &["node", "kind"],
);
const TASK_BYTES: Definition = Definition::gauge(
    "iotctl_cassandra_sstable_tasks_remaining_bytes",
    "What the running compactions and the like have left to read",
    &["node", "kind"],
);
const CLIENTS: Definition = Definition::gauge(
    "iotctl_cassandra_clients",
    "Client connections, by whether they are encrypted",
    &["node", "tls"],
);
const CACHE_BYTES: Definition =
    Definition::gauge("iotctl_cassandra_cache_bytes", "Size of the cache", BY_CACHE);
const CACHE_CAPACITY: Definition =
    Definition::gauge("iotctl_cassandra_cache_capacity_bytes", "What the cache may grow to", BY_CACHE);
const CACHE_HITS: Definition =
    Definition::counter("iotctl_cassandra_cache_hits_total", "Requests that the cache answered", BY_CACHE);
const CACHE_REQUESTS: Definition =
    Definition::counter("iotctl_cassandra_cache_requests_total", "Requests to the cache", BY_CACHE);

pub const DEFINITIONS: [Definition; 22] = [
    NODE_UP,
    NODE_INFO,
    LOAD,
    PEER_UP,
    HINTS,
    REQUESTS,
    LATENCY,
    TOMBSTONES,
    ROWS,
    DISK,
    PARTITION,
    POOL_ACTIVE,
    POOL_PENDING,
    POOL_BLOCKED,
    POOL_COMPLETED,
    TASKS,
    TASK_BYTES,
    CLIENTS,
    CACHE_BYTES,
    CACHE_CAPACITY,
    CACHE_HITS,
    CACHE_REQUESTS,
];

/// The views of latencies; each is an operation.
const OPERATIONS: [&str; 6] =
    ["coordinator_read", "coordinator_write", "coordinator_scan", "local_read", "local_write", "local_scan"];

/// Looks at the nodes, round by round.
pub struct Watch {
    config: CassandraConfig,
    patience: Duration,
    session: Option<Session>,
    heartbeats: Heartbeats,
}

impl Watch {
    pub fn new(config: &CassandraConfig, patience: Duration) -> Self {
        Self { config: config.clone(), patience, session: None, heartbeats: Heartbeats::default() }
    }

    /// Looks through a session that is there already.
    pub fn over(session: Session, config: &CassandraConfig, patience: Duration) -> Self {
        Self { session: Some(session), ..Self::new(config, patience) }
    }

    /// What there is, and why not where no node answered.
    pub async fn look(&mut self) -> (Sheet, Result<(), String>) {
        let session = match self.session().await {
            Ok(session) => session,
            Err(error) => return (self.unreachable(), Err(error)),
        };
        let datacenter = session.local_datacenter();
        let mut nodes = session.nodes();
        nodes.retain(|node| node.datacenter == datacenter);
        let looks = nodes.iter().map(|node| async {
            // A node that the session has no connection to would only cost its deadline.
            match node.is_up {
                true => timeout(self.patience, look_at(&session, node.address, self.patience)).await.ok()?,
                false => None,
            }
        });
        let found = join_all(looks).await;
        let answered = match found.iter().any(Option::is_some) {
            true => Ok(()),
            false => Err(format!("no node of datacenter {datacenter} answers within {:?}", self.patience)),
        };
        let mut sheet = Sheet::default();
        for (node, found) in nodes.iter().zip(found) {
            let name = node.address.to_string();
            sheet.set(&NODE_UP, &[&name], f64::from(u8::from(found.is_some())));
            let Some(Found { sheet: of_node, version, gossip }) = found else { continue };
            sheet.append(of_node);
            let host_id = node.host_id.to_string();
            sheet.set(&NODE_INFO, &[&name, &node.datacenter, &node.rack, &host_id, &version], 1.0);
            for member in gossip {
                if member.address == node.address.ip() {
                    if let Some(load) = member.load {
                        sheet.set(&LOAD, &[&name], load);
                    }
                    continue;
                }
                let is_up = self.heartbeats.note(node.address, &member, Instant::now());
                sheet.set(&PEER_UP, &[&name, &member.address.to_string()], f64::from(u8::from(is_up)));
            }
        }
        self.heartbeats.forget_all_but(&nodes.iter().map(|node| node.address).collect::<Vec<_>>());
        (sheet, answered)
    }

    async fn session(&mut self) -> Result<Session, String> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        // The first connection finds the cluster, and on a busy machine takes longer than any question.
        match timeout(PATIENCE.0, Session::connect(&self.config)).await {
            Ok(Ok(session)) => Ok(self.session.insert(session).clone()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no Cassandra node answers within {:?}", PATIENCE.0)),
        }
    }

    /// Before the first connection, the contact points are all that is known.
    fn unreachable(&self) -> Sheet {
        let mut sheet = Sheet::default();
        for point in &self.config.contact_points {
            let has_port = point.parse::<SocketAddr>().is_ok() || point.contains(':');
            let node = if has_port { point.clone() } else { format!("{point}:9042") };
            sheet.set(&NODE_UP, &[&node], 0.0);
        }
        sheet
    }
}

/// What a node told.
struct Found {
    sheet: Sheet,
    version: String,
    gossip: Vec<Member>,
}

/// A member of the cluster as a node has it by gossip.
#[derive(Debug, Clone, PartialEq)]
struct Member {
    address: IpAddr,
    /// Which start of the member, and how far it has counted since.
    beat: (i32, i32),
    is_shut_down: bool,
    load: Option<f64>,
}

/// `None` where the node did not even tell its version.
async fn look_at(session: &Session, node: SocketAddr, deadline: Duration) -> Option<Found> {
    let ask = async |cql: &str| match session.query_at(node, cql, deadline).await {
        Ok(rows) => Some(rows),
        // A version without that view, or a role that may not read it: the others still count.
        Err(error @ (Error::Invalid { .. } | Error::Unauthorized { .. })) => {
            debug!(%node, %error, "a view is left out");
            Some(Rows::default())
        }
        Err(error) => {
            debug!(%node, %error, "the node does not answer");
            None
        }
    };
    let rows = ask("SELECT release_version FROM system.local WHERE key = 'local'").await?;
    let version = rows.first().and_then(|row| row.get(0).ok()).unwrap_or_default();
    let mut view = View { sheet: Sheet::default(), node: node.to_string() };
    for operation in OPERATIONS {
        let rows = ask(&format!("SELECT * FROM system_views.{operation}_latency")).await?;
        view.read(&rows, |view, row| view.latency(operation, row));
    }
    for (name, definition) in [("tombstones_per_read", &TOMBSTONES), ("rows_per_read", &ROWS)] {
        let rows = ask(&format!("SELECT * FROM system_views.{name}")).await?;
        view.read(&rows, |view, row| view.per_read(definition, row));
    }
    for (name, definition) in [("disk_usage", &DISK), ("max_partition_size", &PARTITION)] {
        let rows = ask(&format!("SELECT * FROM system_views.{name}")).await?;
        view.read(&rows, |view, row| view.size(definition, row));
    }
    let rows = ask("SELECT * FROM system_views.thread_pools").await?;
    view.read(&rows, View::pool);
    let rows = ask("SELECT * FROM system_views.caches").await?;
    view.read(&rows, View::cache);
    view.tasks(&ask("SELECT kind, progress, total, unit FROM system_views.sstable_tasks").await?);
    view.clients(&ask("SELECT ssl_enabled FROM system_views.clients").await?);
    let rows = ask("SELECT address, files FROM system_views.pending_hints").await?;
    view.read(&rows, View::hints);
    let rows = ask(
        "SELECT address, generation, heartbeat, status, status_with_port, load FROM system_views.gossip_info",
    )
    .await?;
    let gossip = rows.iter().filter_map(|row| member(row).ok()).collect();
    Some(Found { sheet: view.sheet, version, gossip })
}

fn member(row: Row<'_>) -> Result<Member, CellError> {
    let status: Option<&str> = row.named("status")?;
    let status = row.named::<Option<&str>>("status_with_port")?.or(status).unwrap_or_default();
    let load: Option<&str> = row.named("load")?;
    Ok(Member {
        address: row.named("address")?,
        beat: (row.named("generation")?, row.named("heartbeat")?),
        is_shut_down: status.starts_with("shutdown"),
        load: load.and_then(|load| load.parse().ok()),
    })
}

/// One node's part of a sheet.
struct View {
    sheet: Sheet,
    node: String,
}

impl View {
    /// Reads each row; one of another shape, as another version has it, is left out.
    fn read(&mut self, rows: &Rows, each: impl Fn(&mut Self, Row<'_>) -> Result<(), CellError>) {
        for row in rows.iter() {
            if let Err(error) = each(self, row) {
                debug!(node = self.node, %error, "a row of a view is left out");
            }
        }
    }

    fn latency(&mut self, operation: &str, row: Row<'_>) -> Result<(), CellError> {
        let Some((keyspace, table)) = table(row)? else { return Ok(()) };
        let labels = [self.node.as_str(), operation, keyspace, table];
        self.sheet.set(&REQUESTS, &labels, row.named::<i64>("count")? as f64);
        // The columns are named milliseconds and hold seconds: on 5.0.6, where JMX tells 51,012 µs, `max_ms` is 0.051.
        for (quantile, column) in [("0.5", "p50th_ms"), ("0.99", "p99th_ms"), ("1", "max_ms")] {
            let labels = [self.node.as_str(), operation, keyspace, table, quantile];
            self.sheet.set(&LATENCY, &labels, row.named::<f64>(column)?);
        }
        Ok(())
    }

    fn per_read(&mut self, definition: &Definition, row: Row<'_>) -> Result<(), CellError> {
        let Some((keyspace, table)) = table(row)? else { return Ok(()) };
        for (quantile, column) in [("0.5", "p50th"), ("0.99", "p99th"), ("1", "max")] {
            let labels = [self.node.as_str(), keyspace, table, quantile];
            self.sheet.set(definition, &labels, row.named::<f64>(column)?);
        }
        Ok(())
    }

    fn size(&mut self, definition: &Definition, row: Row<'_>) -> Result<(), CellError> {
        let Some((keyspace, table)) = table(row)? else { return Ok(()) };
        let bytes = row.named::<i64>("mebibytes")? as f64 * MEBIBYTE;
        self.sheet.set(definition, &[&self.node, keyspace, table], bytes);
        Ok(())
    }

    fn pool(&mut self, row: Row<'_>) -> Result<(), CellError> {
        let labels = [self.node.as_str(), row.named("name")?];
        self.sheet.set(&POOL_ACTIVE, &labels, row.named::<i32>("active_tasks")?.into());
        self.sheet.set(&POOL_PENDING, &labels, row.named::<i32>("pending_tasks")?.into());
        self.sheet.set(&POOL_BLOCKED, &labels, row.named::<i64>("blocked_tasks")? as f64);
        self.sheet.set(&POOL_COMPLETED, &labels, row.named::<i64>("completed_tasks")? as f64);
        Ok(())
    }

    fn cache(&mut self, row: Row<'_>) -> Result<(), CellError> {
        let labels = [self.node.as_str(), row.named("name")?];
        self.sheet.set(&CACHE_BYTES, &labels, row.named::<i64>("size_bytes")? as f64);
        self.sheet.set(&CACHE_CAPACITY, &labels, row.named::<i64>("capacity_bytes")? as f64);
        self.sheet.set(&CACHE_HITS, &labels, row.named::<i64>("hit_count")? as f64);
        self.sheet.set(&CACHE_REQUESTS, &labels, row.named::<i64>("request_count")? as f64);
        Ok(())
    }

    /// Compaction is always there, so that its graph falls to zero and does not end.
    fn tasks(&mut self, rows: &Rows) {
        let mut kinds = BTreeMap::from([("compaction".to_owned(), (0_u32, 0.0))]);
        for row in rows.iter() {
            let (Ok(kind), Ok(progress), Ok(total), Ok(unit)) = (
                row.named::<&str>("kind"),
                row.named::<i64>("progress"),
                row.named::<i64>("total"),
                row.named::<&str>("unit"),
            ) else {
                continue;
            };
            let (count, left) = kinds.entry(kind.to_lowercase()).or_default();
            *count += 1;
            if unit == "bytes" {
                *left += (total - progress).max(0) as f64;
            }
        }
        for (kind, (count, left)) in kinds {
            self.sheet.set(&TASKS, &[&self.node, &kind], count.into());
            self.sheet.set(&TASK_BYTES, &[&self.node, &kind], left);
        }
    }

    fn clients(&mut self, rows: &Rows) {
        let encrypted = rows.iter().filter(|row| row.named("ssl_enabled") == Ok(true)).count();
        self.sheet.set(&CLIENTS, &[&self.node, "true"], encrypted as f64);
        self.sheet.set(&CLIENTS, &[&self.node, "false"], (rows.len() - encrypted) as f64);
    }

    fn hints(&mut self, row: Row<'_>) -> Result<(), CellError> {
        let peer = row.named::<IpAddr>("address")?.to_string();
        self.sheet.set(&HINTS, &[&self.node, &peer], row.named::<i32>("files")?.into());
        Ok(())
    }
}

/// Keyspace and table of a row; `None` for Cassandra's own, which are many and nobody's readings.
fn table(row: Row<'_>) -> Result<Option<(&str, &str)>, CellError> {
    let (keyspace, table): (&str, &str) = (row.named("keyspace_name")?, row.named("table_name")?);
    Ok((!keyspace.starts_with("system")).then_some((keyspace, table)))
}

/// When each node last saw each peer's heartbeat move. Gossip keeps the last one of a peer that is gone, so that it
/// stands still is the only sign there is over CQL.
#[derive(Debug, Default)]
struct Heartbeats {
    seen: HashMap<(SocketAddr, IpAddr), ((i32, i32), Instant)>,
}

impl Heartbeats {
    /// Whether the node sees the peer alive. A peer that was never seen before is given its deadline to move.
    fn note(&mut self, node: SocketAddr, peer: &Member, now: Instant) -> bool {
        let (beat, moved) = self.seen.entry((node, peer.address)).or_insert((peer.beat, now));
        if *beat != peer.beat {
            (*beat, *moved) = (peer.beat, now);
        }
        !peer.is_shut_down && now.duration_since(*moved) < HEARTBEAT_DEADLINE
    }

    fn forget_all_but(&mut self, nodes: &[SocketAddr]) {
        self.seen.retain(|(node, _), _| nodes.contains(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(heartbeat: i32, is_shut_down: bool) -> Member {
        let address = "127.0.0.2".parse().unwrap();
        Member { address, beat: (1, heartbeat), is_shut_down, load: None }
    }

    #[test]
    fn a_peer_whose_heartbeat_stands_still_is_down_and_up_again_once_it_moves() {
        let node = "127.0.0.1:9042".parse().unwrap();
        let (mut heartbeats, start) = (Heartbeats::default(), Instant::now());
        let mut note = |seconds, heartbeat, is_shut_down| {
            let now = start + Duration::from_secs(seconds);
            heartbeats.note(node, &member(heartbeat, is_shut_down), now)
        };
        assert!(note(0, 5, false));
        assert!(note(14, 5, false));
        assert!(!note(15, 5, false));
        assert!(note(16, 6, false));
        assert!(!note(17, 7, true), "a node that says good-bye is down at once");
    }

    #[test]
    fn a_peer_of_a_node_that_does_not_answer_is_not_remembered() {
        let (one, two) = ("127.0.0.1:9042".parse().unwrap(), "127.0.0.3:9042".parse().unwrap());
        let mut heartbeats = Heartbeats::default();
        heartbeats.note(one, &member(1, false), Instant::now());
        heartbeats.note(two, &member(1, false), Instant::now());
        heartbeats.forget_all_but(&[two]);
        assert_eq!(heartbeats.seen.len(), 1);
    }
}
