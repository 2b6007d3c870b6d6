//! The one pooled session that every command shares.
//!
//! A request goes to the healthiest replica with the fewest requests waiting. It moves on to another node when that
//! one refuses it for reasons of its own, loses the connection, or falls silent while another is healthy; all that
//! within the request's deadline. Every request here is idempotent but those of [`Session::query`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::connection::Connector;
use super::discovery::{self, View};
use super::node::{Health, Node};
use super::pool::{Pool, Repeat, parse};
use super::statement::{self, SealedBatch, Statement};
use super::topology::Topology;
use super::{Error, Rows, Values, system};
use crate::config::{CassandraConfig, Consistency};

/// Rows in a page where the caller does not say.
const PAGE_SIZE: i32 = 5_000;
/// Schema changes may take longer than requests for rows.
const SCHEMA_DEADLINE: Duration = Duration::from_secs(60);

/// A pooled session. Cheap to clone; the connections close when the last clone is dropped.
#[derive(Clone)]
pub struct Session {
    pool: Arc<Pool>,
}

/// A node as the session sees it.
#[derive(Debug, Clone)]
pub struct NodeView {
    pub address: SocketAddr,
    pub host_id: uuid::Uuid,
    pub datacenter: String,
    pub rack: String,
    /// Whether requests are sent there now.
    pub is_up: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("nodes", &self.nodes()).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects to the first contact point that answers and discovers the others.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with each contact point's reason; login and TLS failures as themselves.
    pub async fn connect(config: &CassandraConfig) -> Result<Self, Error> {
        // The name goes into statements as it stands. The config has checked it; other callers may not have.
        crate::config::check_keyspace(&config.keyspace).map_err(|error| Error::Setting(error.to_string()))?;
        let connector = Arc::new(Connector::new(config)?);
        let (address, connection) = discovery::first_contact(config, &connector).await?;
        let View { cluster_name, members, replication, schema_version } =
            discovery::read_view(&connection, address, &config.keyspace).await?;
        let datacenter = match &config.local_datacenter {
            Some(datacenter) => datacenter.clone(),
            None => members.first().map(|member| member.info.datacenter.clone()).unwrap_or_default(),
        };
        let nodes: Vec<_> = members
            .into_iter()
            .map(|member| (Node::new(member.info, config.connections_per_node), member.tokens))
            .collect();
        if let Some((node, _)) = nodes.iter().find(|(node, _)| node.info.address == address) {
            node.adopt(connection);
        }
        let topology = Topology::new(nodes, replication, datacenter);
        for node in topology.nodes.iter().filter(|node| topology.is_local(node)) {
            node.start_keeper(connector.clone());
        }
        let pool = Arc::new(Pool::new(config.clone(), connector, topology, cluster_name));
        pool.note_schema_version(schema_version);
        tokio::spawn(discovery::refresh(Arc::downgrade(&pool)));
        Ok(Self { pool })
    }

    /// The configured keyspace. Statements name tables as `{keyspace}.table`.
    pub fn keyspace(&self) -> &str {
        &self.pool.config.keyspace
    }

    /// The consistency that writes are acknowledged at.
    pub fn write_consistency(&self) -> Consistency {
        self.pool.config.write_consistency
    }

    /// The nodes of the cluster that are known now, by address.
    pub fn nodes(&self) -> Vec<NodeView> {
        let topology = self.pool.topology.load();
        let mut nodes: Vec<_> = topology
            .nodes
            .iter()
            .map(|node| NodeView {
                address: node.info.address,
                host_id: node.info.host_id,
                datacenter: node.info.datacenter.clone(),
                rack: node.info.rack.clone(),
                is_up: node.health() == Health::Up,
            })
            .collect();
        nodes.sort_by_key(|node| node.address);
        nodes
    }

    /// Runs an unprepared statement without values: DDL and small reads of system tables. All its rows, at
    /// LOCAL_ONE. It is tried on one node only, because it may not be idempotent.
    pub async fn query(&self, cql: &str) -> Result<Rows, Error> {
        let envelope = statement::query(cql, Consistency::LocalOne, i32::MAX, None);
        let (node, answer) = self.pool.within(SCHEMA_DEADLINE, None, &envelope, Repeat::Never).await?;
        let rows = parse(node, answer)?;
        // It may have been a change of the schema.
        if rows.columns().is_empty() {
            self.pool.note_schema_version(None);
        }
        Ok(rows)
    }

    /// Runs a read on this very node, with no other to fall back to: each node's virtual tables (`system_views`) tell
    /// of that node alone. All its rows, at LOCAL_ONE.
    pub async fn query_at(&self, node: SocketAddr, cql: &str, deadline: Duration) -> Result<Rows, Error> {
        let topology = self.pool.topology.load_full();
        let Some(found) = topology.nodes.iter().find(|found| found.info.address == node) else {
            return Err(Error::Connection { node, message: "it is not a cluster member".into() });
        };
        let envelope = statement::query(cql, Consistency::LocalOne, i32::MAX, None);
        match timeout(deadline, found.request(&envelope)).await {
            Ok(answer) => parse(node, answer?),
            Err(_) => Err(Error::Deadline { waited: deadline, last: "no answer yet".into() }),
        }
    }

    /// The columns of a table in the session's keyspace, with their CQL types; empty where there is no such table. Read
    /// once per version of the schema.
    pub async fn columns(&self, table: &str) -> Result<Arc<BTreeMap<String, String>>, Error> {
        if let Some(columns) = self.pool.columns(table) {
            return Ok(columns);
        }
        let version = self.pool.schema_version();
        let columns = Arc::new(system::columns(self, self.keyspace(), table).await?);
        self.pool.keep_columns(table, columns.clone(), version);
        Ok(columns)
    }

    /// The datacenter whose nodes are asked.
    pub fn local_datacenter(&self) -> String {
        self.pool.topology.load().local_datacenter.clone()
    }

    /// Prepares a statement once per session; the same text comes from memory afterwards.
    pub async fn prepare(&self, cql: &str) -> Result<Arc<Statement>, Error> {
        if let Some(statement) = self.pool.prepared(cql) {
            return Ok(statement);
        }
        let (node, answer) = self.pool.run(None, &statement::prepare(cql)).await?;
        let Some((id, partition_key)) = statement::prepared(&answer.body) else {
            return Err(Error::Protocol {
                node,
                message: "PREPARE was not answered with a statement".into(),
            });
        };
        let statement = Arc::new(Statement { cql: cql.to_owned(), id, partition_key });
        self.pool.keep_prepared(statement.clone());
        Ok(statement)
    }

    /// Runs an idempotent statement on a replica of its partition: reads at the read consistency, returning one
    /// page of up to 5,000 rows; writes at the write consistency.
    pub async fn execute(&self, statement: &Statement, values: &Values) -> Result<Rows, Error> {
        self.page(statement, values, PAGE_SIZE, None).await.map(|(_, rows)| rows)
    }

    /// The rows of an idempotent read, page by page.
    pub fn pages(&self, statement: Arc<Statement>, values: Values, page_size: i32) -> Pages {
        Pages { session: self.clone(), statement, values, page_size, next: Some(None) }
    }

    /// Writes a batch on a replica of its partition. Writing it again changes nothing.
    pub async fn write(&self, batch: &SealedBatch) -> Result<(), Error> {
        self.pool.run(Some(batch.token), &batch.envelope).await.map(|_| ())
    }

    /// Waits until every node that is up has the same schema version.
    pub async fn await_schema_agreement(&self) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            let versions = self.schema_versions().await;
            if versions.len() == 1 {
                return Ok(());
            }
            if started.elapsed() > SCHEMA_DEADLINE {
                let versions: Vec<_> = versions
                    .iter()
                    .map(|(version, nodes)| format!("{version} on {}", nodes.join(", ")))
                    .collect();
                return Err(Error::SchemaDisagreement {
                    waited: started.elapsed(),
                    versions: versions.join("; "),
                });
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Schema version -> the nodes that have it, of the nodes that are up.
    pub async fn schema_versions(&self) -> BTreeMap<String, Vec<String>> {
        let envelope = statement::query(
            "SELECT schema_version FROM system.local WHERE key = 'local'",
            Consistency::LocalOne,
            1,
            None,
        );
        let topology = self.pool.topology.load_full();
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in topology.nodes.iter().filter(|node| node.health() == Health::Up) {
            let version = match timeout(self.pool.config.request_timeout, node.request(&envelope)).await {
                Ok(Ok(answer)) => Rows::parse(answer.body)
                    .and_then(|rows| rows.first().and_then(|row| row.get::<uuid::Uuid>(0).ok()))
                    .map_or_else(|| "unknown".to_owned(), |version| version.to_string()),
                _ => "no answer".to_owned(),
            };
            versions.entry(version).or_default().push(node.info.address.to_string());
        }
        versions
    }

    async fn page(
        &self,
        statement: &Statement,
        values: &Values,
        page_size: i32,
        paging_state: Option<&[u8]>,
    ) -> Result<(SocketAddr, Rows), Error> {
        let consistency = match statement.is_read() {
            true => self.pool.config.read_consistency,
            false => self.pool.config.write_consistency,
        };
        let envelope = statement::execute(statement, values, consistency, page_size, paging_state);
        let (node, answer) = self.pool.run(statement.token(values), &envelope).await?;
        Ok((node, parse(node, answer)?))
    }
}

/// Pages of a read; the next one is fetched when it is asked for.
#[derive(Debug)]
pub struct Pages {
    session: Session,
    statement: Arc<Statement>,
    values: Values,
    page_size: i32,
    /// The state to go on from; `None` after the last page.
    next: Option<Option<Vec<u8>>>,
}

impl Pages {
    /// The next page, or `None` after the last. A page may be empty.
    pub async fn next(&mut self) -> Result<Option<Rows>, Error> {
        let Some(state) = &self.next else { return Ok(None) };
        let (node, mut rows) =
            self.session.page(&self.statement, &self.values, self.page_size, state.as_deref()).await?;
        let next = rows.paging_state.take();
        // The same request again would have the same answer, for ever.
        if next.is_some() && next == *state {
            return Err(Error::Protocol { node, message: "a page that leads to itself".into() });
        }
        self.next = next.map(Some);
        Ok(Some(rows))
    }

    /// As [`Pages::next`], asking for less where a page takes the servers longer than they allow: for reads that
    /// look at many rows for each that they return (aggregates, filters).
    pub async fn next_or_smaller(&mut self) -> Result<Option<Rows>, Error> {
        const SMALLER: i32 = 8;
        loop {
            match self.next().await {
                Err(error @ (Error::ReplicaTimeout { .. } | Error::Deadline { .. }))
                    if self.page_size > SMALLER =>
                {
                    self.page_size /= SMALLER;
                    debug!(%error, page_size = self.page_size, "asking for smaller pages");
                }
                result => return result,
            }
        }
    }
}
