//! One node's answers to all questions, as metrics.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracing::debug;

use super::metrics::{
    CACHE_BYTES, CACHE_CAPACITY, CACHE_HITS, CACHE_REQUESTS, CLIENTS, DISK, HINTS, LATENCY, PARTITION,
    POOL_ACTIVE, POOL_BLOCKED, POOL_COMPLETED, POOL_PENDING, REQUESTS, ROWS, TASK_BYTES, TASKS, TOMBSTONES,
};
use crate::cassandra::system::{self, GossipState};
use crate::cassandra::{CellError, Error, Row, Rows, Session};
use crate::observe::exporter::snapshot::{Definition, Snapshot};

const MEBIBYTE: f64 = 1_048_576.0;

/// The views of latencies; each is an operation.
const OPERATIONS: [&str; 6] =
    ["coordinator_read", "coordinator_write", "coordinator_scan", "local_read", "local_write", "local_scan"];

/// What a node answered.
pub(super) struct NodeAnswers {
    pub snapshot: Snapshot,
    pub version: String,
    pub gossip: Vec<Member>,
}

/// A member of the cluster as a node knows it by gossip.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub address: IpAddr,
    /// Generation (which start of the member) and version (how far it has counted since).
    pub heartbeat: (i32, i32),
    pub is_shut_down: bool,
    /// Bytes of live data.
    pub load: Option<f64>,
}

/// Asks a node everything; `None` where it did not even answer with its version.
pub(super) async fn ask(session: &Session, node: SocketAddr, deadline: Duration) -> Option<NodeAnswers> {
    let ask = async |name: &str| answered(node, system::virtual_table(session, node, name, deadline).await);
    let version = answered(node, system::release_version(session, node, deadline).await)?.unwrap_or_default();
    let mut view = View { snapshot: Snapshot::default(), node: node.to_string() };
    for operation in OPERATIONS {
        let rows = ask(&format!("{operation}_latency")).await?;
        view.read(&rows, |view, row| view.latency(operation, row));
    }
    for (name, definition) in [("tombstones_per_read", &TOMBSTONES), ("rows_per_read", &ROWS)] {
        let rows = ask(name).await?;
        view.read(&rows, |view, row| view.per_read(definition, row));
    }
    for (name, definition) in [("disk_usage", &DISK), ("max_partition_size", &PARTITION)] {
        let rows = ask(name).await?;
        view.read(&rows, |view, row| view.size(definition, row));
    }
    let rows = ask("thread_pools").await?;
    view.read(&rows, View::pool);
    let rows = ask("caches").await?;
    view.read(&rows, View::cache);
    view.tasks(&ask("sstable_tasks").await?);
    view.clients(&ask("clients").await?);
    let rows = ask("pending_hints").await?;
    view.read(&rows, View::hints);
    let members = answered(node, system::gossip(session, node, deadline).await)?;
    let gossip = members.iter().filter_map(member).collect();
    Some(NodeAnswers { snapshot: view.snapshot, version, gossip })
}

/// What a node answered: nothing where its version has no such table or the role may not read it, because the other
/// tables still count; `None` where the node does not answer.
fn answered<T: Default>(node: SocketAddr, answer: Result<T, Error>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error @ (Error::Invalid { .. } | Error::Unauthorized { .. })) => {
            debug!(%node, %error, "a virtual table is left out");
            Some(T::default())
        }
        Err(error) => {
            debug!(%node, %error, "the node does not answer");
            None
        }
    }
}

fn member(state: &GossipState) -> Option<Member> {
    Some(Member {
        address: state.address,
        heartbeat: (state.generation?, state.heartbeat?),
        is_shut_down: state.status.as_deref().is_some_and(|status| status.starts_with("shutdown")),
        load: state.load_bytes,
    })
}

/// One node's part of a snapshot.
struct View {
    snapshot: Snapshot,
    node: String,
}

impl View {
    /// Reads each row; a row of another shape, from another version, is left out.
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
        self.snapshot.set(&REQUESTS, &labels, row.named::<i64>("count")? as f64);
        // The columns are named milliseconds and hold seconds: on 5.0.6, where JMX reports 51,012 µs, `max_ms` is 0.051.
        for (quantile, column) in [("0.5", "p50th_ms"), ("0.99", "p99th_ms"), ("1", "max_ms")] {
            let labels = [self.node.as_str(), operation, keyspace, table, quantile];
            self.snapshot.set(&LATENCY, &labels, row.named::<f64>(column)?);
        }
        Ok(())
    }

    fn per_read(&mut self, definition: &Definition, row: Row<'_>) -> Result<(), CellError> {
        let Some((keyspace, table)) = table(row)? else { return Ok(()) };
        for (quantile, column) in [("0.5", "p50th"), ("0.99", "p99th"), ("1", "max")] {
            let labels = [self.node.as_str(), keyspace, table, quantile];
            self.snapshot.set(definition, &labels, row.named::<f64>(column)?);
        }
        Ok(())
    }

    fn size(&mut self, definition: &Definition, row: Row<'_>) -> Result<(), CellError> {
        let Some((keyspace, table)) = table(row)? else { return Ok(()) };
        let bytes = row.named::<i64>("mebibytes")? as f64 * MEBIBYTE;
        self.snapshot.set(definition, &[&self.node, keyspace, table], bytes);
        Ok(())
    }

    fn pool(&mut self, row: Row<'_>) -> Result<(), CellError> {
        let labels = [self.node.as_str(), row.named("name")?];
        self.snapshot.set(&POOL_ACTIVE, &labels, row.named::<i32>("active_tasks")?.into());
        self.snapshot.set(&POOL_PENDING, &labels, row.named::<i32>("pending_tasks")?.into());
        self.snapshot.set(&POOL_BLOCKED, &labels, row.named::<i64>("blocked_tasks")? as f64);
        self.snapshot.set(&POOL_COMPLETED, &labels, row.named::<i64>("completed_tasks")? as f64);
        Ok(())
    }

    fn cache(&mut self, row: Row<'_>) -> Result<(), CellError> {
        let labels = [self.node.as_str(), row.named("name")?];
        self.snapshot.set(&CACHE_BYTES, &labels, row.named::<i64>("size_bytes")? as f64);
        self.snapshot.set(&CACHE_CAPACITY, &labels, row.named::<i64>("capacity_bytes")? as f64);
        self.snapshot.set(&CACHE_HITS, &labels, row.named::<i64>("hit_count")? as f64);
        self.snapshot.set(&CACHE_REQUESTS, &labels, row.named::<i64>("request_count")? as f64);
        Ok(())
    }

    /// Compaction is always set, so that its graph falls to zero instead of ending.
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
            self.snapshot.set(&TASKS, &[&self.node, &kind], count.into());
            self.snapshot.set(&TASK_BYTES, &[&self.node, &kind], left);
        }
    }

    fn clients(&mut self, rows: &Rows) {
        let encrypted = rows.iter().filter(|row| row.named("ssl_enabled") == Ok(true)).count();
        self.snapshot.set(&CLIENTS, &[&self.node, "true"], encrypted as f64);
        self.snapshot.set(&CLIENTS, &[&self.node, "false"], (rows.len() - encrypted) as f64);
    }

    fn hints(&mut self, row: Row<'_>) -> Result<(), CellError> {
        let peer = row.named::<IpAddr>("address")?.to_string();
        self.snapshot.set(&HINTS, &[&self.node, &peer], row.named::<i32>("files")?.into());
        Ok(())
    }
}

/// Keyspace and table of a row; `None` for Cassandra's own tables, which are many and hold no readings.
fn table(row: Row<'_>) -> Result<Option<(&str, &str)>, CellError> {
    let (keyspace, table): (&str, &str) = (row.named("keyspace_name")?, row.named("table_name")?);
    Ok((!keyspace.starts_with("system")).then_some((keyspace, table)))
}
